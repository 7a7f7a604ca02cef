"""Hand-overs between key sets, from those who sign them: asked for at verifiers' registered endpoints, each checked
alone, and put together by as few signers as are enough.

Whoever is asked may be slow, send anything, or lie. Bytes, seconds and requests are bounded, and a signature counts
only if it is by the key that the set has, over what this side has computed from the chain itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trine import bounded
from trine.errors import InvalidInput, NodeError, NotReady
from trine.protocol import bls
from trine.protocol.key_root import MAX_SIGNERS, MAX_STEP_EPOCHS, enough_signers
from trine.protocol.portable import Handover
from trine.protocol.roster import Roster

MAX_ANSWER_BYTES = 16 << 10
ANSWER_SECONDS = 5.0
"""For all of one answer, however it comes."""
TOGETHER = 16
"""Endpoints that are asked at once: the heaviest first, until their weight is enough."""
MAX_ASKED = 1024
"""Of a set with more keys, only the heaviest are asked."""
MAX_SAID = 200

Download = Callable[[str, int, float], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Source:
    """The network whose key sets these are, as what is signed names it."""

    chain_id: int
    batches: str


@dataclass(slots=True)
class Collected:
    """Good signatures by index in the set, and what was wrong with each operator that gave none."""

    signatures: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # key and signature
    refused: dict[str, str] = field(default_factory=dict)


def handover_url(endpoint: str, signing_epoch: int, epoch: int) -> str:
    """Where a verifier serves its signature over the hand-over from one epoch's set to another's."""
    return f"{endpoint.rstrip('/')}/v1/handovers/{epoch}?since={signing_epoch}"


def collect(
    current: Roster,
    following: Roster,
    source: Source,
    endpoint_of: Callable[[str], str],
    *,
    download: Download | None = None,
) -> Collected:
    """Signatures of `current`'s keys over `following`: of the heaviest first, until they are enough.

    `endpoint_of`: an operator's registered endpoint, which may be anything.
    """
    return asyncio.run(_collect(current, following, source, endpoint_of, download or body_of))


def assembled(current: Roster, following: Roster, collected: Collected, max_signers: int = MAX_SIGNERS) -> Handover:
    """The hand-over with as few signers as possible. Raises NotReady where their weight is not enough, InvalidInput
    where that takes more than `max_signers`."""
    key_set = current.key_set
    chosen = enough_signers(key_set, {i: current.keys[i].weight for i in collected.signatures})
    if chosen is None:
        weight = sum(current.keys[i].weight for i in collected.signatures)
        said = "; ".join(f"{who}: {why}" for who, why in sorted(collected.refused.items())[:8])
        raise NotReady(
            f"no quorum for the hand-over from epoch {current.epoch} to {following.epoch}: keys with "
            f"{weight} of {key_set.total_weight} weight have signed, more than two thirds are needed"
            + (f" ({said})" if said else "")
        )
    if len(chosen) > max_signers:
        raise InvalidInput(
            f"the hand-over from epoch {current.epoch} takes {len(chosen)} signers, more than {max_signers} that you "
            "allow: raise the limit"
        )
    members = current.members(collected.signatures[i][0] for i in chosen)
    return Handover(members, bls.aggregate([collected.signatures[member.index][1] for member in members]))


def steps_from(newest: int, target: int) -> list[int]:
    """Epochs to try to hand over to, the farthest first: as far as one hand-over may reach, then half as far, and so on
    down to the next one."""
    step, found = min(target - newest, MAX_STEP_EPOCHS), []
    while step > 0:
        found.append(newest + step)
        step //= 2
    return found


async def _collect(
    current: Roster, following: Roster, source: Source, endpoint_of: Callable[[str], str], download: Download
) -> Collected:
    collected = Collected()
    digest = current.key_set.handover_digest(source.chain_id, source.batches, following.key_set)
    order = sorted(range(len(current.eligible)), key=lambda i: (-current.eligible[i].weight, i))[:MAX_ASKED]
    ask = partial(_ask, current, following, digest, endpoint_of, download)
    for start in range(0, len(order), TOGETHER):
        wave = order[start : start + TOGETHER]
        answers = await asyncio.gather(*(ask(index) for index in wave))
        for index, answer in zip(wave, answers, strict=True):
            if isinstance(answer, str):
                collected.refused[current.eligible[index].operator] = answer
            else:
                collected.signatures[index] = answer
        if current.key_set.has_quorum(sum(current.keys[i].weight for i in collected.signatures)):
            break
    return collected


async def _ask(
    current: Roster,
    following: Roster,
    digest: bytes,
    endpoint_of: Callable[[str], str],
    download: Download,
    index: int,
) -> tuple[bytes, bytes] | str:
    """A key and its good signature, or what is wrong."""
    eligible = current.eligible[index]
    try:
        endpoint = await asyncio.to_thread(endpoint_of, eligible.operator)
        url = handover_url(endpoint, current.epoch, following.epoch)
        body = await download(url, MAX_ANSWER_BYTES, ANSWER_SECONDS)
        key, signature = signed_in(body)
    except (NodeError, InvalidInput) as error:
        return shown(str(error))
    if bls.key_hash(key) != eligible.key_hash:
        return "shows another key than the one that it has registered"
    if not await asyncio.to_thread(bls.verify, [key], digest, signature):
        return "has not signed the key sets that the chain gives: it, or our RPC endpoint, is on another chain, or lies"
    return key, signature


def shown(said: str) -> str:
    """What others have said, as it may stand in a log: short, and without control codes."""
    return "".join(each for each in said[:MAX_SAID] if each.isprintable())


def signed_in(body: bytes) -> tuple[bytes, bytes]:
    """Key and signature in a verifier's answer. Raises InvalidInput."""
    try:
        document = json.loads(body)
        key, signature = (bytes.fromhex(document[name].removeprefix("0x")) for name in ("key", "signature"))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise InvalidInput(f"its answer is no hand-over ({type(error).__name__})") from None
    if len(key) != bls.KEY_BYTES or len(signature) != bls.SIGNATURE_BYTES:
        raise InvalidInput("its answer is no hand-over: no key of 256 bytes and signature of 128")
    return key, signature


def handover_json(
    source: Source, current: Mapping[str, Any], following: Mapping[str, Any], key: bytes, signature: bytes
) -> dict[str, Any]:
    """What a verifier serves: `signed_in` reads it. The key sets are for people; nobody believes them."""
    return {
        "chainId": source.chain_id,
        "batches": source.batches,
        "from": dict(current),
        "to": dict(following),
        "key": "0x" + key.hex(),
        "signature": "0x" + signature.hex(),
    }


async def body_of(url: str, most_bytes: int, seconds: float) -> bytes:
    """The body of a good answer. Raises NodeError."""
    return (await bounded.ask(url, most_bytes, seconds)).good()
