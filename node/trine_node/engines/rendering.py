"""Text to token ids and back: what node and verifier must do alike, whatever computes the model.

A template comes with a model and is run on what strangers write. It may refuse messages; it must not know the time,
chance or the machine; and nobody but it makes control tokens: see `Renderer.chat`. What two renderers of a model must
have in common is in its manifest: see `trine_node.models.golden`.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import meta, nodes

from trine.errors import InvalidInput
from trine.protocol.inputs import Input
from trine.protocol.tools import MAX_DEPTH, depth
from trine_node.engines.base import ToolsRefused

IMPURE = ("lipsum", "random", "strftime_now")
"""What templates are offered that differs from one machine, or one moment, to the next."""
QUESTION = [{"role": "user", "content": "Hello"}]
FIRST_STAND_IN = 0x100000
"""The last plane of Unicode, 65,534 characters for private use: models have thousands of control tokens."""
MAX_CONTROL_TOKENS = 65_534
RESERVED = re.compile("([\U00100000-\U0010ffff])")
REFUSALS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What running a template on messages that it was not made for raises."""


class TemplateRefused(InvalidInput):
    """The model's chat template does not take these messages."""


class Renderer:
    """A model's tokenizer with its template. Thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: of transformers; None where nothing but token ids is used. Raises InvalidInput."""
        self.tokenizer = tokenizer
        self._lock = threading.Lock()  # tokenizers refuse to be used by two threads at once
        self.control_tokens = _control_tokens(tokenizer)
        if len(self.control_tokens) > MAX_CONTROL_TOKENS:
            raise InvalidInput(f"the model has {len(self.control_tokens)} control tokens, at most {MAX_CONTROL_TOKENS}")
        self._stand_in_of = {token: chr(FIRST_STAND_IN + n) for n, token in enumerate(self.control_tokens)}
        self._token_of = {stand_in: token for token, stand_in in self._stand_in_of.items()}
        self._control = _longest_of(self.control_tokens)
        self._normalizer, self._normalized_control = _normalized(tokenizer)
        self.takes_tools, self.takes_calls = _of_tools(tokenizer)

    def chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids under the template, with the prompt for the model's answer. Raises TemplateRefused.

        `messages` and `tools` as OpenAI has them; a template is given the arguments of calls as objects, as all of them
        expect, where they are one. Control tokens are the template's to write. Spoken of in a message, or in a tool's
        description, one is text like any other: it ends no turn and begins none.
        """
        if tools and not self.takes_tools:
            raise ToolsRefused("the model's chat template has no place for tools: leave them out, or ask another model")
        if not self.takes_calls and any(message.get("tool_calls") for message in messages):
            raise ToolsRefused("the model's chat template has no place for tool_calls: say in text what came of them")
        said = [self._plain(_with_objects(message)) for message in messages]
        offered = [self._plain(tool) for tool in tools] or None
        try:
            with self._lock:
                rendered = self.tokenizer.apply_chat_template(
                    said, tools=offered, tokenize=False, add_generation_prompt=True
                )
        except REFUSALS as error:
            raise TemplateRefused(f"the model's chat template refuses these messages: {str(error)[:300]}") from None
        with self._lock:
            return [token for piece in RESERVED.split(rendered) if piece for token in self._ids(piece)]

    def text(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens in it are control tokens."""
        with self._lock:
            return [int(i) for i in self.tokenizer(text)["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; control tokens are left out."""
        with self._lock:
            return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def input(self, asked: Input) -> list[int]:
        """Token ids of what a client asks. Raises TemplateRefused."""
        return self.chat(asked.as_messages(), asked.tools.as_list()) if asked.text is None else self.text(asked.text)

    def _plain(self, value: Any) -> Any:
        """With all texts in it `_without_control`, the names of members, too."""
        if isinstance(value, str):
            return self._without_control(value)
        if isinstance(value, Mapping):
            return {self._plain(name): self._plain(member) for name, member in value.items()}
        return [self._plain(each) for each in value] if isinstance(value, list | tuple) else value

    def _without_control(self, content: str) -> str:
        """With a character that no text uses in place of each control token, in one pass over the text."""
        if RESERVED.search(content):
            raise TemplateRefused("a message holds a character of the last private-use plane, which stands for no text")
        if self._control:
            content = self._control.sub(lambda found: self._stand_in_of[found[0]], content)
        if self._normalized_control and self._normalized_control.search(self._normalizer.normalize_str(content)):
            raise TemplateRefused("a message holds characters that the model takes for those of a control token")
        return content

    def _ids(self, piece: str) -> list[int]:
        token = self._token_of.get(piece)
        if token is None:
            found = self.tokenizer(piece, add_special_tokens=False)
        else:
            found = self.tokenizer(token, add_special_tokens=False, split_special_tokens=True)
        return [int(i) for i in found["input_ids"]]


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message whose calls have their arguments as templates expect them."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _object(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _object(arguments: str) -> Any:
    """The object that a call's arguments are, or else the text itself: a model may have written anything."""
    if not arguments.strip():
        return {}
    try:
        read = json.loads(arguments) if depth(arguments) <= MAX_DEPTH else None
    except ValueError:
        read = None
    return read if isinstance(read, dict) else arguments


def _of_tools(tokenizer: Any) -> tuple[bool, bool]:
    """Whether a tokenizer's chat template reads `tools`, and `tool_calls` of messages."""
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str):
        return False, False
    try:
        parsed = _parsed(template)
    except (jinja2.TemplateSyntaxError, RecursionError):
        return False, False
    members = {node.attr for node in parsed.find_all(nodes.Getattr)}
    members |= {node.value for node in parsed.find_all(nodes.Const) if isinstance(node.value, str)}
    return "tools" in meta.find_undeclared_variables(parsed), "tool_calls" in members


def _parsed(template: str) -> nodes.Template:
    """Raises TemplateSyntaxError, RecursionError."""
    # A tag of transformers' own, which marks what the assistant says.
    plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
    return jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)  # noqa: S701  (not rendered)


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts of a tokenizer's control tokens, sorted."""
    if tokenizer is None:
        return ()
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted(filter(None, added | set(tokenizer.all_special_tokens))))


def _normalized(tokenizer: Any) -> tuple[Any, re.Pattern[str] | None]:
    """The normalizer after which a tokenizer looks for some of its control tokens, and what it looks for."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None:
        return None, None
    added = tokenizer.added_tokens_decoder.values()
    late = [normalizer.normalize_str(str(token)) for token in added if token.special and token.normalized]
    return normalizer, _longest_of(filter(None, late))


def _longest_of(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the longest of the words at each place, in time that does not grow with their number. None: no words."""
    listed = sorted(set(words))
    return re.compile(_tree(listed)) if listed else None


def _tree(words: Sequence[str]) -> str:
    """A pattern of sorted words with their common beginnings written once; `re` would try thousands one by one."""
    branches = []
    for _, group in itertools.groupby(filter(None, words), key=lambda word: word[0]):
        alike = list(group)
        shared = _shared(alike[0], alike[-1])  # what the first and the last of sorted words begin with, all do
        branches.append(re.escape(alike[0][:shared]) + _tree([word[shared:] for word in alike]))
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + ("?" if "" in words else "")


def _shared(one: str, other: str) -> int:
    """How many characters two words begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def template_fault(tokenizer: Any) -> str | None:
    """Why the tokenizer's chat template cannot be served, or None. A model without one is served without messages."""
    template = tokenizer.chat_template
    if template is None:
        return None
    if not isinstance(template, str):
        return "several chat templates by name: keep one"
    try:
        parsed = _parsed(template)
    except jinja2.TemplateSyntaxError as error:
        return f"the chat template is malformed: line {error.lineno}: {error.message}"
    except RecursionError:
        return "the chat template is nested too deeply"
    names = {node.name for node in parsed.find_all(nodes.Name)} | {node.name for node in parsed.find_all(nodes.Filter)}
    for name in sorted(names):
        if name in IMPURE:
            return f"the chat template uses `{name}`: node and verifier would render it differently"
    try:
        Renderer(tokenizer).chat(QUESTION)
    except TemplateRefused as error:
        return f"not even a plain question: {error}"
    except InvalidInput as error:
        return str(error)
    return None


def require_pure_template(tokenizer: Any, model: str) -> None:
    """Raises InvalidInput where node and verifier could render messages differently: before an answer is sold."""
    if fault := template_fault(tokenizer):
        raise InvalidInput(f"{model}: {fault}")
