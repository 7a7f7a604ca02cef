"""`benchmarks/load.py --clients`: whatever the node does in the end, the benchmark ends and says how it went."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import httpx2
import pytest

from trine.errors import ChainUnreachable

spec = importlib.util.spec_from_file_location("sustained", Path(__file__).parents[2] / "benchmarks" / "sustained.py")
sustained = importlib.util.module_from_spec(spec)
sys.modules["sustained"] = sustained  # where dataclasses look for their module
spec.loader.exec_module(sustained)

DIGESTS = [bytes([number]) * 32 for number in range(40)]
BATCH = "0x" + "ab" * 32


def awaited(handler, is_known=lambda batch: True, seconds=2.0):
    said = []

    async def run():
        transport = httpx2.MockTransport(handler)
        async with httpx2.AsyncClient(base_url="http://node", transport=transport) as http:
            return await sustained.await_anchored(http, is_known, DIGESTS, seconds, said.append)

    return asyncio.run(run()), said


async def silent(request):
    await asyncio.sleep(3600)


async def refusing(request):
    raise httpx2.ConnectError("refused", request=request)


async def talking_nonsense(request):
    return httpx2.Response(200, text="<html>")


async def never_sealing(request):
    return httpx2.Response(200, json={"batch": None})


async def sealing(request):
    return httpx2.Response(200, json={"batch": {"batchId": BATCH}})


@pytest.mark.parametrize("node", [silent, refusing, talking_nonsense, never_sealing])
def test_waiting_for_batches_ends_whatever_the_node_does(node):
    lost, said = awaited(node, seconds=0.3)
    assert lost == len(DIGESTS)
    assert said == ["40 receipts were not anchored within 0 s"]


def test_a_chain_that_cannot_be_asked_is_asked_again():
    asked = []

    def is_known(batch):
        asked.append(batch)
        if len(asked) <= len(DIGESTS):
            raise ChainUnreachable("busy")
        return True

    assert awaited(sealing, is_known) == (0, [])


def test_a_batch_is_looked_up_until_the_chain_knows_it_and_then_no_more():
    asked = []

    def is_known(batch):
        asked.append(batch)
        return len(asked) > len(DIGESTS)

    assert awaited(sealing, is_known, seconds=10.0) == (0, [])
    assert len(asked) <= 2 * len(DIGESTS)


def test_what_a_run_may_take_is_said_beforehand():
    assert sustained.longest_seconds(10) == 10 * 60 + sustained.SETUP_SECONDS + sustained.LEAVE_SECONDS + 600
