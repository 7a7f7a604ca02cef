"""Evidence from whoever shows it: the node first, then others who have a seat. What one shows to one it shows to all.

Everything is checked against the root, leaf by leaf, before it is used or kept, so a leaf that one source shows
completes what another has shown. Nobody is believed, and whoever sends garbage, drips or sends without end costs its
share of the time and is asked last from then on. What is good is kept at once, for the others who ask (`kept`).
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from trine.chain import Batch, Chain
from trine.errors import InvalidInput, NodeError, NodeUnreachable, TrineError
from trine.protocol import merkle
from trine.protocol.evidence import Anchor, Evidence, leaves_fault, missing
from trine.sealed import SealedAsking
from trine_verifier.duties import MIN_FETCH_SECONDS, Listening
from trine_verifier.evidence import MAX_BYTES, Lines, NotServed, NotShown, Shown, ShownLeaf, Source, fetch, fetch_leaf
from trine_verifier.kept import AT_ONCE
from trine_verifier.store import VerifierStore

log = structlog.get_logger()

FEW = 8
"""So many leaves, at most, are asked for one by one."""
FAULTS = 16
"""After so many leaves that are not good nothing else that another seat sends is looked at: honest ones send none."""
FOUND_AGAIN_SECONDS = 60.0
"""Who else has a seat, and where, is asked of the chain so often."""
REMEMBERED = 1024
NOT_SHOWN = "not shown in time, by nobody"


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch as far as it was shown; `shown` is None while not even its leaves are known. `why` is for people."""

    shown: Shown | None
    missing: int
    why: str


@dataclass(frozen=True, slots=True)
class GatheredLeaf:
    """The same of one leaf."""

    shown: ShownLeaf | None
    why: str


class Gathering:
    """For one verifier account. Thread-safe: checks run in many threads."""

    def __init__(
        self,
        chain: Chain,
        store: VerifierStore,
        clock: Callable[[], float] = time.monotonic,
        *,
        sealed: bool = True,
    ) -> None:
        """`clock` is in seconds. Without `sealed` others are asked openly."""
        self._asking = SealedAsking(chain) if sealed else None
        self._chain = chain
        self._store = store
        self._clock = clock
        self._failures: Counter[Source] = Counter()  # one who names another's endpoint spoils only its own
        self._found: dict[tuple[bytes, int | None], tuple[float, list[Source]]] = {}

    def batch(self, batch: Batch, anchor: Anchor, patience: Listening) -> Gathered:
        """What there is of the batch after asking, for as long as `patience` says, for what was not there yet."""
        pile = _Pile(batch, anchor, self._store)
        if pile.wanted:
            self._try(pile, None, patience.node)
        if pile.wanted and patience.others:
            self._ask_others(batch, None, patience.others, lambda source, s: self._try(pile, source, s))
        return pile.gathered()

    def leaf(self, batch: Batch, leaf: int, anchor: Anchor, patience: Listening) -> GatheredLeaf:
        """One leaf, for the committee of its appeal."""
        kept = self._kept_leaf(batch.batch_id, leaf)
        if kept:
            return GatheredLeaf(kept, "")
        found: list[ShownLeaf] = []
        why: list[str] = []

        def ask(source: Source | None, seconds: float) -> bool:
            try:
                shown = fetch_leaf(self._chain, batch, leaf, seconds, source, self._asking)
                fault = _leaf_fault(shown, leaf, anchor)
                if fault:
                    raise InvalidInput(fault)
            except (NodeError, InvalidInput) as error:
                why.append(str(error))
                self._note_failure(source, error)
                return False
            found.append(shown)
            self._store.kept.keep_leaf(batch.batch_id, leaf, shown.answer, shown.proof)
            return True

        if not ask(None, patience.node) and patience.others:
            self._ask_others(batch, leaf, patience.others, ask)
        return GatheredLeaf(found[0], "") if found else GatheredLeaf(None, why[0])

    # How

    def _ask_others(self, batch: Batch, leaf: int | None, seconds: float, ask: Callable[[Source, float], bool]) -> None:
        """Until `ask` says that nothing is wanted any more. Each has its share of the time that is left."""
        sources = self._others(batch, leaf)
        until = self._clock() + seconds
        for number, source in enumerate(sources):
            left = until - self._clock()
            if left <= 0:
                return
            share = max(left / (len(sources) - number), min(left, MIN_FETCH_SECONDS))
            if ask(source, share):
                return

    def _try(self, pile: _Pile, source: Source | None, seconds: float) -> bool:
        """Asks one source for what is missing. Whether nothing is any more."""
        try:
            if pile.leaves and len(pile.wanted) <= FEW:
                self._try_leaves(pile, source, seconds)
            else:
                shown = fetch(self._chain, pile.batch, seconds, source, self._asking)
                pile.learn(shown.leaves)
                pile.add(enumerate(shown.answers), None if source is None else FAULTS)
        except (NodeError, InvalidInput) as error:
            pile.why = pile.why or str(error)
            self._note_failure(source, error)
        return not pile.wanted

    def _try_leaves(self, pile: _Pile, source: Source | None, seconds: float) -> None:
        """Raises NodeUnreachable, which would only repeat itself; InvalidInput or NodeError in the end."""
        until = self._clock() + seconds
        failure: NodeError | InvalidInput | None = None
        for leaf in pile.wanted:
            left = until - self._clock()
            if left <= 0:
                break
            try:
                shown = fetch_leaf(self._chain, pile.batch, leaf, left, source, self._asking)
                pile.add([(leaf, shown.answer)], None)
            except NodeUnreachable:
                raise
            except (NodeError, InvalidInput) as error:
                failure = failure or error
        if failure:
            raise failure

    def _note_failure(self, source: Source | None, error: Exception) -> None:
        """Of who took our time; whoever has nothing yet may have it later."""
        if source is not None and not isinstance(error, NotServed):
            self._failures[source] += 1
            while len(self._failures) > REMEMBERED:
                self._failures.pop(next(iter(self._failures)), None)

    def _others(self, batch: Batch, leaf: int | None) -> list[Source]:
        """All others who may have it; those that failed least first, else in no order."""
        key = (batch.batch_id, leaf)
        at, sources = self._found.get(key, (0.0, []))
        if not sources or self._clock() > at + FOUND_AGAIN_SECONDS:
            sources = self._sources_of(batch, leaf)
            self._found[key] = self._clock(), sources
            while len(self._found) > REMEMBERED:
                self._found.pop(next(iter(self._found)), None)
        return sorted(sources, key=lambda each: (self._failures[each], random.random()))  # noqa: S311

    def _sources_of(self, batch: Batch, leaf: int | None) -> list[Source]:
        try:
            drawn = drawn_for(self._chain, batch, leaf)
            me = self._chain.address
            with self._chain.reading_ahead([("Staking", "endpointOf", (each,)) for each in drawn]):
                found = [Source(each, self._chain.endpoint_of(each)) for each in drawn if each != me]
            ours = ("", self._chain.endpoint_of(me))
            return [source for source in found if source.endpoint not in ours]
        except TrineError as error:  # the node may still show it
            log.info("others_not_found", batch=batch.batch_id.hex(), error=str(error))
            return []

    def _kept_leaf(self, batch_id: bytes, leaf: int) -> ShownLeaf | None:
        kept = self._store.kept.answer_at(batch_id, leaf)
        if kept is None:
            return None
        (answer,) = Lines([kept.document.encode()])
        return ShownLeaf(kept.proof, answer) if isinstance(answer, Evidence) else None


class _Pile:
    """What is known to be good of a batch; begins with what this verifier keeps of it."""

    def __init__(self, batch: Batch, anchor: Anchor, store: VerifierStore) -> None:
        self.batch = batch
        self.why = ""
        self._anchor = anchor
        self._kept = store.kept
        self.leaves: Sequence[bytes] = store.kept.leaves_of(batch.batch_id) or ()
        self._good: dict[int, bytes] = {}
        if self.leaves:
            documents = store.kept.documents_of(batch.batch_id, len(self.leaves))
            self._good = {leaf: each.encode() for leaf, each in enumerate(documents) if each != "null"}
        self._size = sum(map(len, self._good.values()))

    @property
    def wanted(self) -> list[int]:
        return [leaf for leaf in range(self._anchor.leaf_count) if leaf not in self._good]

    def learn(self, leaves: list[bytes]) -> None:
        """Raises InvalidInput for leaves that do not lead to the root."""
        if not self.leaves:
            if fault := leaves_fault(leaves, self._anchor):
                raise InvalidInput(fault)
            self.leaves = leaves

    def add(self, answers: Iterable[tuple[int, Evidence | InvalidInput]], max_faults: int | None) -> None:
        """Takes and keeps what is good of it. Raises InvalidInput for what is not, at the end or after so many."""
        some: dict[int, Evidence] = {}
        faults: list[str] = []
        for leaf, answer in answers:
            if leaf >= len(self.leaves) or leaf in self._good or isinstance(answer, NotShown):
                continue
            if max_faults is not None and len(faults) >= max_faults:
                break
            fault = str(answer) if isinstance(answer, InvalidInput) else self._take(leaf, answer)
            if fault is not None:
                faults.append(f"leaf {leaf}: {fault}")
            elif isinstance(answer, Evidence):
                some[leaf] = answer
            if len(some) >= AT_ONCE:
                self._keep(some)
                some = {}
        self._keep(some)
        if faults:
            raise InvalidInput(f"{faults[0]} ({len(faults)} leaves are not what the root fixed)")

    def gathered(self) -> Gathered:
        why = self.why or NOT_SHOWN
        if not self.leaves:
            return Gathered(None, self._anchor.leaf_count, why)
        leaves = range(self._anchor.leaf_count)
        lines = Lines([self._good.get(leaf) or NotShown(f"{NOT_SHOWN}: {why}") for leaf in leaves])
        return Gathered(Shown(list(self.leaves), lines, is_good=True), len(self.wanted), why)

    def _take(self, leaf: int, answer: Evidence) -> str | None:
        """What is wrong with the answer, or None if it is the leaf."""
        if fault := missing(answer, leaf, self.leaves[leaf], self._anchor):
            return fault
        line = json.dumps(answer.to_json(), separators=(",", ":")).encode()
        if self._size + len(line) > MAX_BYTES:
            return f"the batch has more than {MAX_BYTES} bytes"
        self._size += len(line)
        self._good[leaf] = line
        return None

    def _keep(self, some: dict[int, Evidence]) -> None:
        if some:
            self._kept.keep(self.batch.batch_id, some, self.leaves)


def anchor_of(chain: Chain, batch: Batch) -> Anchor:
    """What evidence of the batch is checked against. Raises NotReady for a batch that the chain does not know."""
    header = batch.known_header
    return Anchor(
        chain.domain,
        header.node,
        header.model_id,
        header.root,
        batch.leaf_count,
        posted=lambda request_id: chain.posted_request(request_id),
    )


def drawn_for(chain: Chain, batch: Batch, leaf: int | None = None) -> list[str]:
    """All who may have been shown a batch, or the leaf of it that was appealed: its committees, those of the appeal."""
    found = dict.fromkeys(seat.verifier for seat in chain.seats(batch))
    kinds: list[tuple[str, str, dict[str, Any]]] = []
    if batch.round > 0:
        kinds.append(("Batches", "CommitteeDrawn", {"batchId": batch.batch_id}))
    if leaf is not None:
        kinds.append(("Appeals", "AppealDrawn", {"batchId": batch.batch_id, "leafIndex": leaf}))
    for contract, name, which in kinds:
        for event in chain.events(contract, name, from_block=chain.anchoring(batch.batch_id).block, **which):
            found |= dict.fromkeys(seat["verifier"] for seat in event.args["seats"])
    return list(found)


def _leaf_fault(shown: ShownLeaf, leaf: int, anchor: Anchor) -> str | None:
    hashed = merkle.leaf_hash(leaf, shown.answer.receipt)
    if not merkle.verify(anchor.root, hashed, shown.proof):
        return "the answer shown is not the anchored leaf"
    return missing(shown.answer, leaf, hashed, anchor)
