"""What decides about payments by x402 without asking anybody: prices, times, headers, what is to be done next."""

from base64 import b64encode
from json import dumps
from types import SimpleNamespace

import pytest
from eth_account import Account
from hypothesis import example, given
from hypothesis import strategies as st
from test_node_support import PARAMETERS
from x402.http.utils import decode_payment_required_header

from trine.chain import Event
from trine_node.x402.asset import Asset
from trine_node.x402.authorization import Authorization, parse_payment
from trine_node.x402.ledger import Judged, Payment, State
from trine_node.x402.settling import Next, Settling, decide
from trine_node.x402.terms import CLOCKS_SECONDS, Terms, valid_seconds
from trine_operator.refusal import Refusal

ASSET = "0x" + "11" * 20
TERMS = Terms(31337, ASSET, "Trine", "1", "0x" + "22" * 20, 2_500_000, 7, 3_600)
UNTIL = 1_000
AUTHORIZATION = Authorization(ASSET, Account.create().address, TERMS.pay_to, 1, 0, UNTIL, bytes(32), bytes(65))

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(0, 10**9))
def test_prices_are_rounded_up_and_never_nothing(tokens):
    units = TERMS.units(tokens)
    assert units >= max(7, 1)
    assert units == 7 or (units - 1) * 10**6 < tokens * TERMS.units_per_million_tokens <= units * 10**6


@given(st.integers(-(10**6), 10**6))
def test_an_offer_covers_the_longest_verdict_by_whichever_clock_is_ahead(lead):
    offer = TERMS.requirements(9, lead)
    assert offer.max_timeout_seconds >= TERMS.valid_seconds + CLOCKS_SECONDS + lead
    assert offer.max_timeout_seconds >= TERMS.valid_seconds + CLOCKS_SECONDS
    refusal = TERMS.required("http://node/v1", offer, Refusal("no", status=402, code="why"))
    told = decode_payment_required_header(refusal.headers["payment-required"])
    assert (told.error, told.accepts, refusal.code) == ("no", [offer], "why")


def test_a_signature_is_good_until_both_appeals_are_over():
    once, window = valid_seconds(PARAMETERS, 3_600), PARAMETERS.appeal_window_seconds
    assert once > 3_600 + 3 * (window + PARAMETERS.reveal_seconds)
    assert valid_seconds(PARAMETERS, 7_200) == once + 3_600


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: b64encode(raw).decode()))
@example("=")
@example("é")
def test_whatever_a_header_holds_it_is_refused_in_words(header):
    with pytest.raises(Refusal) as refused:
        parse_payment(header)
    assert refused.value.status == 402


FIELDS = {
    "from": AUTHORIZATION.payer,
    "to": TERMS.pay_to,
    "value": "1",
    "validAfter": "0",
    "validBefore": "9",
    "nonce": "0x" + "00" * 32,
}


@given(st.sampled_from([*FIELDS, "signature", "asset"]), json)
def test_whatever_a_payment_has_for_a_field_it_is_read_exactly_or_refused(name, value):
    authorization = {**FIELDS, name: value} if name in FIELDS else FIELDS
    accepted = {**TERMS.requirements(1, 0).model_dump(by_alias=True), **({"asset": value} if name == "asset" else {})}
    signature = value if name == "signature" else "0x" + "11" * 64 + "1b"
    payload = {
        "x402Version": 2,
        "accepted": accepted,
        "payload": {"authorization": authorization, "signature": signature},
    }
    try:
        _, read = parse_payment(b64encode(dumps(payload).encode()).decode())
    except Refusal:
        return
    assert read.value == int(authorization["value"])
    assert read.valid_before == int(authorization["validBefore"])


@pytest.mark.parametrize(
    ("result", "now", "expected"),
    [
        (None, UNTIL - 1, Next.WAIT),
        (None, UNTIL, Next.EXPIRE),
        ("accept", UNTIL - 1, Next.SETTLE),
        ("accept", UNTIL, Next.EXPIRE),
        *(
            (result, now, Next.DROP)
            for result in ("reject", "unavailable", "inconclusive", "void")
            for now in (0, UNTIL)
        ),
    ],
)
def test_only_what_was_accepted_is_ever_charged_and_only_while_its_signature_is_good(result, now, expected):
    payment = Payment(AUTHORIZATION, bytes(32), State.ANSWERED, 0, bytes(32), None)
    assert decide(Judged(payment, result), now) is expected


def test_attack_one_transfer_pays_for_one_answer_only():
    """A contract executes one authorization, and uses the nonces of two more to send their payer nothing."""
    payer, node, transaction = "0x" + "22" * 20, "0x" + "33" * 20, b"\1" * 32
    three = [Authorization(ASSET, payer, node, 1000, 0, 10**9, bytes([n]) * 32, b"\1" * 65) for n in (1, 2, 3)]
    log = [
        Event("TrineToken", name, args, 5, index, transaction)
        for index, (name, args) in enumerate(
            [
                ("AuthorizationUsed", {"authorizer": payer, "nonce": three[0].nonce}),
                ("Transfer", {"from": payer, "to": node, "value": 1000}),
                ("AuthorizationUsed", {"authorizer": payer, "nonce": three[1].nonce}),
                ("Transfer", {"from": payer, "to": payer, "value": 0}),
                ("AuthorizationUsed", {"authorizer": payer, "nonce": three[2].nonce}),
                ("Transfer", {"from": payer, "to": payer, "value": 0}),
            ]
        )
    ]

    def events_at(_interface, _address, name, from_block, **filters):
        return [
            event
            for event in log
            if event.name == name
            and event.block >= from_block
            and all(event.args[key] == value for key, value in filters.items())
        ]

    asset = Asset(SimpleNamespace(events_at=events_at), ASSET)
    used = [event for event in log if event.name == "AuthorizationUsed"]
    assert [asset._has_paid(each, event) for each, event in zip(three, used, strict=True)] == [True, False, False]


def test_attack_who_fills_the_account_again_once_the_time_is_over_has_not_paid():
    """Empty while the verdict is final, full in the first block in which nothing can be taken any more."""
    now, clock, ended, balances = [100], [0.0], [], [0]

    class Payer:
        address = TERMS.pay_to

        def confirmed_block(self):
            return 10

        def now(self):
            return now[0]

        def read_at(self, _interface, _address, function, *_arguments):
            return {"authorizationState": False, "balanceOf": balances[0]}[function]

        def events_at(self, *_of, **_filters):
            return []

    judged = Judged(Payment(AUTHORIZATION, b"o" * 32, State.ANSWERED, 1, b"a" * 32, None), "accept")
    ledger = SimpleNamespace(
        answered=lambda _most: [] if ended else [judged],
        end=lambda _name, state, _executed=None: ended.append(state),
        forget=lambda _before: 0,
    )
    outbox = SimpleNamespace(open_names=frozenset, executed=lambda _name: None)
    settling = Settling(Payer(), ledger, outbox, keep_days=1, clock=lambda: clock[0])
    for now[0] in range(100, UNTIL, 100):
        clock[0] += 100
        settling.step()
    assert ended == []
    balances[0], now[0] = 10**9, UNTIL
    clock[0] += 100
    settling.step()
    assert ended == [State.UNPAID]
