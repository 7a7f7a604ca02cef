"""Text to token ids and back: what node and verifier must do alike, whatever computes the model.

A template comes with a model and is run on what strangers write. It may refuse messages; it must not know the time,
chance or the machine; and nobody but it makes control tokens: see `Renderer.chat`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes

from trine.errors import InvalidInput

IMPURE = ("strftime_now",)
"""What templates are offered that differs from one machine, or one moment, to the next."""
QUESTION = [{"role": "user", "content": "Hello"}]
FIRST_STAND_IN = 0x100000
"""The last plane of Unicode, 65,534 characters for private use: models have thousands of control tokens."""
REFUSALS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What running a template on messages that it was not made for raises."""


class TemplateRefused(InvalidInput):
    """The model's chat template does not take these messages."""


class Renderer:
    """A model's tokenizer with its template. Thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: of transformers; None where nothing but token ids is used."""
        self.tokenizer = tokenizer
        self._lock = threading.Lock()  # tokenizers refuse to be used by two threads at once
        control: set[str] = set()
        if tokenizer is not None:
            control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
            control |= set(tokenizer.all_special_tokens)
        # The longest first: one may hold another.
        longest_first = sorted(filter(None, control), key=lambda token: (-len(token), token))
        self._stand_ins = {chr(FIRST_STAND_IN + number): token for number, token in enumerate(longest_first)}
        self._spoken = re.compile("([" + "".join(self._stand_ins) + "])") if self._stand_ins else None

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids under the template, with the prompt for the model's answer. Raises TemplateRefused.

        Control tokens are the template's to write. Spoken of in a message, one is text like any other: it ends no turn
        and begins none.
        """
        said = [{**message, "content": self._without_control(message["content"])} for message in messages]
        try:
            with self._lock:
                rendered = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        except REFUSALS as error:
            raise TemplateRefused(f"the model's chat template refuses these messages: {str(error)[:300]}") from None
        pieces = self._spoken.split(rendered) if self._spoken else [rendered]
        with self._lock:
            return [token for piece in pieces if piece for token in self._ids(piece)]

    def text(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens in it are control tokens."""
        with self._lock:
            return [int(i) for i in self.tokenizer(text)["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; control tokens are left out."""
        with self._lock:
            return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _without_control(self, content: str) -> str:
        """With a character that no text uses in place of each control token."""
        if self._spoken and self._spoken.search(content):
            raise TemplateRefused("a message holds a character of the last private-use plane, which stands for no text")
        for stand_in, token in self._stand_ins.items():
            content = content.replace(token, stand_in)
        return content

    def _ids(self, piece: str) -> list[int]:
        token = self._stand_ins.get(piece)
        if token is None:
            found = self.tokenizer(piece, add_special_tokens=False)
        else:
            found = self.tokenizer(token, add_special_tokens=False, split_special_tokens=True)
        return [int(i) for i in found["input_ids"]]


def template_fault(tokenizer: Any) -> str | None:
    """Why the tokenizer's chat template cannot be served, or None. A model without one is served without messages."""
    template = tokenizer.chat_template
    if template is None:
        return None
    if not isinstance(template, str):
        return "several chat templates by name: keep one"
    # A tag of transformers' own, which marks what the assistant says.
    plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)  # noqa: S701  (not rendered)
    except jinja2.TemplateSyntaxError as error:
        return f"the chat template is malformed: line {error.lineno}: {error.message}"
    except RecursionError:
        return "the chat template is nested too deeply"
    names = {node.name for node in parsed.find_all(nodes.Name)} | {node.name for node in parsed.find_all(nodes.Filter)}
    for name in sorted(names):
        if name in (*IMPURE, "random"):
            return f"the chat template uses `{name}`: node and verifier would render it differently"
    try:
        Renderer(tokenizer).chat(QUESTION)
    except TemplateRefused as error:
        return f"not even a plain question: {error}"
    return None


def require_pure_template(tokenizer: Any, model: str) -> None:
    """Raises InvalidInput where node and verifier could render messages differently: before an answer is sold."""
    if fault := template_fault(tokenizer):
        raise InvalidInput(f"{model}: {fault}")
