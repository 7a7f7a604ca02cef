"""What is signed while a deployment runs, by whom, and what is kept of it."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import asdict, replace

import pytest
from deploy_support import CHAIN_ID, plan
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from rpc_proxy import proxied

from trine.chain.deployment import CONTRACTS
from trine.errors import BadSignature, ChainUnreachable, InvalidInput, NotReady
from trine_devnet.addresses import CREATEX, DEVNET_DEPLOYER, salt_of
from trine_devnet.deploying.endpoint import MAX_BODY_BYTES, SigningEndpoint
from trine_devnet.deploying.plan import Plan, read_parameters
from trine_devnet.deploying.record import Record, Sent
from trine_devnet.deploying.rules import CREATE_CONTRACT, checked_transaction, contract_of
from trine_devnet.deploying.signing import ExternalSigner, KeystoreSigner, checked
from trine_devnet.deploying.verification import listing

FACTORY = to_checksum_address("0x" + "fa" * 20)
DEPLOYER = Account.from_key("0x" + "17" * 32)
RULES = {"deployer": DEPLOYER.address, "factory": FACTORY, "chain_id": CHAIN_ID, "max_fee_wei": 10**11}


def asked(**changes):
    call = CREATE_CONTRACT + salt_of("Batches") + bytes(64)
    return {
        "from": DEPLOYER.address, "to": FACTORY, "data": "0x" + call.hex(), "value": "0x0", "nonce": "0x3",
        "gas": hex(5_000_000), "maxFeePerGas": hex(10**9), "maxPriorityFeePerGas": hex(10**8), **changes,
    }  # fmt: skip


def step(**changes):
    return checked_transaction(asked(**changes), **RULES)


def test_a_step_of_a_deployment_is_signed_as_asked():
    transaction = step()
    raw = checked(KeystoreSigner(DEPLOYER).sign(transaction), transaction, DEPLOYER.address)
    assert Account.recover_transaction(raw) == DEPLOYER.address
    assert contract_of(transaction) == "Batches"
    assert {contract_of(step(data="0x" + (CREATE_CONTRACT + salt_of(n)).hex())) for n in CONTRACTS} == set(CONTRACTS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"to": None}, "to nobody"),
        ({"to": "0x" + "22" * 20}, "make the factory"),
        ({"to": CREATEX}, "make the factory"),
        ({"data": "0xa9059cbb" + "00" * 64}, "make the factory"),
        ({"data": "0x"}, "make the factory"),
        ({"data": 7}, "no bytes"),
        ({"data": "0x" + CREATE_CONTRACT.hex() + "00" * (1 << 17)}, "too long"),
        ({"value": "0x1"}, "no money"),
        ({"from": "0x" + "22" * 20}, "only the deployer"),
        ({"from": None}, "only the deployer"),
        ({"chainId": "0x1"}, "another chain"),
        ({"gas": hex((1 << 24) + 1)}, "EIP-7825"),
        ({"gas": None}, "no number"),
        ({"nonce": hex(1 << 64)}, "out of bounds"),
        ({"nonce": "-0x1"}, "out of bounds"),
        ({"maxFeePerGas": hex(10**11 + 1)}, "the limit is 100"),
    ],
)
def test_nothing_else_is_signed(changes, told):
    with pytest.raises(InvalidInput, match=told):
        step(**changes)


@pytest.mark.parametrize("field", ["nonce", "to", "data", "gas", "maxFeePerGas", "chainId", "value"])
def test_a_signer_that_changes_a_field_is_noticed(field):
    transaction = step()
    other = {"to": "0x" + "33" * 20, "data": "0x1234"}.get(field, transaction.get(field, 0) + 1 if field not in (
        "to", "data") else None)  # fmt: skip
    raw = bytes(DEPLOYER.sign_transaction({**transaction, field: other}).raw_transaction)
    with pytest.raises(BadSignature, match=field):
        checked(raw, transaction, DEPLOYER.address)


def test_a_signer_that_is_another_or_talks_nonsense_is_noticed():
    transaction, other = step(), Account.create()
    with pytest.raises(BadSignature, match="signed as"):
        checked(bytes(other.sign_transaction(transaction).raw_transaction), transaction, DEPLOYER.address)
    for nonsense in (b"", b"\x02", b"\xff" * 100):
        with pytest.raises(BadSignature, match="no transaction"):
            checked(nonsense, transaction, DEPLOYER.address)


class Network:
    """An endpoint that takes what is sent, or loses the answer."""

    def __init__(self):
        self.sent, self.calls, self.loses = [], [], False

    def ask(self, method, *parameters):
        self.calls.append(method)
        if method == "eth_sendRawTransaction":
            self.sent.append(parameters[0])
            if self.loses:
                raise ChainUnreachable("lost")
            return "0x" + keccak(bytes.fromhex(parameters[0][2:])).hex()
        if method == "eth_getTransactionByHash":
            known = {"0x" + keccak(bytes.fromhex(raw[2:])).hex() for raw in self.sent}
            return {} if parameters[0] in known else None
        return "0x7"


@pytest.fixture
def served(tmp_path):
    network, said = Network(), []
    record = Record(tmp_path / "sent.jsonl")
    with SigningEndpoint(network, KeystoreSigner(DEPLOYER), record, RULES, said.append) as endpoint:
        yield endpoint, network, record, said


def post(url, body):
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def call(url, method, *parameters):
    return post(url, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode())[1]


def test_the_endpoint_signs_steps_and_keeps_them_before_they_are_sent(served, tmp_path):
    endpoint, network, _, said = served
    assert call(endpoint.url, "eth_accounts")["result"] == [DEPLOYER.address]
    answer = call(endpoint.url, "eth_sendTransaction", asked())
    kept = Record(tmp_path / "sent.jsonl")
    assert [sent.hash for sent in kept.all] == [answer["result"]]
    assert network.sent == ["0x" + kept.all[0].raw.hex()]
    assert said == [f"sent: Batches, nonce 3, {answer['result']}"]
    # Asked again, as after a crash: the same bytes.
    assert call(endpoint.url, "eth_sendTransaction", asked())["result"] == answer["result"]
    assert len(Record(tmp_path / "sent.jsonl").all) == 1


def test_an_answer_that_was_lost_is_no_failure(served):
    endpoint, network, record, _ = served
    network.loses = True
    assert call(endpoint.url, "eth_sendTransaction", asked())["result"] == record.all[0].hash


def test_the_endpoint_refuses_what_is_no_step_and_who_does_not_know_its_path(served):
    endpoint, network, record, _ = served
    refused = call(endpoint.url, "eth_sendTransaction", asked(value="0x1"))
    assert "no money" in refused["error"]["message"]
    assert endpoint.refusals == ["a deployment sends no money"]
    for method in ("eth_sign", "eth_signTransaction", "eth_signTypedData_v4", "eth_sendRawTransaction",
                   "personal_unlockAccount", "debug_traceCall", "anvil_setBalance"):  # fmt: skip
        assert "not offered" in call(endpoint.url, method, "0x")["error"]["message"]
    assert network.sent == record.all == network.calls == []
    base = endpoint.url.rsplit("/", 1)[0]
    assert post(base + "/", b"{}")[0] == 404
    assert post(base + "/" + "0" * 32, b"{}")[0] == 404
    for body in (b"nonsense", b"[" * 100_000, b"x" * (MAX_BODY_BYTES + 1)):
        assert post(endpoint.url, body)[0] == 400
    for body in (b"[]", b"3", b"[3]", json.dumps([{}] * 65).encode(), b'{"method": 3}', b'{"method":"a","params":3}'):
        status, answer = post(endpoint.url, body)
        assert status == 200
        assert "error" in answer


def test_a_record_that_a_crash_has_cut_goes_on(tmp_path):
    file = tmp_path / "sent.jsonl"
    transaction = step()
    raw = KeystoreSigner(DEPLOYER).sign(transaction)
    Record(file).add(Sent(3, "Batches", transaction, raw))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:50])
    again = Record(file)
    assert [sent.raw for sent in again.all] == [raw]
    again.add(Sent(4, "Staking", {**transaction, "nonce": 4}, raw))
    assert [sent.nonce for sent in Record(file).all] == [3, 4]
    assert Record(file).same(transaction).raw == raw
    assert Record(file).same({**transaction, "gas": 1}) is None


def test_an_external_signer_is_asked_and_not_believed():
    """A chain's own client is one: anvil signs for its accounts."""
    from bare_chain import bare_chain

    with bare_chain() as chain, proxied(chain.url) as proxy:
        signer = ExternalSigner(proxy.url, DEVNET_DEPLOYER)
        rules = {**RULES, "deployer": DEVNET_DEPLOYER, "chain_id": 31337}
        transaction = checked_transaction(asked(**{"from": DEVNET_DEPLOYER}), **rules)
        raw = checked(signer.sign(transaction), transaction, DEVNET_DEPLOYER)
        assert Account.recover_transaction(raw) == DEVNET_DEPLOYER
        proxy.edit = lambda method, _params, result: 7 if method == "eth_signTransaction" else result
        with pytest.raises(BadSignature):
            checked(signer.sign(transaction), transaction, DEVNET_DEPLOYER)
        with pytest.raises(InvalidInput, match="say which"):
            ExternalSigner(proxy.url)
        with pytest.raises(InvalidInput, match="has no account"):
            ExternalSigner(proxy.url, DEPLOYER.address)
        proxy.refuse = lambda *_: (200, b'{"jsonrpc":"2.0","id":1,"error":{"message":"denied"}}')
        with pytest.raises(NotReady, match="denied"):
            signer.sign(transaction)
        with pytest.raises(InvalidInput, match="begins with"):
            ExternalSigner("ftp://user:secret-1234@signer")


def test_one_key_for_everything_is_refused_where_a_network_lasts():
    sound = plan()
    sound.require_sound()
    one, other = sound.governor, sound.guardian
    for roles in ({"guardian": one}, {"deployer": one}, {"deployer": other}, {"deployer": one, "guardian": one}):
        with pytest.raises(InvalidInput, match="a key of its own"):
            replace(sound, **roles).require_sound()
        replace(sound, **roles, chain_id=31337).require_sound()
    for role in ("deployer", "governor", "guardian", "holder"):
        with pytest.raises(InvalidInput, match="whose key is public"):
            replace(sound, **{role: DEVNET_DEPLOYER}).require_sound()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"governor": "0x" + "00" * 20}, "must be an address"),
        ({"guardian": "alice"}, "must be an address"),
        ({"seeds": "blockhash"}, "seeds come from"),
        ({"name": "../../etc"}, "no name of a deployment"),
        ({"parameters": {"noSuch": 1}}, "no constructor takes noSuch"),
        ({"parameters": {"guardian": "0x" + "11" * 20}}, "an option of its own"),
        ({"parameters": {"epochBlocks": "many"}}, "neither a number"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, told):
    with pytest.raises(InvalidInput, match=told):
        plan(**changes).require_sound()


def test_a_plan_is_kept_and_goes_on_only_as_it_was_begun(tmp_path):
    begun = plan(parameters={"epochBlocks": 128})
    begun.save(tmp_path / "plan.json")
    kept = Plan.load(tmp_path / "plan.json")
    assert asdict(kept) == asdict(begun)
    begun.require_same(kept)
    with pytest.raises(InvalidInput, match="seeds was randao, now drand"):
        replace(begun, seeds="drand").require_same(kept)
    (tmp_path / "plan.json").write_text('{"name": 3}')
    with pytest.raises(InvalidInput, match="no plan"):
        Plan.load(tmp_path / "plan.json")


def test_parameters_are_read_as_ignition_has_them(tmp_path):
    file = tmp_path / "parameters.json"
    file.write_text('{"Trine": {"epochBlocks": 256, "supplyWei": "5"}}')
    assert read_parameters(file) == {"epochBlocks": 256, "supplyWei": "5"}
    for text in ("[1]", '{"a": {}}', '{"a": true}', "{", '{"Trine": 4}', "[" * 60_000):
        file.write_text(text)
        with pytest.raises(InvalidInput):
            read_parameters(file)


def test_what_explorers_are_shown_has_every_contract_with_its_arguments():
    planned = plan(seeds="drand")
    shown = {entry["contract"].split(":")[1]: entry for entry in listing(planned)}
    assert set(shown) == {"Factory", *CONTRACTS} - {"Seeds"} | {"DrandSeeds"}
    assert shown["Timelock"]["arguments"] == ["172800", [planned.governor], ["0x" + "00" * 20]]
    assert len(shown["DrandSeeds"]["arguments"][-1]) == len("0x") + 2 * 256
    assert planned.for_ignition()["Trine"]["holder"] == planned.holder
