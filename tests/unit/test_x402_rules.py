"""What decides about payments by x402 without asking anybody: prices, times, headers, what is to be done next."""

from base64 import b64encode
from json import dumps

import pytest
from eth_account import Account
from hypothesis import example, given
from hypothesis import strategies as st
from test_node_support import PARAMETERS
from x402.http.utils import decode_payment_required_header

from trine_node.x402.authorization import Authorization, parse_payment
from trine_node.x402.ledger import Judged, Payment, State
from trine_node.x402.settling import Next, decide
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
