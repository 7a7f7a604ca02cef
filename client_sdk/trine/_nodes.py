"""Which models there are, and who serves them: asked of the chain, and remembered for a while."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection

from trine._choosing import PREFERENCES, Candidate, Preference, Speeds, ranked
from trine.chain import Chain, ModelEntry, Role
from trine.errors import InvalidInput, NotReady

MODEL_SECONDS = 300.0
"""Its price may change, and what is registered."""
CHOICE_SECONDS = 60.0
"""Reputations move slowly."""
REST_SECONDS = 60.0
"""A node that did not answer is not the first to be asked for so long."""
PAGES = 4
"""Of the directory, 256 operators each."""
DEPOSITS_LOOKED_AT = 16
"""Nodes, the best ones, of which the chain is asked what the account has with them."""


class Nodes:
    """Thread-safe."""

    def __init__(self, chain: Chain, node: str | None, prefer: Preference = "reputation") -> None:
        """`node`: the endpoint that alone is asked. Raises InvalidInput."""
        if prefer not in PREFERENCES:
            raise InvalidInput(f"prefer must be one of {', '.join(PREFERENCES)}, not {prefer!r:.64}")
        self.chain = chain
        self.speeds = Speeds()
        self._prefer = prefer
        self._node = node
        self._models: dict[str | None, tuple[float, ModelEntry]] = {}
        self._lock = threading.Lock()
        self._choices: dict[bytes, tuple[float, list[tuple[str, str]]]] = {}
        self._scores: dict[str, int] = {}
        self._resting: dict[str, float] = {}  # until when, by the monotonic clock
        self._avoided: dict[str, float] = {}  # the same; these are asked nothing
        self._covered: dict[str, int] = {}  # what deposits with nodes cover, when last looked

    def model(self, name: str | None) -> ModelEntry:
        """The newest model of that name, or the only one. Raises InvalidInput listing what exists."""
        known = self.remembered_model(name)
        if known is not None:
            return known
        asked = name
        models = {model.name: model for model in self.chain.models()}
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name is None or name not in models:
            raise InvalidInput(f"no model {name!r}; registered: {', '.join(sorted(models)) or 'none'}")
        with self._lock:
            self._models[asked] = time.monotonic(), models[name]
        return models[name]

    def remembered_model(self, name: str | None) -> ModelEntry | None:
        """As `model`, without asking the chain; None where that must be asked."""
        with self._lock:
            at, known = self._models.get(name, (-math.inf, None))
        return known if known and time.monotonic() - at < MODEL_SECONDS else None

    def nodes(self, model: ModelEntry, at_most_pages: int | None = None) -> list[tuple[str, str]]:
        """(address, endpoint) of calibrated nodes with an endpoint, best reputation first; of so many pages, or all."""
        listed = self.chain.operators(model.model_id, Role.NODE, at_most_pages)
        serving = [entry for entry in listed if entry.calibrated and entry.endpoint]
        serving.sort(key=lambda entry: (-entry.score_bps, entry.operator))
        with self._lock:
            self._scores = {entry.operator: entry.score_bps for entry in serving}
        return [(entry.operator, entry.endpoint) for entry in serving]

    def choose(self, model: ModelEntry, avoided: Collection[str] = ()) -> tuple[str, str]:
        """(address, endpoint) of the node to ask, none of those that are to be avoided; for a minute the same one.

        Raises NotReady.
        """
        chosen = self._best_of(self._candidates(model), avoided)
        if chosen is not None:
            return chosen
        where = f" at {self._node}" if self._node else ""
        others = ", ".join(endpoint for _, endpoint in self.nodes(model, PAGES)[:5])
        raise NotReady(f"no calibrated node{where} serves {model.name!r}" + (f"; these do: {others}" if others else ""))

    def place_now(self, model: ModelEntry, place: tuple[str, str]) -> tuple[str, str]:
        """(address, endpoint) of a node that was there: it may have moved since, and may be listed no more."""
        node, url = place
        return node, dict(self._candidates(model)).get(node, url)

    def remembered_choice(self, model: ModelEntry, avoided: Collection[str] = ()) -> tuple[str, str] | None:
        """As `choose`, without asking the chain; None where that must be asked."""
        with self._lock:
            at, known = self._choices.get(model.model_id, (-math.inf, []))
        return self._best_of(known, avoided) if time.monotonic() - at < CHOICE_SECONDS else None

    def _best_of(self, serving: list[tuple[str, str]], avoided: Collection[str]) -> tuple[str, str] | None:
        now = time.monotonic()
        with self._lock:
            left = [p for p in serving if p[0] not in avoided and self._avoided.get(p[0].lower(), 0.0) <= now]
            awake = [place for place in left if self._resting.get(place[0], 0.0) <= now]
        return self._first(awake or left)

    def _first(self, places: list[tuple[str, str]]) -> tuple[str, str] | None:
        """Of these, which are in the order of their reputation."""
        if self._prefer == "reputation" or not places:
            return next(iter(places), None)
        candidates = [
            Candidate(node, url, self._scores.get(node, 0), self._covered.get(node, 0) > 0, self.speeds.of(node))
            for node, url in places
        ]
        best = ranked(candidates, self._prefer)[0]
        return best.node, best.url

    def has_other(self, model: ModelEntry, avoided: Collection[str]) -> bool:
        """Whether there is a node besides those, as far as is known without asking the chain."""
        with self._lock:
            _, known = self._choices.get(model.model_id, (0.0, []))
            now, out = time.monotonic(), self._avoided
            return any(a not in avoided and out.get(a.lower(), 0.0) <= now for a, _ in known)

    def _candidates(self, model: ModelEntry) -> list[tuple[str, str]]:
        """Who may be asked, best first: one, where a certain one is wanted. Remembered for a minute."""
        with self._lock:
            at, known = self._choices.get(model.model_id, (-math.inf, []))
        if known and time.monotonic() - at < CHOICE_SECONDS:
            return known
        # Of a crowd a few are enough to choose from, unless a certain one is wanted or none of them serves.
        for at_most_pages in (PAGES, None):
            serving = self.nodes(model, at_most_pages)
            if self._node is not None:
                serving = [place for place in serving if place[1].rstrip("/") == self._node.rstrip("/")][:1]
            if serving:
                if self._prefer == "price" and self.chain.has_account:
                    self._look_at_deposits([node for node, _ in serving[:DEPOSITS_LOOKED_AT]])
                with self._lock:
                    self._choices[model.model_id] = time.monotonic(), serving
                return serving
        return []

    def _look_at_deposits(self, nodes: list[str]) -> None:
        for node in nodes:
            account = self.chain.account(self.chain.address, node)
            self._covered[node] = account.collected + account.firm if account.firm else 0

    def rest(self, node: str) -> None:
        """It did not answer: others come first for a while."""
        with self._lock:
            self._resting = {each: until for each, until in self._resting.items() if until > time.monotonic()}
            self._resting[node] = time.monotonic() + REST_SECONDS

    def avoid(self, node: str, seconds: float) -> None:
        """It is asked nothing for so long."""
        until = time.monotonic() + seconds
        with self._lock:
            self._avoided = {each: end for each, end in self._avoided.items() if end > time.monotonic()}
            self._avoided[node.lower()] = until

    def forget_nodes(self) -> None:
        """One does not answer: the chain is asked again who serves."""
        with self._lock:
            self._choices.clear()
