"""An index of many answers, by the buckets of locality-sensitive hashing: which of them agree with this one?

Finds copies, and the answers worth comparing, without comparing all. Holds signatures only; decides nothing.
"""

from __future__ import annotations

from datasketch import MinHashLSH  # type: ignore[import-untyped]

from trine.errors import InvalidInput
from trine_research.text.signature import PERMUTATIONS, Signature

BANDS = 32
ROWS = PERMUTATIONS // BANDS
"""An answer of Jaccard index j shares a bucket with a chance of 1 - (1 - j^8)^32: 0.12 at 0.5, 0.997 at 0.8."""
MAX_ANSWERS = 1 << 20


class AnswerIndex:
    """Signatures of one model by name."""

    def __init__(self) -> None:
        self._buckets = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
        self._signatures: dict[str, Signature] = {}
        self._tag: bytes | None = None

    def __len__(self) -> int:
        return len(self._signatures)

    def add(self, name: str, signature: Signature) -> None:
        """Raises InvalidInput for a name twice, another model's signature or a full index."""
        if name in self._signatures:
            raise InvalidInput(f"an answer named {name!r} is in the index already")
        if len(self._signatures) >= MAX_ANSWERS:
            raise InvalidInput(f"the index is full: it holds {MAX_ANSWERS} answers")
        self._require_model(signature)
        self._tag = signature.model_tag
        self._buckets.insert(name, signature.sketch())
        self._signatures[name] = signature

    def agreeing(self, signature: Signature, at_least: float) -> list[tuple[str, float]]:
        """(name, estimated Jaccard index) of the answers found at `at_least` or more, nearest first.

        May miss answers, rarely above 0.8 and mostly below 0.5. Raises InvalidInput.
        """
        if not 0 < at_least <= 1:
            raise InvalidInput(f"a Jaccard index to look for lies in (0, 1], not at {at_least}")
        self._require_model(signature)
        candidates = [str(name) for name in self._buckets.query(signature.sketch())]
        found = [(name, signature.jaccard(self._signatures[name])) for name in candidates]
        return sorted((pair for pair in found if pair[1] >= at_least), key=lambda pair: (-pair[1], pair[0]))

    def _require_model(self, signature: Signature) -> None:
        if self._tag not in (None, signature.model_tag):
            raise InvalidInput("the index holds answers of another model")
