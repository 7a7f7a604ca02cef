"""Many changes of a contract in one compilation, each behind a switch in the bytecode: mutant schemata (Untch 1992).

A changed expression becomes `(mutant(K) ? (changed) : (as it was))`, a dropped statement
`{ if (!mutant(K)) { statement } }`. `K` is 32 random bytes that are compared with the length of the call's data, so
that no optimizer decides: whoever writes zeros over them in the bytecode has the contract as it is, and whoever writes
ones has the changed one. Both branches must be of one type, so a changed number is switched together with what it is
reckoned with. Modifiers, constants and what overlaps stay without a switch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mutations import Mutant, changes_of, end_of, start_of

SWITCH = """
function mutant(uint256 key) pure returns (bool on) {
    assembly ("memory-safe") {
        on := lt(calldatasize(), key)
    }
}
"""
_STATEMENTS = ("ExpressionStatement", "EmitStatement")
_CONVERSIONS = ("ElementaryTypeNameExpression",)


@dataclass(frozen=True, slots=True)
class Schema:
    """A source with switches. `places`: of each mutant that has one, the bytes of the source that it is switched in."""

    source: bytes
    keys: dict[Mutant, str]
    places: dict[Mutant, tuple[int, int]]

    def within(self, at: int) -> Mutant | None:
        """The mutant whose switch is at a byte of the source."""
        return next((mutant for mutant, (start, end) in self.places.items() if start <= at < end), None)


def schema(source: bytes, tree: dict[str, Any], mutants: Sequence[Mutant]) -> Schema:
    """With as many of these mutants of one file as can be switched without overlapping, the first ones first."""
    regions = {(start, end, new): region for start, end, new, region in _regions(tree, source)}
    taken: list[tuple[int, int, Mutant, bool]] = []
    for mutant in mutants:
        region = regions.get((mutant.start, mutant.end, mutant.new))
        if region is None or any(region[0] < end and start < region[1] for start, end, _, _ in taken):
            continue
        taken.append((region[0], region[1], mutant, region[2]))
    parts: list[bytes] = []
    places: dict[Mutant, tuple[int, int]] = {}
    keys, at, length = {}, 0, 0
    for start, end, mutant, is_statement in sorted(taken, key=lambda each: each[:2]):
        # No zero in front, or the compiler would leave it out.
        key = "c" + hashlib.sha256(mutant.key(source).encode()).hexdigest()[1:]
        on, before = f"mutant(0x{key})".encode(), source[start:end]
        if is_statement:
            switched = b"{ if (!%s) { %s } }" % (on, before)
        else:
            after = source[start : mutant.start] + mutant.new.encode() + source[mutant.end : end]
            switched = b"(%s ? (%s) : (%s))" % (on, after, before)
        parts += [source[at:start], switched]
        length += start - at
        places[mutant] = (length, length + len(switched))
        length += len(switched)
        at = end
        keys[mutant] = key
    return Schema(b"".join(parts) + source[at:] + SWITCH.encode(), keys, places)


def _regions(tree: dict[str, Any], source: bytes) -> Iterator[tuple[int, int, str, tuple[int, int, bool]]]:
    """Changes in functions, with the bytes that are switched and whether they are a statement."""
    for function in _functions(tree):
        for path in _paths(function["body"], ()):
            node = path[-1]
            for start, end, new in changes_of(node, source):
                region = _region(node, path, source, end)
                if region is not None:
                    yield start, end, new, region


def _region(node: dict[str, Any], path: Sequence[Any], source: bytes, end: int) -> tuple[int, int, bool] | None:
    kind = node["nodeType"]
    if kind in _STATEMENTS:
        return start_of(node), end, True
    if kind == "IfStatement":
        return *_bytes(node["condition"]), False
    if kind == "FunctionCall":  # a `require`
        return *_bytes(node["arguments"][0]), False
    if kind not in ("BinaryOperation", "UnaryOperation", "Literal"):
        return None
    above = [each for each in path[:-1] if isinstance(each, dict)]
    found = node
    while above:
        over = above.pop()
        converts = over["nodeType"] == "FunctionCall" and over["expression"]["nodeType"] in _CONVERSIONS
        # A number alone has the type of what it is reckoned with, or turned into.
        if not _is_number(found) or not (
            over["nodeType"] in ("BinaryOperation", "TupleExpression", "UnaryOperation") or converts
        ):
            break
        found = over
    return *_bytes(found), False


def _is_number(node: dict[str, Any]) -> bool:
    """Whether it is made of numbers as they are written only, which have no type yet."""
    kind = node["nodeType"]
    if kind == "Literal":
        return bool(node["kind"] == "number")
    if kind == "UnaryOperation":
        return _is_number(node["subExpression"])
    if kind == "BinaryOperation":
        return _is_number(node["leftExpression"]) and _is_number(node["rightExpression"])
    return kind == "TupleExpression" and all(each is not None and _is_number(each) for each in node["components"])


def _bytes(node: dict[str, Any]) -> tuple[int, int]:
    return start_of(node), end_of(node)


def _functions(node: Any) -> Iterator[dict[str, Any]]:
    children = node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()
    if isinstance(node, dict) and node.get("nodeType") in ("FunctionDefinition", "ModifierDefinition"):
        if node.get("body") is not None:
            yield node
        return
    for child in children:
        yield from _functions(child)


def _paths(node: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Each node with those that it is in."""
    if isinstance(node, list):
        for each in node:
            yield from _paths(each, above)
    elif isinstance(node, dict):
        here = (*above, node) if "nodeType" in node else above
        if "nodeType" in node:
            if node["nodeType"] in ("InlineAssembly", "ArrayTypeName"):
                return
            yield here
        for child in node.values():
            yield from _paths(child, here)
