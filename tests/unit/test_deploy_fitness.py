"""Chains that lack something are refused by its name, before anything is sent."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from deploy_support import CHAIN_ID, lasting_chain, plan
from rpc_proxy import proxied
from typer.testing import CliRunner

from trine_devnet.addresses import CREATEX
from trine_devnet.deploying.cli import app
from trine_devnet.deploying.facts import LARGEST_CREATION, OP_STACK_PREDEPLOY, BlockSeen, Endpoint, gather
from trine_devnet.deploying.fitness import findings
from trine_devnet.deploying.networks import NETWORKS
from trine_devnet.deploying.run import look

EIP_2537 = [
    "EIP-2537 (BLS12_G1ADD)",
    "EIP-2537 (BLS12_G2ADD)",
    "EIP-2537 (BLS12_PAIRING_CHECK)",
    "EIP-2537 (BLS12_PAIRING_CHECK, a forgery)",
    "EIP-2537 (BLS12_MAP_FP_TO_G1)",
]


@pytest.fixture(scope="module")
def chain():
    with lasting_chain() as rpc:
        yield rpc


@pytest.fixture
def rpc(chain):
    """With a block of now, however long the tests before took."""
    newest = int(chain.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    chain.call("evm_setNextBlockTimestamp", hex(max(int(time.time()), newest + 1)))
    chain.call("evm_mine")
    return chain


@pytest.fixture(scope="module")
def facts(chain):
    """What a chain shows that lacks nothing."""
    return gather(Endpoint(chain.url), "randao", plan().creation_of("Seeds"))


def missing(found):
    return [finding.name for finding in found if not finding.holds]


def judged(facts, seeds="randao", **parameters):
    return missing(findings(facts, seeds, plan(seeds=seeds, parameters=parameters).numbers))


def test_a_chain_that_has_everything_is_fit(facts):
    assert judged(facts) == []


def test_of_an_older_fork_every_missing_proposal_is_named():
    with lasting_chain(hardfork="shanghai") as old:
        _, found = look(Endpoint(old.url), plan(seeds="drand", parameters={"epochBlocks": 256}))
    lacking = missing(found)
    assert lacking == ["EIP-5656 (MCOPY)", "EIP-1153 (transient storage)", *EIP_2537, "CreateX", "contract of seeds"]


def test_before_prague_there_is_no_bls():
    with lasting_chain(hardfork="cancun") as old:
        _, found = look(Endpoint(old.url), plan())
    assert missing(found) == [*EIP_2537, "CreateX"]


def test_a_limit_of_code_below_ours_is_named():
    with lasting_chain("--code-size-limit", "20000") as small:
        _, found = look(Endpoint(small.url), plan())
    assert missing(found)[0] == "EIP-170, EIP-3860 (code size)"


def test_a_block_that_holds_less_gas_than_a_contract_takes_is_named():
    with lasting_chain("--gas-limit", "4000000") as small:
        _, found = look(Endpoint(small.url), plan())
    assert "EIP-7825 (gas of a transaction)" in missing(found)


@pytest.mark.parametrize(
    ("method", "match", "said", "name"),
    [
        # Precompiles that answer nothing, garbage, or yes to everything.
        ("eth_call", "0x000000000000000000000000000000000000000b", "0x", EIP_2537[0]),
        ("eth_call", "0x000000000000000000000000000000000000000d", "0x" + "00" * 256, EIP_2537[1]),
        ("eth_call", "0x000000000000000000000000000000000000000f", "0x" + "00" * 31 + "01", EIP_2537[3]),
        ("eth_call", "0x000000000000000000000000000000000000000f", "0x" + "00" * 32, EIP_2537[2]),
        ("eth_call", "0x0000000000000000000000000000000000000010", "0x" + "11" * 128, EIP_2537[4]),
        # A contract at CreateX's address that is another, an OP Stack chain's own.
        ("eth_getCode", CREATEX, "0x6001", "CreateX"),
        ("eth_getCode", OP_STACK_PREDEPLOY, "0x6001", "RANDAO"),
        ("eth_estimateGas", "", hex((1 << 24) + 1), "EIP-7825 (gas of a transaction)"),
    ],
)
def test_what_an_endpoint_shows_to_be_wrong_is_named(rpc, method, match, said, name):
    with proxied(rpc.url) as proxy:
        proxy.edit = lambda asked, parameters, result: (
            said if asked == method and match.lower() in json.dumps(parameters).lower() else result
        )
        _, found = look(Endpoint(proxy.url), plan())
    assert missing(found) == [name]


def test_a_cap_on_calls_is_named(rpc):
    def less(method, parameters):
        if method == "eth_call":
            parameters = [{**parameters[0], "gas": hex(min(3_000_000, int(parameters[0]["gas"], 16)))}, *parameters[1:]]
        return parameters

    with proxied(rpc.url) as proxy:
        proxy.ask = less
        _, found = look(Endpoint(proxy.url), plan())
    # Nor is there enough to try the largest contract.
    assert missing(found) == ["EIP-170, EIP-3860 (code size)", "gas of eth_call"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda b, i: replace(b, mix_hash=1), "RANDAO"),
        (lambda b, i: replace(b, mix_hash=2_500_000_000_000_000), "RANDAO"),
        (lambda b, i: replace(b, mix_hash=(1 << 200) + i // 6), "RANDAO"),
        (lambda b, i: replace(b, difficulty=2), "RANDAO"),
        (lambda b, i: replace(b, timestamp=b.timestamp - (23 - i) * 28), "block time"),
    ],
    ids=["Arbitrum", "ZKsync", "one of six blocks", "proof of authority", "half a minute a block"],
)
def test_blocks_that_do_not_do_are_named(facts, change, name):
    blocks = [change(block, place) for place, block in enumerate(facts.blocks)]
    assert name in judged(replace(facts, blocks=blocks))


def test_blocks_of_a_quarter_of_a_second_are_too_fast(facts):
    last = facts.blocks[-1].timestamp
    fast = [replace(block, timestamp=last - (23 - place) // 4) for place, block in enumerate(facts.blocks)]
    assert judged(replace(facts, blocks=fast)) == ["block time", "time to draw"]


def test_a_chain_that_stands_still_or_is_ahead_is_named(facts):
    newest = facts.blocks[-1].timestamp
    assert judged(replace(facts, now=newest + 3600)) == ["clock"]
    assert judged(replace(facts, now=newest - 60)) == ["clock"]
    assert judged(replace(facts, now=newest + 60)) == []


def test_a_chain_of_a_few_blocks_is_not_judged_by_them(facts):
    assert "block time" in judged(replace(facts, blocks=facts.blocks[-3:]))


def test_contracts_that_see_another_chains_numbers_cannot_draw_by_randao(facts):
    programs = {**facts.programs, "NUMBER": (9_000_000).to_bytes(33, "big")}
    assert judged(replace(facts, programs=programs)) == ["RANDAO"]
    short = {"drawDelayBlocks": 2, "seedDelayBlocks": 2}  # theirs are twelve seconds each
    assert judged(replace(facts, programs=programs), "drand", **short) == []


def test_a_header_that_is_not_what_contracts_see_cannot_be_shown(facts):
    assert judged(replace(facts, parent=(bytes(32), bytes.fromhex("11" * 32)))) == ["block headers"]
    assert judged(replace(facts, header="a fork has added fields")) == ["block headers"]


@pytest.mark.parametrize(
    ("parameters", "fits"),
    [
        ({"epochBlocks": 256, "drawDelayBlocks": 2, "seedDelayBlocks": 2, "beaconMarginSeconds": 60}, True),
        ({"epochBlocks": 64, "drawDelayBlocks": 2, "seedDelayBlocks": 2, "beaconMarginSeconds": 60}, False),
        ({"epochBlocks": 256, "drawDelayBlocks": 16, "seedDelayBlocks": 2, "beaconMarginSeconds": 60}, False),
    ],
)
def test_with_drand_window_margin_and_delay_must_go_together(facts, parameters, fits):
    """Blocks of two seconds."""
    assert judged(facts, "drand", **parameters) == ([] if fits else ["time to draw"])


def test_presets_suit_the_block_times_of_their_chains(facts):
    for network in NETWORKS.values():
        seconds = 2 if "base" in network.name else 12
        blocks = [BlockSeen(n, n * seconds, 1 << 25, 0, (1 << 250) + n) for n in range(100, 124)]
        shown = replace(facts, blocks=blocks, now=blocks[-1].timestamp, programs={
            **facts.programs, "NUMBER": (123).to_bytes(33, "big")})  # fmt: skip
        assert judged(shown, network.seeds, **network.parameters) == [], network.name


def test_the_command_names_what_is_missing_and_sends_nothing(rpc):
    runner = CliRunner()
    with proxied(rpc.url) as proxy:
        arguments = ["check", "--rpc", proxy.url, "--seeds", "randao"]
        fit = runner.invoke(app, arguments)
        assert fit.exit_code == 0, fit.output
        proxy.edit = lambda asked, parameters, result: "0x" if "000b" in json.dumps(parameters) else result
        unfit = runner.invoke(app, [*arguments, "--json"])
        assert unfit.exit_code == 3
        assert "not fit for Trine: EIP-2537 (BLS12_G1ADD)" in unfit.output
        assert not any("send" in method for method in proxy.calls)
        wrong = runner.invoke(app, ["check", "--rpc", proxy.url, "--network", "sepolia"])
        assert wrong.exit_code == 3
        assert f"sepolia is chain 11155111, and this is chain {CHAIN_ID}" in wrong.output
        proxy.refuse = lambda *_: (429, b"{}")
        busy = runner.invoke(app, arguments)
        assert busy.exit_code == 5
        assert "no answer" in busy.output


def test_the_largest_contract_is_below_every_limit():
    assert LARGEST_CREATION <= 49_152
