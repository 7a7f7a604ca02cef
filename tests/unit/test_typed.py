"""What people type at the command line."""

from __future__ import annotations

import pytest
import typer
from eth_account import Account

from trine._ordering import as_input
from trine.cli.ask import ask
from trine.cli.options import shape, typed_address
from trine.errors import InvalidInput
from trine.protocol.grammar import Grammar

ADDRESS = Account.from_key(bytes([7]) * 32).address


def test_an_address_is_taken_with_its_checksum_or_without():
    for typed in (ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()):
        assert typed_address(typed) == ADDRESS


@pytest.mark.parametrize("place", [n for n, digit in enumerate(ADDRESS) if n > 1 and digit.isalpha()][:6])
def test_a_letter_in_the_wrong_case_is_a_typing_error(place):
    typed = ADDRESS[:place] + ADDRESS[place].swapcase() + ADDRESS[place + 1 :]
    with pytest.raises(InvalidInput, match="typing error"):
        typed_address(typed)


@pytest.mark.parametrize(
    ("question", "given", "said"),
    [("", {}, "empty"), ("  ", {}, "empty"), ("\n", {}, "empty"), ("Who?", {"seed": 7}, "without --temperature")],
)
def test_a_question_that_says_nothing_or_draws_nothing_is_not_paid_for(capsys, question, given, said):
    with pytest.raises(typer.Exit) as ended:
        ask(question, **given)
    assert (ended.value.exit_code, said in " ".join(capsys.readouterr().err.split())) == (3, True)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "cannot be read"),
        ("[1", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "which is an object"),
        ("\x00", ""),
    ],
)
def test_a_file_without_a_schema_is_named(tmp_path, written, said):
    file = tmp_path / "schema.json"
    if written is not None:
        file.write_text(written)
    with pytest.raises(InvalidInput, match=r"schema\.json") as refused:
        shape(file, None, None)
    assert said in str(refused.value)


def test_what_an_answer_must_be_is_signed_as_it_was_typed(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "null"}}}')
    assert as_input("Who?", **shape(file, None, None)).grammar == Grammar(
        "json_schema", '{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"null"}}}'
    )
    assert as_input("Who?", **shape(None, ["yes", "no"], None)).grammar == Grammar("choice", '["yes","no"]')
    assert as_input("Who?", **shape(None, None, "[0-9]+")).grammar == Grammar("regex", "[0-9]+")
    assert as_input("Who?", **shape(None, [], None)).grammar is None
    with pytest.raises(InvalidInput, match="both say what the answer must be"):
        as_input("Who?", **shape(file, ["yes"], None))
