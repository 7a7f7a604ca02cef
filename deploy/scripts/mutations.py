"""What `mutants.py` changes in a contract: one operator, number, condition, statement or modifier at a time.

Operators are the usual ones of the field (Offutt's sufficient set, and Solidity's: a `require`, a modifier, a line that
is gone). Positions come from the compiler's syntax tree, so strings, comments and assembly are left alone.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SWAPS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
    "!=": "==", "&&": "||", "||": "&&", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
}  # fmt: skip
# Only parses: a whole compilation is not needed to know where operators are.
PARSE = """
import solc from "solc";
let text = "";
for await (const part of process.stdin) text += part;
const sources = JSON.parse(text);
const input = {
  language: "Solidity",
  sources: Object.fromEntries(Object.entries(sources).map(([path, content]) => [path, { content }])),
  settings: { stopAfter: "parsing", outputSelection: { "*": { "": ["ast"] } } },
};
process.stdout.write(solc.compile(JSON.stringify(input)));
"""


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """Bytes `start` to `end` of a file are `new` instead of `old`; what the lines they are in were and become, and the
    function or modifier that they are in, if any."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    before: str
    after: str
    function: str = ""

    def key(self, source: bytes) -> str:
        """Also of the file's other bytes: with another contract it is another mutant."""
        text = json.dumps([self.path, self.start, self.end, self.new]).encode() + source
        return hashlib.sha256(text).hexdigest()[:16]

    def rank(self, seed: int) -> bytes:
        """Sorting by it draws at random; a change of one contract does not draw others anew."""
        row = {**asdict(self), "line": 0, "start": 0, "end": 0, "seed": seed}
        del row["function"]
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


def mutants(paths: list[Path]) -> list[Mutant]:
    """All of these contracts, in order. Exits where the compiler cannot read one."""
    return mutants_in(parsed(paths))


def mutants_in(trees: dict[str, dict[str, Any]]) -> list[Mutant]:
    """All of contracts that are parsed, in order."""
    all_: list[Mutant] = []
    for name, tree in trees.items():
        source = (ROOT / name).read_bytes()
        functions = list(_functions(tree))
        changes = sorted(set(_changes(tree, source)))
        all_ += [_mutant(name, source, _named(functions, start), start, end, new) for start, end, new in changes]
    return all_


def parsed(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """The compiler's syntax trees, by path. Exits where the compiler cannot read one."""
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    found = _parse(json.dumps({name: source.decode() for name, source in sources.items()}).encode())
    for name in sources:
        if "ast" not in found.get("sources", {}).get(name, {}):
            sys.exit(f"{name} cannot be parsed: {found.get('errors')}")
    return {name: found["sources"][name]["ast"] for name in sources}


@cache
def _parse(sources: bytes) -> Any:
    command = ["node", "--input-type=module", "-e", PARSE]
    result = subprocess.run(command, input=sources, cwd=ROOT, capture_output=True, timeout=600, check=False)
    if result.returncode != 0:
        sys.exit(f"contracts cannot be parsed, is node_modules there? {result.stderr.decode(errors='replace')}")
    return json.loads(result.stdout)


def _functions(node: Any) -> Iterator[tuple[int, int, str]]:
    """(start, end, name) of all functions and modifiers; what has no name is called by its kind."""
    if isinstance(node, list):
        for each in node:
            yield from _functions(each)
    elif isinstance(node, dict):
        if node.get("nodeType") in ("FunctionDefinition", "ModifierDefinition"):
            yield start_of(node), end_of(node), node["name"] or node["kind"]
        for child in node.values():
            yield from _functions(child)


def _named(functions: list[tuple[int, int, str]], at: int) -> str:
    return next((name for start, end, name in functions if start <= at < end), "")


def _mutant(name: str, source: bytes, function: str, start: int, end: int, new: str) -> Mutant:
    first = source.rfind(b"\n", 0, start) + 1
    last = source.find(b"\n", end)
    before = source[first:last]
    after = source[first:start] + new.encode() + source[end:last]
    line = source[:start].count(b"\n") + 1
    old, was, becomes = source[start:end].decode(), *(" ".join(text.decode().split()) for text in (before, after))
    return Mutant(name, line, start, end, old, new, was, becomes, function)


def _changes(node: Any, source: bytes) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) in a part of the tree."""
    if isinstance(node, list):
        for each in node:
            yield from _changes(each, source)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("nodeType")
    if kind in ("InlineAssembly", "ImportDirective", "PragmaDirective", "EventDefinition", "ErrorDefinition"):
        return
    if kind == "ContractDefinition" and node["contractKind"] == "interface":
        return
    yield from changes_of(node, source)
    for name, child in node.items():
        # A loop without its step never ends: nothing to learn from, and slow.
        if name != "loopExpression":
            yield from _changes(child, source)


def changes_of(node: dict[str, Any], source: bytes) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) of one node, not of what is in it."""
    change = _KINDS.get(str(node.get("nodeType")))
    if change is not None:
        yield from change(node, source)


def _operator(node: dict[str, Any], source: bytes) -> Iterator[tuple[int, int, str]]:
    operator = node["operator"]
    if operator not in SWAPS:
        return
    left, right = end_of(node["leftExpression"]), start_of(node["rightExpression"])
    # Brackets and blanks may stand around it, and a comment would make it doubtful which one is meant.
    between = source[left:right].decode()
    if between.strip(" \n\t()") == operator:
        at = left + between.index(operator)
        yield at, at + len(operator), SWAPS[operator]


def _negation(node: dict[str, Any], _source: bytes) -> Iterator[tuple[int, int, str]]:
    if node["operator"] in ("!", "~") and node["prefix"]:
        yield start_of(node), start_of(node) + 1, ""


def _number(node: dict[str, Any], source: bytes) -> Iterator[tuple[int, int, str]]:
    if node.get("kind") == "number" and node["value"].isdecimal():
        yield start_of(node), end_of(node), f"({source[start_of(node) : end_of(node)].decode()} + 1)"


def _requirement(node: dict[str, Any], _source: bytes) -> Iterator[tuple[int, int, str]]:
    if node["expression"].get("name") == "require":
        yield start_of(node["arguments"][0]), end_of(node["arguments"][0]), "true"


def _condition(node: dict[str, Any], _source: bytes) -> Iterator[tuple[int, int, str]]:
    for value in ("true", "false"):
        yield start_of(node["condition"]), end_of(node["condition"]), value


def _statement(node: dict[str, Any], source: bytes) -> Iterator[tuple[int, int, str]]:
    """A call, an assignment or an event is gone; a `require` is, where it is always true."""
    expression = node.get("expression", {})
    if expression.get("nodeType") == "FunctionCall" and expression["expression"].get("name") == "require":
        return
    # With its semicolon: Solidity knows no empty statement, but an empty block.
    end = source.index(b";", end_of(node))
    if not source[end_of(node) : end].strip():
        yield start_of(node), end + 1, "{}"


def _modifier(node: dict[str, Any], _source: bytes) -> Iterator[tuple[int, int, str]]:
    if node.get("arguments") is None:
        yield start_of(node), end_of(node), ""


_KINDS = {
    "BinaryOperation": _operator,
    "UnaryOperation": _negation,
    "Literal": _number,
    "FunctionCall": _requirement,
    "IfStatement": _condition,
    "ExpressionStatement": _statement,
    "EmitStatement": _statement,
    "ModifierInvocation": _modifier,
}


def start_of(node: dict[str, Any]) -> int:
    return int(node["src"].split(":")[0])


def end_of(node: dict[str, Any]) -> int:
    start, length, _ = node["src"].split(":")
    return int(start) + int(length)
