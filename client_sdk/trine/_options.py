"""What may be said of an order, and of a client: the same names wherever orders are made."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

from trine._ordering import Drawing, Messages, as_input
from trine.errors import InvalidInput
from trine.protocol.inputs import Input
from trine.protocol.sampling import DRAWN_SEEDS

DEFAULT_MAX_TOKENS = 256
DEFAULT_TIMEOUT_SECONDS = 600.0
CERTIFICATE_TIMEOUT_SECONDS = 900.0
MAX_KEY_CHARACTERS = 255


Wait = bool | Literal["final"]
"""For the certificate: True until verifiers have voted, "final" until no appeal can change it."""


class Options(Drawing, total=False):
    """What may be said of an order beside its messages. All of it can be left out.

    The answer is greedy, unless there is a `temperature`, of up to 2: then tokens are drawn, bounded by `top_p`,
    `top_k` and `min_p`, by a `seed` that is signed, too: the given one, or one that is drawn here, which
    `Answer.sampling` tells. `tools` are functions that the model may call, as OpenAI describes them: what it calls is
    in `Answer.tool_calls`.
    """

    model: str | None
    """Name of a registered model; needed where there are several."""
    max_tokens: int
    """Longest answer, 256 by default. The worst price is for all of them."""
    stop: Sequence[str]
    """The text ends before the first of these, four at most."""
    without: Collection[str]
    """Addresses of nodes that are not asked."""
    timeout: float | None
    """Seconds for this order, instead of the client's."""
    max_cost_wei: int | None
    """What the order may cost, all nodes that are asked together. It is signed: no node can collect more."""
    hedge_after: float | None
    """Seconds without a first text after which a second node is asked; the sooner one's text is taken, the other is
    left. Both could be paid, so it needs a `max_cost_wei` that covers both: twice `worst_fee_wei`."""
    idempotency_key: str | None
    """A name for this order, of 1 to 255 characters. The same call with the same name sends the same order again, or
    has the same answer, which is paid for once. A client remembers its last 1,024 names for as long as it lives, and
    with `state=` in a file: without one the name is a new order's after a restart, or with another client, and that is
    paid for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order as it is wanted, before there is a node."""

    input: Input
    model: str | None
    max_tokens: int
    without: frozenset[str] = frozenset()
    timeout: float | None = None
    max_cost_wei: int | None = None
    hedge_after: float | None = None
    idempotency_key: str | None = None
    draws_seed: bool = False  # the seed was drawn here, because none was named

    @property
    def question(self) -> bytes:
        """Whether two orders with one name ask the same: one that names no seed asks for any."""
        asked, drawn = self.input, self.input.sampling
        if self.draws_seed and drawn is not None:
            asked = replace(asked, sampling=replace(drawn, seed=DRAWN_SEEDS.start))
        said = [asked.hash().hex(), str(self.max_tokens), f"{self.model}", *(["any seed"] if self.draws_seed else [])]
        return "\n".join(said).encode()


def wanted(
    messages: Messages,
    *,
    model: str | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    stop: Sequence[str] = (),
    without: Collection[str] = (),
    timeout: float | None = None,
    max_cost_wei: int | None = None,
    hedge_after: float | None = None,
    idempotency_key: str | None = None,
    **drawing: Unpack[Drawing],
) -> Wanted:
    """Raises InvalidInput, and TypeError for an option that is none."""
    if not isinstance(messages, str | Sequence | Input):
        raise InvalidInput("messages must be a text or a list of messages, each with a role and content")
    _require_number("max_tokens", max_tokens, int, 1)
    _require_number("timeout", timeout, float, 0)
    _require_number("max_cost_wei", max_cost_wei, int, 0)
    _require_number("hedge_after", hedge_after, float, 0)
    if hedge_after is not None and max_cost_wei is None:
        raise InvalidInput(
            "hedge_after may have two nodes paid for one question: say by max_cost_wei what they may cost together, "
            "twice `worst_fee_wei(…)` for instance"
        )
    is_name = isinstance(idempotency_key, str) and 1 <= len(idempotency_key) <= MAX_KEY_CHARACTERS
    if idempotency_key is not None and not is_name:
        raise InvalidInput(f"an idempotency_key is a text of 1 to {MAX_KEY_CHARACTERS} characters")
    addresses = frozenset([without] if isinstance(without, str) else without)
    asked = as_input(messages, stop, **drawing)
    draws_seed = bool(drawing.get("temperature")) and drawing.get("seed") is None
    return Wanted(asked, model, max_tokens, addresses, timeout, max_cost_wei, hedge_after, idempotency_key, draws_seed)


def _require_number(name: str, value: Any, kind: type[int | float], least: int) -> None:
    """None is for what is left out. Raises InvalidInput."""
    if value is None and name != "max_tokens":
        return
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
        what = "a whole number" if kind is int else "seconds"
        raise InvalidInput(f"{name} is {value!r:.64}, expected {what} from {least} on")
