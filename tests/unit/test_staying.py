"""Ends on the chain: believed when they have stayed, and not before."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from trine_operator.staying import ENDING_BLOCKS, Staying


@dataclass
class Chain:
    head: int = 100
    depth: int = 0

    def block_number(self):
        return self.head

    def confirmed_block(self):
        return self.head - self.depth


@given(
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(-8, 8), st.sampled_from(["open", "over"])), min_size=1, max_size=60),
)
def test_what_stays_was_seen_for_so_many_blocks_and_is_confirmed(depth, steps):
    """Blocks come and go; what is seen of a thing may change back and forth."""
    chain = Chain(depth=depth)
    staying, since, seen = Staying(chain), chain.head, None
    for blocks, now in steps:
        chain.head += blocks
        if now != seen or chain.head < since:
            seen, since = now, chain.head
        expected = chain.head >= since + max(ENDING_BLOCKS, depth)
        assert staying.stays("batch", now) == expected
        if expected:
            seen, since = None, chain.head


def test_things_are_looked_at_apart_and_forgotten():
    chain = Chain()
    staying = Staying(chain)
    assert not staying.stays("one", "over")
    chain.head += ENDING_BLOCKS
    assert not staying.stays("other", "over")
    assert staying.stays("one", "over")
    staying.stays("one", "over")
    staying.forget("one")
    chain.head += ENDING_BLOCKS
    assert not staying.stays("one", "over")
