"""Takes a calibration challenge: for nodes and verifiers alike.

Commits to a secret, reveals it when the seed block is there, answers the prompts that follow from both with the
operator's own engine, seals them as a batch and waits for the committee. The batcher must be running: it anchors the
batch and sees it through. After a restart it goes on with the challenge that was open: the chain knows it, the
operator's key its secret, the store its answers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

import structlog

from trine.chain import Batch, BatchState, Chain, Challenge, Model, Role
from trine.errors import InvalidInput, NotReady, TrineError
from trine.protocol.calibration import challenge_prompts, commitment
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import Input
from trine.protocol.messages import engine_class_bytes
from trine_operator.loops import Blocks
from trine_operator.store import Store, sealed_batch

log = structlog.get_logger()

PATIENCE_SECONDS = 10.0
STALL_SECONDS = 600.0
"""A chain that has had no block for so long stands still; a committee may be slow for as long as it has blocks."""
TIME_TO_ANSWER_SECONDS = 120
"""A challenge with less time left is let go."""
SEED_LIFETIME_BLOCKS = 250
"""The chain forgets a seed that was not stored within 256 blocks."""
NOTED_LOOKS = 5
"""At so many blocks the chain is asked for what must follow from a verdict that it shows."""
MISCOUNT = 4
"""By so many challenges our count of them may have been wrong when one was asked for."""


class CalibrationRejected(TrineError):
    """The committee did not accept every answer."""


class Resume(Enum):
    """What to do about the newest challenge."""

    ASK_ANEW = "ask anew"
    ANSWER = "answer"
    AWAIT_RESULT = "await result"


def resume(challenge: Challenge, stored_state: str | None, block: int, now: int) -> Resume:
    """`stored_state` is that of the batch in our store that answers the challenge; None without one."""
    if stored_state in ("sealed", "anchored"):
        return Resume.AWAIT_RESULT
    if stored_state is not None or any(challenge.batch_id):
        return Resume.ASK_ANEW
    in_time = now + TIME_TO_ANSWER_SECONDS <= challenge.deadline
    seeded = any(challenge.seed) or block <= challenge.seed_block + SEED_LIFETIME_BLOCKS
    return Resume.ANSWER if in_time and seeded else Resume.ASK_ANEW


AnswerPrompt = Callable[[Input], tuple[bytes, Evidence]]
"""An answer's digest and evidence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who takes the test, with what."""

    chain: Chain
    store: Store
    model: Model
    engine_class: str
    answer: AnswerPrompt


@dataclass(frozen=True, slots=True)
class Opened:
    """A challenge of ours and the secret that it is sealed with."""

    challenge_id: bytes
    secret: bytes


def calibrate(
    candidate: Candidate,
    role: Role,
    blocks: Blocks,
    *,
    stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda state: None,
) -> None:
    """Returns once the chain holds a valid calibration. Raises CalibrationRejected or NotReady.

    `tell` hears how far it is.
    """
    chain, model, store = candidate.chain, candidate.model, candidate.store
    if chain.is_calibrated(chain.address, role, model.model_id):
        return
    tell("asks for a challenge")
    opened = _open_challenge(candidate, role) or _asked(candidate, role)
    batch = store.batch_of_challenge(opened.challenge_id)
    batch_id = batch.batch_id if batch else _answer_challenge(candidate, opened, blocks, stopped, tell)

    def over() -> bool:
        kept = store.batch(batch_id)
        judged = chain.batch(batch_id)
        tell(judged.progress)
        given_up = kept is not None and kept.state == "void"
        return given_up or judged.state in (BatchState.SETTLED, BatchState.FINAL, BatchState.VOID)

    looks = itertools.count(1)

    def noted() -> bool:
        """An endpoint can show the verdict before it shows what came of it."""
        if chain.is_calibrated(chain.address, role, model.model_id):
            return True
        return not _is_passed(chain.batch(batch_id)) or next(looks) > NOTED_LOOKS

    _wait(over, blocks, stopped, "the committee's verdict on the calibration")
    _wait(noted, blocks, stopped, "the chain to note the calibration")
    if not chain.is_calibrated(chain.address, role, model.model_id):
        raise CalibrationRejected(_why(chain.batch(batch_id)))
    log.info("calibrated", role=role.name.lower())


def _class_of(candidate: Candidate) -> bytes:
    """Raises InvalidInput for an engine that the model's policy has no bounds for."""
    word = engine_class_bytes(candidate.engine_class)
    known = candidate.chain.classes_of(candidate.model.model_id)
    if word not in known:
        names = ", ".join(each.rstrip(b"\0").decode("ascii", "replace") for each in known)
        raise InvalidInput(
            f"the model's policy does not know engines of class {candidate.engine_class}: run one of {names}"
        )
    return word


def _asked(candidate: Candidate, role: Role) -> Opened:
    """A new challenge."""
    chain, model_id = candidate.chain, candidate.model.model_id
    secret = chain.calibration_secret(model_id, role, len(_challenges(candidate, role)))
    challenge_id = chain.request_calibration(model_id, role, _class_of(candidate), secret)
    log.info("calibration_requested", role=role.name.lower(), challenge=challenge_id.hex())
    return Opened(challenge_id, secret)


def _open_challenge(candidate: Candidate, role: Role) -> Opened | None:
    """Our newest challenge, if it can still be passed."""
    chain, store = candidate.chain, candidate.store
    ids = _challenges(candidate, role)
    if not ids:
        return None
    kept = store.batch_of_challenge(ids[-1])
    challenge = chain.challenge(ids[-1])
    todo = resume(challenge, kept.state if kept else None, chain.contracts_block_number(), chain.timestamp())
    secret = secret_of(candidate, role, challenge, len(ids) - 1)
    if todo is Resume.ASK_ANEW or secret is None:
        return None
    log.info("calibration_resumed", role=role.name.lower(), challenge=ids[-1].hex(), todo=todo.value)
    return Opened(ids[-1], secret)


def _challenges(candidate: Candidate, role: Role) -> list[bytes]:
    """The ids of ours in the role, oldest first."""
    chain = candidate.chain
    asked = chain.events("Calibration", "ChallengeRequested", operator=chain.address, modelId=candidate.model.model_id)
    return [bytes(event.args["challengeId"]) for event in asked if event.args["role"] == role]


def secret_of(candidate: Candidate, role: Role, challenge: Challenge, number: int) -> bytes | None:
    """What the challenge was committed to; None if it was asked for by other means than ours.

    It was the `number`-th, by the events that were known when it was asked for: there may have been fewer, or more
    that a rollback has taken back.
    """
    for each in sorted(range(max(0, number - MISCOUNT), number + MISCOUNT + 1), key=lambda n: abs(n - number)):
        secret = candidate.chain.calibration_secret(candidate.model.model_id, role, each)
        if commitment(secret) == challenge.commitment:
            return secret
    return None


def _answer_challenge(
    candidate: Candidate,
    opened: Opened,
    blocks: Blocks,
    stopped: Callable[[], bool],
    tell: Callable[[str], None],
) -> bytes:
    """Answers and seals; returns the batch's id."""
    chain = candidate.chain
    challenge = chain.challenge(opened.challenge_id)
    tell("waits for its prompts to be drawn")
    _wait(lambda: chain.contracts_block_number() > challenge.seed_block, blocks, stopped, "the seed block")
    _wait(partial(_is_sealed, chain, opened), blocks, stopped, "the seed")
    seed = chain.seal_calibration(opened.challenge_id, opened.secret)
    model = candidate.model
    prompts = challenge_prompts(model.prompts, model.prompt_count, seed, opened.challenge_id, challenge.leaves)
    answers = []
    for number, prompt in enumerate(prompts, 1):
        tell(f"answers prompt {number} of {len(prompts)}")
        answers.append(candidate.answer(prompt))
    return _seal(candidate, answers, opened.challenge_id)


def _is_sealed(chain: Chain, opened: Opened) -> bool:
    """Once the challenge has its seed. A beacon that does not answer is asked again at the next block."""
    try:
        return any(chain.seal_calibration(opened.challenge_id, opened.secret))
    except NotReady as error:
        log.info("seed_missing", challenge=opened.challenge_id.hex(), reason=str(error))
        return False


def _seal(candidate: Candidate, answers: list[tuple[bytes, Evidence]], challenge_id: bytes) -> bytes:
    chain, store = candidate.chain, candidate.store
    evidence = [evidence for _, evidence in answers]
    batch = sealed_batch(chain.domain, chain.address, candidate.model.model_id, evidence, challenge_id)
    store.seal_new(batch, answers)
    return batch.batch_id


def _is_passed(batch: Batch) -> bool:
    return batch.is_decided and all(batch.result(leaf) == "accept" for leaf in range(batch.leaf_count))


def _why(batch: Batch) -> str:
    if batch.state == BatchState.NONE:
        return "the calibration's answers came too late to be anchored: try again"
    if batch.state == BatchState.VOID:
        return "no committee judged the calibration: try again"
    results = [batch.result(leaf) for leaf in range(batch.leaf_count)]
    if _is_passed(batch):
        return (
            f"all {len(results)} calibration answers were accepted, but the chain does not take this operator for "
            "calibrated: check that its own stake is no less than the role's minimum (`trine stake show`)"
        )
    return (
        f"{results.count('accept')} of {len(results)} calibration answers were accepted, {results.count('reject')} "
        "rejected: check that the model's files and this machine's arithmetic are what the registry's policy expects"
    )


def _wait(done: Callable[[], bool], blocks: Blocks, stopped: Callable[[], bool], what: str) -> None:
    seen, moved = -1, time.monotonic()
    while not done():
        if stopped():
            raise NotReady(f"stopped while waiting for {what}")
        newest = blocks.wait(seen, PATIENCE_SECONDS)
        if newest != seen:
            seen, moved = newest, time.monotonic()
        elif time.monotonic() - moved > STALL_SECONDS:
            raise NotReady(f"{what}: the chain has had no block for {STALL_SECONDS:.0f} s")
