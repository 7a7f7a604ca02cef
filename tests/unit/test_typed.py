"""What people type at the command line."""

from __future__ import annotations

import pytest
import typer
from eth_account import Account

from trine.cli.ask import ask
from trine.cli.options import typed_address
from trine.errors import InvalidInput

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
