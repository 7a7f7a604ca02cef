"""What seeds need from outside: block headers that hash to their block, rounds of a beacon that are the beacon's."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from bare_chain import SENDER, bare_chain
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from py_arkworks_bls12381 import G1Point

from trine.chain.beacons import MAX_ANSWER_BYTES, QUICKNET, QUICKNET_URLS, fetch_signature, require_urls
from trine.chain.block_header import checked_header, encoded_header, rlp_list
from trine.chain.deployment import bytecode
from trine.chain.seeds import SeedState
from trine.chain.transactions import Call, gas_limit, offer
from trine.errors import ChainError, InvalidInput, NotReady
from trine.protocol import bls
from trine.protocol._bls_py_ecc import PyEcc
from trine.protocol.beacon import TAG, Beacon, evidence, expanded, message, seed
from trine_devnet.specification import specification
from trine_operator.settings import OperatorSettings

ROUND = 1000
SIGNATURE = bytes.fromhex(
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
)
"""Of quicknet's round 1000, as its endpoints publish it."""
RANDOMNESS = "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd"
PUBLISHED_KEY = bytes.fromhex(
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)


def quicknet(margin=30):
    return Beacon(1_692_803_367, 3, margin, bls.expand_key(PUBLISHED_KEY))


# Headers


@pytest.fixture(scope="module")
def blocks():
    """Blocks of real chains, by the newest fork that they have."""
    found = {}
    for fork in ("london", "shanghai", "cancun", "prague"):
        with bare_chain("--hardfork", fork) as bare:
            bare.mine(2)
            found[fork] = bare.rpc.call("eth_getBlockByNumber", hex(bare.number), False)
    return found


@pytest.mark.parametrize("fork", ["london", "shanghai", "cancun", "prague"])
def test_a_header_hashes_to_its_block(blocks, fork):
    block = blocks[fork]
    header = encoded_header(block)
    assert keccak(header) == bytes.fromhex(block["hash"][2:])
    assert bytes.fromhex(block["mixHash"][2:]) in header


def test_a_chain_shows_the_header_of_any_block():
    with bare_chain() as bare:
        chain = bare.chain()
        for number in (bare.number, bare.number - 1):
            assert keccak(chain.raw_header(number)) == chain.block_hash(number)


def test_fields_that_an_endpoint_shows_of_a_later_fork_are_left_out(blocks):
    header = encoded_header(blocks["shanghai"])
    assert encoded_header({**blocks["shanghai"], "blobGasUsed": "0x0", "excessBlobGas": "0x0"}) == header


def test_attack_an_endpoint_that_shows_another_mix_hash(blocks):
    with pytest.raises(ChainError, match="needs DrandSeeds"):
        encoded_header({**blocks["prague"], "mixHash": "0x" + "11" * 32})


def test_a_block_of_an_unknown_fork_is_not_guessed(blocks):
    block = blocks["prague"]
    raw = encoded_header(block)
    unknown = rlp_list([*_strings(raw), bytes(32)])
    with pytest.raises(ChainError, match="a fork has added fields"):
        encoded_header({**block, "hash": "0x" + keccak(unknown).hex(), "newField": "0x" + "00" * 32})
    assert checked_header("0x" + unknown.hex(), keccak(unknown)) == unknown
    assert checked_header("0x" + raw.hex(), keccak(unknown)) is None
    assert checked_header("no hex", keccak(unknown)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"miner": "0x11"},
        {"number": "-0x1"},
        {"gasLimit": "0x" + "ff" * 33},
        {"extraData": "0x" + "00" * 5000},
        {"stateRoot": None},
        {"hash": 7},
    ],
)
def test_a_block_without_sense_is_an_error_of_its_own(blocks, change):
    with pytest.raises(ChainError, match="makes no sense"):
        encoded_header({**blocks["prague"], **change})


def test_short_and_long_strings_are_encoded_as_the_yellow_paper_has_it():
    assert rlp_list([b"cat", b"dog"]).hex() == "c88363617483646f67"
    assert rlp_list([b"", b"\x0f", b"\x80"]).hex() == "c4800f8180"
    assert rlp_list([b"a" * 56])[:4].hex() == "f83ab838"


def _strings(header):
    """The fields of a header, which are all strings."""
    found, at = [], 3
    while at < len(header):
        first = header[at]
        if first < 0x80:
            size, at = 1, at - 1
        elif first <= 0xB7:
            size = first - 0x80
        else:
            digits = first - 0xB7
            size = int.from_bytes(header[at + 1 : at + 1 + digits], "big")
            at += digits
        found.append(header[at + 1 : at + 1 + size])
        at += 1 + size
    return found


# On a chain


def put(bare, source, kinds=(), values=()):
    """A source of seeds on a bare chain; returns the chain as a deployment has it."""
    code = bytecode(source).creation + encode(kinds, values)
    sent = {"from": SENDER, "data": "0x" + code.hex(), "gas": hex(5_000_000)}
    transaction = bare.rpc.call("eth_sendTransaction", sent)
    bare.mine()
    receipt = bare.rpc.call("eth_getTransactionReceipt", transaction)
    assert receipt["status"] == "0x1"
    contracts = {**bare.deployment.contracts, "Seeds": to_checksum_address(receipt["contractAddress"])}
    bare.deployment = replace(bare.deployment, contracts=contracts)
    return bare.chain()


def send(bare, chain, call):
    encoded = chain.encoded(call)
    sent = {"from": SENDER, "to": encoded.to, "data": "0x" + encoded.data.hex(), "gas": hex(1_000_000)}
    transaction = bare.rpc.call("eth_sendTransaction", sent)
    bare.mine()
    return bare.rpc.call("eth_getTransactionReceipt", transaction)["status"] == "0x1"


ACCOUNT = Account.from_key(b"drawing".rjust(32, b"\1"))
ANY_CALL = Call("Seeds", "source", ())
"""What is to be done with a seed: here, anything that does not revert."""


def test_who_draws_by_randao_shows_the_header():
    with bare_chain("--hardfork", "prague") as bare:
        chain = put(bare, "RandaoSeeds")
        chain.require_seeds()
        assert chain.beacon is None
        seed_block = bare.number + 1
        assert chain.with_seed(ANY_CALL, seed_block, 0) is None
        bare.mine(2)
        with pytest.raises(NotReady, match="nobody has recorded"):
            chain.seed(seed_block, 0)
        ready = chain.with_seed(ANY_CALL, seed_block, 0)
        assert (ready.contract, ready.function) == ("Seeds", "recordAndCall")
        assert send(bare, chain, ready)
        randao = int(bare.rpc.call("eth_getBlockByNumber", hex(seed_block), False)["mixHash"], 16)
        assert chain.seed(seed_block, 0) == (randao >> 40).to_bytes(32, "big")
        assert chain.with_seed(ANY_CALL, seed_block, 0) is ANY_CALL
        bare.mine(300)
        assert chain.seed_state(seed_block, 0) is SeedState.GONE
        assert chain.seed(seed_block, 0) == (randao >> 40).to_bytes(32, "big"), "who audits still finds it"


def test_who_draws_by_randao_loses_no_block_between_the_seed_and_the_draw():
    """Contracts do not see a block's seed before the next block; what shows it is on its way already."""
    with bare_chain("--hardfork", "prague") as bare:
        put(bare, "RandaoSeeds")
        chain = bare.chain(signer=ACCOUNT)
        bare.rpc.call("anvil_setBalance", ACCOUNT.address, hex(10**18))
        seed_block = bare.number + 2
        bare.mine()
        assert chain.with_seed(ANY_CALL, seed_block, 0) is None
        bare.mine()
        assert chain.seed_state(seed_block, 0) is SeedState.AHEAD
        early = chain.with_seed(ANY_CALL, seed_block, 0)
        assert (early.contract, early.function) == ("Seeds", "recordAndCall")
        encoded, gateway = chain.encoded(early), chain.gateway()
        gas = gas_limit(gateway.estimate(encoded))
        sent = gateway.signed(encoded, gateway.nonce("pending"), gas, offer(gateway.market()))
        assert gateway.broadcast(sent, early.function) is None
        bare.mine()
        receipt = gateway.receipt(sent.hash)
        assert (receipt["status"], receipt["blockNumber"]) == (1, seed_block + 1)
        assert chain.seed_state(seed_block, 0) is SeedState.RECORDED


def test_a_seed_is_not_sent_before_its_block_where_the_call_would_fail():
    """An endpoint that cannot try the next block, or a draw that reverts there: it waits, and nothing is paid for."""
    with bare_chain("--hardfork", "prague") as bare:
        put(bare, "RandaoSeeds")
        chain = bare.chain(signer=ACCOUNT)
        bare.rpc.call("anvil_setBalance", ACCOUNT.address, hex(10**18))
        hopeless = Call("Seeds", "seedOf", (bare.number - 1, 0))
        assert chain.with_seed(hopeless, bare.number, 0) is None
        reader = bare.chain()
        assert reader.with_seed(ANY_CALL, bare.number, 0) is None, "who cannot send draws nothing"


def test_who_draws_by_drand_shows_the_round():
    secret = bls.SecretKey(0xBEAC04)
    with bare_chain("--hardfork", "prague") as bare:
        now = int(bare.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        beacon = Beacon(now - 3000, 3, 30, secret.public_key())
        values = (beacon.genesis, beacon.period, beacon.margin, beacon.key)
        chain = put(bare, "DrandSeeds", ("uint256", "uint256", "uint256", "bytes"), values)
        assert chain.beacon == beacon
        chain.require_seeds()
        assert chain.with_seed(ANY_CALL, 1, chain.timestamp()) is None
        fixed_at = chain.timestamp() - 60
        round_ = beacon.round_after(fixed_at)
        signature = secret.sign(message(round_), TAG)
        chain.beacon_urls = ()
        with pytest.raises(NotReady, match="beacon_urls"):
            chain.with_seed(ANY_CALL, 1, fixed_at)
        with endpoint(published(round=round_, signature=compressed(signature).hex())) as (url, _):
            chain.beacon_urls = (url,)
            ready = chain.with_seed(ANY_CALL, 1, fixed_at)
            assert chain.with_seed(ANY_CALL, bare.number, fixed_at) is None, "drawn from the next block on"
        assert send(bare, chain, ready)
        assert chain.seed(1, fixed_at) == seed(signature)
        assert chain.with_seed(ANY_CALL, 1, fixed_at) is ANY_CALL


def test_a_chain_whose_contracts_count_otherwise_needs_drand():
    with bare_chain("--hardfork", "prague") as bare:
        chain = put(bare, "RandaoSeeds")
        chain._own_numbers = False
        with pytest.raises(ChainError, match="needs DrandSeeds"):
            chain.require_seeds()
        with pytest.raises(ChainError, match="needs DrandSeeds"):
            chain.with_seed(ANY_CALL, bare.number - 1, 0)


# Rounds


def compressed(signature):
    return G1Point.from_xy_bytes_be(bls.unpad(signature, bls.SIGNATURE_BYTES)).to_compressed_bytes()


def test_a_real_round_of_quicknet_is_the_networks():
    signature = expanded(SIGNATURE)
    assert sha256(SIGNATURE).hexdigest() == RANDOMNESS
    assert quicknet().has_signed(ROUND, signature)
    assert bls.verify([quicknet().key], message(ROUND), signature, TAG, PyEcc())
    assert not quicknet().has_signed(ROUND + 1, signature)
    assert evidence(ROUND, signature) == ROUND.to_bytes(8, "big") + signature
    assert seed(signature) == keccak(signature)


def test_the_deployment_names_quicknet():
    parameters = specification()["parameters"]
    assert bytes.fromhex(parameters["beaconKey"][2:]) == bls.expand_key(PUBLISHED_KEY)
    assert (parameters["beaconGenesisSeconds"], parameters["beaconPeriodSeconds"]) == (1_692_803_367, 3)
    assert all(url.endswith("/" + QUICKNET) for url in QUICKNET_URLS)


@pytest.mark.parametrize("fixed_at", range(1_700_000_000, 1_700_000_007))
def test_a_batch_has_the_first_round_after_the_margin(fixed_at):
    round_ = quicknet(30).round_after(fixed_at)
    assert fixed_at + 30 <= quicknet(30).time_of(round_) < fixed_at + 33


def test_the_first_round_is_the_first():
    assert quicknet(30).round_after(0) == 1
    assert quicknet(30).round_after(1_692_803_337) == 1
    assert quicknet(30).round_after(1_692_803_338) == 2
    with pytest.raises(InvalidInput, match="no round"):
        message(0)


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:47], bytes(48), b"\xff" * 48])
def test_what_is_no_signature_is_refused(signature):
    with pytest.raises(InvalidInput):
        expanded(signature)


@contextmanager
def endpoint(answer, status=200):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{QUICKNET}", asked
        finally:
            server.shutdown()
            thread.join()


def published(**changes):
    return {"round": ROUND, "randomness": RANDOMNESS, "signature": SIGNATURE.hex(), **changes}


def test_a_round_is_fetched_by_its_number():
    with endpoint(published()) as (url, asked):
        assert fetch_signature(quicknet(), [url + "/"], ROUND) == expanded(SIGNATURE)
    assert asked == [f"/{QUICKNET}/public/{ROUND}"]


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (published(round=999), 200, "shows round 999"),
        (published(signature="00" * 48), 200, "not a BLS signature"),
        (published(signature="11" * 48), 200, "signature"),
        ([], 200, "shows no round"),
        (b"[" * 3000, 200, "shows no round"),
        (b"x" * (MAX_ANSWER_BYTES + 1), 200, "too many bytes"),
        (published(), 503, "status 503"),
    ],
)
def test_an_endpoint_that_shows_no_round_is_passed_over(answer, status, reason):
    with endpoint(answer, status) as (bad, _), endpoint(published()) as (good, _asked):
        with pytest.raises(NotReady, match=reason):
            fetch_signature(quicknet(), [bad], ROUND)
        assert fetch_signature(quicknet(), [bad, good], ROUND) == expanded(SIGNATURE)


def test_attack_a_forged_round_is_never_sent():
    forged = compressed(bls.SecretKey(0xBEAC04).sign(message(ROUND), TAG))
    with endpoint(published(signature=forged.hex())) as (url, _), pytest.raises(NotReady, match="not the network's"):
        fetch_signature(quicknet(), [url], ROUND)


def test_without_an_endpoint_it_says_which_setting():
    with pytest.raises(NotReady, match="beacon_urls"):
        fetch_signature(quicknet(), [], ROUND)


def test_settings_refuse_what_is_no_address():
    require_urls(QUICKNET_URLS)
    with pytest.raises(InvalidInput, match="no HTTP address"):
        require_urls(["ftp://somewhere"])
    with pytest.raises(InvalidInput, match="beacon_urls"):
        OperatorSettings.load(beacon_urls=["somewhere"])
