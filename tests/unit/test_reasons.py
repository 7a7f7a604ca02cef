"""What the command line says where a contract refuses."""

import pytest

from trine.chain.reasons import _SENTENCES, explained
from trine.chain.reverts import _error_table
from trine.wording import when

WEI = 10**18


def test_every_sentence_is_about_an_error_of_the_contracts_and_takes_its_arguments():
    known = dict(_error_table().values())
    for name, sentence in _SENTENCES.items():
        assert name in known, name
        assert sentence(*("1" for _ in known[name]))


def test_a_refusal_says_what_to_do():
    said = explained(f"StakingInsufficientFree({2 * WEI}, {5 * WEI})")
    assert said.startswith("2 tokens of the stake are free, this locks 5: add some with `trine stake add`")


def test_times_are_for_people():
    assert when(1_790_000_000) == "2026-09-21 14:13:20 UTC"
    assert "from 2026-09-21 14:13:20 UTC on" in explained("StakingStillUnbonding(1790000000)")


@pytest.mark.parametrize(
    "reason",
    ["BatchesSeedExpired(3)", "out of gas", "StakingStillUnbonding(x)", "StakingStillUnbonding(1, 2)", "",
     f"StakingStillUnbonding({2**255})"],
)  # fmt: skip
def test_what_is_not_known_is_left_as_it_is(reason):
    assert explained(reason) is None
