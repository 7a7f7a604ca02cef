"""Merkle trees, votes, committees and calibration prompts: the pure half of a batch's life."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol import calibration, merkle
from trine.protocol.calibration import (
    WORDS,
    WORDS_PER_PROMPT,
    challenge_prompts,
    parse_prompt_set,
    prompt_indices,
    prompt_words,
)
from trine.protocol.header import Header, batch_id
from trine.protocol.inputs import Message, chat_input, parse_input, text_input
from trine.protocol.votes import MAX_DISTANCE_PPM, Vote, agreed, commitment, distance_ppm_of, majority, settle, wrong

words = st.binary(min_size=32, max_size=32)
counts = st.integers(1, 2**24)
# No leaf counts nothing: 32 zero bytes stand for a missing one.
leaf_hashes = st.tuples(st.binary(min_size=28, max_size=28), counts).map(lambda leaf: leaf[0] + leaf[1].to_bytes(4))
masks = st.integers(0, 2**256 - 1)
votes = st.tuples(masks, masks).map(lambda pair: Vote.from_words(*pair))
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@given(st.lists(leaf_hashes, min_size=1, max_size=40), st.data())
def test_every_leaf_has_a_proof_and_no_other_leaf_passes(leaves, data):
    root = merkle.root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    siblings = merkle.proof(leaves, index)
    assert merkle.verify(root, leaves[index], siblings)
    other = data.draw(leaf_hashes.filter(lambda word: word != leaves[index] and word != siblings[0]))
    assert not merkle.verify(root, other, siblings)
    assert not merkle.verify(root, leaves[index], siblings[:-1])
    assert not merkle.verify(root, leaves[index], [*siblings, bytes(32)])


@given(st.lists(leaf_hashes, min_size=1, max_size=40))
def test_the_root_counts_the_tokens_of_all_leaves(leaves):
    assert merkle.tokens_of(merkle.root(leaves)) == sum(map(merkle.tokens_of, leaves))
    assert Header(ADDRESS, bytes(32), merkle.root(leaves), bytes(32)).tokens == sum(map(merkle.tokens_of, leaves))


@given(st.lists(leaf_hashes, min_size=1, max_size=40), st.data())
def test_a_leaf_whose_tokens_were_claimed_wrongly_cannot_be_shown(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    lie = data.draw(counts.filter(lambda count: count != merkle.tokens_of(leaves[index])))
    claimed = [*leaves]
    claimed[index] = leaves[index][:28] + lie.to_bytes(4)
    for i, leaf in enumerate(leaves):
        assert merkle.verify(merkle.root(claimed), leaf, merkle.proof(claimed, i)) == (i != index)


def test_counts_do_not_wrap_around():
    half = bytes([1]) * 28 + (2**31).to_bytes(4)
    assert merkle.tokens_of(merkle.root([half])) == 2**31
    with pytest.raises(InvalidInput, match="more than a batch's tree can count"):
        merkle.root([half, half])
    assert not merkle.verify(bytes(32), half, [half] * 8)


@given(st.lists(leaf_hashes, min_size=2, max_size=20, unique=True))
def test_order_and_content_change_the_root(leaves):
    swapped = [*leaves[1:], leaves[0]]
    # Sorted pairs: swapping two siblings alone keeps the root, which is why the index is inside the leaf.
    if len(leaves) > 2:
        assert merkle.root(swapped) != merkle.root(leaves)
    assert merkle.root(leaves[:-1]) != merkle.root(leaves)


@pytest.mark.parametrize("leaves", [[], [b"\1" * 32] * 257, [bytes(31)], [bytes(32)]])
def test_impossible_trees_are_refused(leaves):
    with pytest.raises(InvalidInput):
        merkle.root(leaves)


def committees(members):
    """Lists of as many members as a committee has seats."""
    return st.sampled_from([3, 7, 15]).flatmap(lambda n: st.lists(members, min_size=n, max_size=n))


@given(committees(votes))
def test_settlement_counts_bits(revealed):
    decided = settle(revealed)
    enough = len(revealed) // 2 + 1
    for bit in range(256):
        for said in ("accept", "reject", "unavailable"):
            assert (decided.on(bit) == said) == (sum(v.on(bit) == said for v in revealed) >= enough)
    for vote in revealed:
        assert agreed(vote, decided) & wrong(vote, decided) == 0
        assert (agreed(vote, decided) | wrong(vote, decided)) & vote.unavailable == 0
        if all(vote == other for other in revealed):
            assert wrong(vote, decided) == 0
            assert agreed(vote, decided) == vote.accepts | vote.rejects


@given(masks, masks)
def test_the_two_words_say_all(first, second):
    vote = Vote.from_words(first, second)
    assert vote.words == (first, second)
    assert vote.leaves == first | second


@given(masks, masks, masks)
def test_majority_of_three_is_symmetric_and_idempotent(a, b, c):
    assert majority([a, b, c]) == majority([c, a, b]) == (a & b) | (a & c) | (b & c)
    assert majority([a, a, b]) == a


@given(committees(masks), st.data())
def test_one_word_more_never_unmakes_a_majority(words_, data):
    seat = data.draw(st.integers(0, len(words_) - 1))
    more = [*words_[:seat], words_[seat] | data.draw(masks), *words_[seat + 1 :]]
    assert majority(words_) & ~majority(more) == 0


@pytest.mark.parametrize("count", [0, 2, 14, 16, 17])
def test_an_even_number_of_words_or_too_many_has_no_majority(count):
    with pytest.raises(InvalidInput, match="odd number"):
        majority([0] * count)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 16])
def test_a_committee_of_another_size_does_not_settle(count):
    with pytest.raises(InvalidInput, match="3, 7 or 15 seats"):
        settle([Vote(0, 0)] * count)


@given(votes, votes)
def test_two_reveals_settle_what_they_agree_on(a, b):
    both = (a.accepts & b.accepts, a.rejects & b.rejects, a.unavailable & b.unavailable)
    assert settle([a, None, b]) == Vote(*both)


def test_a_vote_cannot_contradict_itself():
    with pytest.raises(InvalidInput):
        Vote(1, 1)
    with pytest.raises(InvalidInput):
        Vote(1, 2, 2)
    with pytest.raises(InvalidInput):
        Vote(2**256, 0)
    assert [Vote(1, 2, 4).on(i) for i in range(4)] == ["accept", "reject", "unavailable", "inconclusive"]


@given(votes, words, words, st.integers(0, 7), st.integers(0, MAX_DISTANCE_PPM - 1))
def test_a_commitment_binds_everything(vote, salt, batch, round_, distance):
    base = commitment(1, ADDRESS, batch, round_, ADDRESS, vote, distance, salt)
    other = "0x" + "11" * 20
    changed = [
        commitment(2, ADDRESS, batch, round_, ADDRESS, vote, distance, salt),
        commitment(1, other, batch, round_, ADDRESS, vote, distance, salt),
        commitment(1, ADDRESS, bytes(a ^ 1 for a in batch), round_, ADDRESS, vote, distance, salt),
        commitment(1, ADDRESS, batch, round_ + 1, ADDRESS, vote, distance, salt),
        commitment(1, ADDRESS, batch, round_, other, vote, distance, salt),
        commitment(1, ADDRESS, batch, round_, ADDRESS, vote, distance + 1, salt),
        commitment(1, ADDRESS, batch, round_, ADDRESS, vote, distance, bytes(a ^ 1 for a in salt)),
    ]
    assert base not in changed
    assert len(set(changed)) == len(changed)


@pytest.mark.parametrize(
    ("deviations", "ppm"), [([], 0), ([0.0], 0), ([0.25, 0.5, 0.0], 500_000), ([1e-9], 1), ([1e9], MAX_DISTANCE_PPM)]
)
def test_the_distance_of_a_batch_is_its_largest_deviation_rounded_up(deviations, ppm):
    assert distance_ppm_of(deviations) == ppm


@given(words, words, words, words)
def test_a_batch_id_commits_to_the_whole_header(model, root, canary, other):
    header = Header(ADDRESS, model, root, canary)
    ids = {batch_id(1, ADDRESS, header), batch_id(2, ADDRESS, header), batch_id(1, "0x" + "11" * 20, header)}
    changed = [{"node": "0x" + "11" * 20}]
    changed += [{name: other} for name in ("model_id", "root", "canary") if getattr(header, name) != other]
    ids |= {batch_id(1, ADDRESS, dataclasses.replace(header, **change)) for change in changed}
    assert len(ids) == 3 + len(changed)


def test_a_header_has_words_of_32_bytes():
    with pytest.raises(InvalidInput, match="32 bytes"):
        Header(ADDRESS, bytes(32), bytes(31), bytes(32))


@given(words, words, st.integers(1, 50), st.integers(1, 200))
def test_calibration_prompts_are_in_range_and_reproducible(drawn, challenge, count, size):
    indices = prompt_indices(drawn, challenge, count, size)
    assert len(indices) == count
    assert all(0 <= index < size for index in indices)
    assert prompt_indices(drawn, challenge, count, size) == indices


PROMPT_SET = b'["17 times 23 is", [{"role":"system","content":"Be terse."},{"role":"user","content":"Why?"}]]'


def test_a_calibration_prompt_has_its_words_and_what_was_registered():
    drawn, challenge = bytes([1]) * 32, bytes([2]) * 32
    prompts = challenge_prompts(PROMPT_SET, 2, drawn, challenge, 20)
    assert prompts == challenge_prompts(PROMPT_SET, 2, drawn, challenge, 20)
    for leaf, (prompt, index) in enumerate(zip(prompts, prompt_indices(drawn, challenge, 20, 2), strict=True)):
        words_ = prompt_words(drawn, challenge, leaf)
        assert len(words_) == WORDS_PER_PROMPT
        asked = prompt.text if index == 0 else prompt.messages[-1].content
        assert all(word in asked for word in words_)
        assert ("17 times 23 is" if index == 0 else "Why?") in asked
        assert prompt.messages is None or prompt.messages[0] == Message("system", "Be terse.")
        assert parse_input(prompt.canonical()) == prompt, "what a node shows is read back as the same"


def test_calibration_words_are_told_apart_by_seven_bits_each():
    assert len(WORDS) == len(set(WORDS)) == 128
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@given(st.sets(st.tuples(words, words), min_size=2, max_size=8))
def test_attack_one_answer_for_two_challenges(drawn):
    """Another seed or another challenge, be it another operator's or one's own old one: other prompts throughout."""
    asked = [challenge_prompts(PROMPT_SET, 2, *each, 2) for each in drawn]
    assert len({prompt.hash() for prompts in asked for prompt in prompts}) == 2 * len(asked)


@given(words, words, words, words)
def test_attack_a_seed_without_the_secret(randomness, secret, other, challenge):
    seed = calibration.seed(randomness, secret, challenge)
    assert seed != calibration.seed(randomness, other, challenge) or secret == other
    assert seed != calibration.seed(other, secret, challenge) or randomness == other
    assert calibration.commitment(secret) not in (secret, seed)


def test_a_prompt_set_shorter_than_registered_is_refused():
    with pytest.raises(InvalidInput, match="3 that are registered"):
        challenge_prompts(PROMPT_SET, 3, bytes(32), bytes(32), 1)


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'[{"role": "user"}]', b"[1]", b'[[{"role":"x"}]]'])
def test_malformed_prompt_sets_are_refused(document):
    with pytest.raises(InvalidInput):
        parse_prompt_set(document)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
chats = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}),
    min_size=1,
    max_size=5,
)


@given(chats)
def test_inputs_survive_their_canonical_form(messages):
    asked = chat_input(messages)
    assert parse_input(asked.canonical()) == asked
    assert asked.as_messages() == messages


@given(texts.filter(bool))
def test_a_prompt_is_not_a_chat(prompt):
    assert parse_input(text_input(prompt).canonical()).text == prompt
    assert text_input(prompt).hash() != chat_input([{"role": "user", "content": prompt}]).hash()


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "empty"),
        ([{"role": "robot", "content": ""}], r"messages\[0\].role"),
        ([{"role": "user"}], r"messages\[0\].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "not text"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": "x" * (1 << 20)}], "bytes"),
        ([{"role": "user", "content": ""}] * 257, "at most 256"),
    ],
)
def test_bad_messages_are_refused_by_name(messages, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        chat_input(messages)


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat_input([{"role": "user", "content": parts}]) == chat_input([{"role": "user", "content": "ab"}])


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"prompt": "spaced"}', b'{"messages":[],"prompt":""}', b'{"prompt":7}', b"\xff"]
)
def test_inputs_that_are_not_canonical_are_refused(raw):
    with pytest.raises(InvalidInput):
        parse_input(raw)
