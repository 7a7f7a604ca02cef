"""What docs/developers.md says that a receipt binds: each is changed, and the receipt refused.

A real node's answer, with a small model; whoever reads it is its client, or a verifier who is shown the evidence.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path

import httpx2
import pytest
import torch
from eth_account import Account
from eth_utils.crypto import keccak
from test_client_parallel import client_of
from test_node_support import NAME, RECORD, engine, serving
from test_sampled_answers import LAX

from trine._answer import Told, checked_answer
from trine._options import wanted
from trine.errors import ProtocolError, VerificationFailed
from trine.protocol import merkle
from trine.protocol.evidence import Anchor, missing
from trine.protocol.inputs import parse_input
from trine.protocol.manifest import ROLES, Manifest, model_id
from trine.protocol.messages import Receipt, text_hash
from trine.protocol.tokens import tokens_hash
from trine.protocol.verdict import Outcome, Reason
from trine_node.engines.transformers_engine import TransformersEngine
from trine_verifier.checking import check_leaf

PAGE = Path(__file__).parents[2] / "docs" / "developers.md"
OPTIONS = {"max_tokens": 6, "stop": ["never said"], "temperature": 0.9, "top_p": 0.9, "top_k": 50, "min_p": 0.01}
QUESTION = "Why is the sea salty?"
STRANGER = "0x" + "5a" * 20


class Given:
    """An order, the node's answer to it, and the evidence behind that."""

    def __init__(self, node, client):
        self.node, self.chain = node, client.chain
        self.key = node.chain.signer
        self.model = client._core.model(None)
        self.draft = client._core.prepare(wanted(QUESTION, seed=7, **OPTIONS), self.model, node.chain.address)
        document = httpx2.post(node.url + self.draft.path, json=self.draft.body, timeout=60).json()
        choice = document["choices"][0]
        self.text, self.reason, self.extras = choice["message"]["content"], choice["finish_reason"], document["trine"]
        self.evidence = node.store.answer_to(self.draft.digest).evidence
        self.engine = engine()

    def check(self, *, draft=None, receipt=None, signature=None, text=None, domain=None, node=None):
        """As the client does."""
        extras = dict(self.extras)
        if receipt is not None:
            extras["receipt"] = receipt.to_json()
        if signature is not None:
            extras["signature"] = "0x" + signature.hex()
        return checked_answer(
            extras,
            Told(self.text if text is None else text, self.reason),
            draft or self.draft,
            node or self.node.chain.address,
            self.node.url,
            domain or self.chain.domain,
        )

    def signed(self, receipt):
        """By the node, which lies."""
        return bytes(self.key.unsafe_sign_hash(receipt.digest(self.chain.domain)).signature)

    def anchor(self, receipt, domain=None, model=RECORD.model_id):
        leaf = merkle.leaf_hash(0, receipt)
        return leaf, Anchor(domain or self.chain.domain, self.node.chain.address, model, merkle.root([leaf]), 1)

    def judged(self, verifier=None, model=RECORD.model_id, **changes):
        """As a verifier does, where the node has signed and anchored what it shows."""
        names = {field.name for field in dataclasses.fields(Receipt)}
        receipt = dataclasses.replace(self.evidence.receipt, **{k: v for k, v in changes.items() if k in names})
        shown = {name: value for name, value in changes.items() if name not in names}
        evidence = dataclasses.replace(self.evidence, receipt=receipt, receipt_signature=self.signed(receipt), **shown)
        leaf, anchor = self.anchor(receipt, model=model)
        return check_leaf(evidence, 0, leaf, anchor, verifier or self.engine, LAX)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False) as node, client_of(node, salted=False) as client:  # salts: test_salts
        yield Given(node, client)


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, str):
        return STRANGER
    return 1 - value if value in (0, 1) else value + 1


def test_what_was_ordered_and_answered_is_taken(given):
    """So that what follows fails for what was changed."""
    assert given.check().text == given.text
    assert given.judged().outcome is Outcome.ACCEPT


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Receipt)])
def test_no_field_can_be_changed_after_it_was_signed(given, field):
    receipt = dataclasses.replace(given.evidence.receipt, **{field: other(getattr(given.evidence.receipt, field))})
    with pytest.raises(ProtocolError):
        given.check(receipt=receipt)
    leaf, anchor = given.anchor(receipt)
    shown = dataclasses.replace(given.evidence, receipt=receipt)
    assert missing(shown, 0, leaf, anchor) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"messages": "Why is the sky blue?"},
        *({name: value} for name, value in {
            "max_tokens": 7, "stop": ["other"], "temperature": 0.8, "top_p": 0.8, "top_k": 49, "min_p": 0.02, "seed": 8,
        }.items()),
        {"temperature": 0},
        {"guided_choice": ["salt", "rivers"]},
        {"stop": []},
        {"guided_choice": ["yes", "no"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_to_another_order_is_refused(given, change):
    options = {"messages": QUESTION, "seed": 7, **OPTIONS, **change}
    asked = wanted(**options)
    request = dataclasses.replace(given.draft.request, input_hash=asked.input.hash(), max_tokens=asked.max_tokens)
    assert request != given.draft.request
    draft = dataclasses.replace(
        given.draft, input=asked.input, request=request, digest=request.digest(given.chain.domain)
    )
    with pytest.raises(VerificationFailed, match="another"):
        given.check(draft=draft)
    # And where the node has signed that it was this order: the verifier reads the client's.
    receipt = {"input_hash": asked.input.hash(), "max_tokens": asked.max_tokens}
    verdict = given.judged(input=asked.input.canonical(), **receipt)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.BINDING)


@pytest.mark.parametrize("field", ["nonce", "deadline", "max_fee_wei", "model_id", "client"])
def test_every_order_is_its_own(given, field):
    request = dataclasses.replace(given.draft.request, **{field: other(getattr(given.draft.request, field))})
    draft = dataclasses.replace(given.draft, request=request, digest=request.digest(given.chain.domain))
    with pytest.raises(VerificationFailed, match="another request"):
        given.check(draft=draft)


@pytest.mark.parametrize("field", ["chain_id", "verifying_contract"])
def test_a_receipt_of_another_chain_or_other_contracts_is_refused(given, field):
    domain = dataclasses.replace(given.chain.domain, **{field: other(getattr(given.chain.domain, field))})
    with pytest.raises(ProtocolError):
        given.check(domain=domain)
    leaf, anchor = given.anchor(given.evidence.receipt, domain=domain)
    assert missing(given.evidence, 0, leaf, anchor) is not None


def test_another_nodes_word_is_refused(given):
    thief = Account.create()
    receipt = given.evidence.receipt
    signature = bytes(thief.unsafe_sign_hash(receipt.digest(given.chain.domain)).signature)
    with pytest.raises(ProtocolError):
        given.check(signature=signature)
    with pytest.raises(ProtocolError):
        given.check(node=thief.address)
    renamed = dataclasses.replace(receipt, node=thief.address)
    with pytest.raises(VerificationFailed, match="another node"):
        given.check(receipt=renamed, signature=given.signed(renamed))
    verdict = given.judged(node=thief.address)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.BINDING)


@pytest.mark.parametrize(("issued", "promised"), [(200_000, 1), (0, -1), (0, 86_400)])
def test_another_time_is_refused_whoever_signs_it(given, issued, promised):
    at = given.evidence.receipt.issued_at + issued
    receipt = dataclasses.replace(given.evidence.receipt, issued_at=at, anchor_by=at + promised)
    with pytest.raises(VerificationFailed, match="time"):
        given.check(receipt=receipt, signature=given.signed(receipt))


def test_another_text_is_refused(given):
    with pytest.raises(VerificationFailed, match="another text"):
        given.check(text=given.text + "!")
    assert given.judged(text_hash=text_hash(given.text + "!")).reason is Reason.TEXT


def test_other_prompt_tokens_are_refused(given):
    prompt = given.evidence.prompt_ids
    for ids in ((*prompt[:-1], other(prompt[-1])), prompt[1:], (*prompt, prompt[-1])):
        leaf, anchor = given.anchor(given.evidence.receipt)
        shown = dataclasses.replace(given.evidence, prompt_ids=ids)
        assert "prompt token ids" in missing(shown, 0, leaf, anchor)
        verdict = given.judged(prompt_ids=ids, prompt_hash=tokens_hash(ids), prompt_tokens=len(ids))
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.PROMPT)


def test_other_output_tokens_are_refused(given):
    output = given.evidence.output_ids
    ids = (*output[:-1], other(output[-1]))
    leaf, anchor = given.anchor(given.evidence.receipt)
    assert "output token ids" in missing(dataclasses.replace(given.evidence, output_ids=ids), 0, leaf, anchor)
    assert given.judged(output_ids=ids, output_hash=tokens_hash(ids)).reason is Reason.TEXT
    # With the text that they spell, it is the model that did not say it.
    text = given.engine.decode(ids)
    changes = {"output_ids": ids, "output_hash": tokens_hash(ids), "text_hash": text_hash(text)}
    verdict = given.judged(**changes)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.MARGIN)


def test_other_hidden_states_are_refused(given):
    changed = bytes(len(given.evidence.fingerprint))
    leaf, anchor = given.anchor(given.evidence.receipt)
    shown = dataclasses.replace(given.evidence, fingerprint=changed)
    assert "fingerprint" in missing(shown, 0, leaf, anchor)
    assert given.judged(fingerprint=changed, fingerprint_hash=bytes(keccak(changed))).outcome is Outcome.REJECT


@pytest.mark.parametrize("change", [{"engine": "llguidance-1.9.2"}, {"text": '["salt"]'}, {"kind": "regex"}])
def test_another_grammar_or_release_of_its_engine_is_another_order(given, change):
    asked = wanted(QUESTION, seed=7, guided_choice=["salt", "rivers"], **OPTIONS).input
    other_grammar = dataclasses.replace(asked, grammar=dataclasses.replace(asked.grammar, **change))
    assert other_grammar.hash() != asked.hash()
    draft = dataclasses.replace(given.draft, input=asked)
    request = dataclasses.replace(draft.request, input_hash=asked.hash())
    draft = dataclasses.replace(draft, request=request, digest=request.digest(given.chain.domain))
    receipt = dataclasses.replace(given.evidence.receipt, request_hash=draft.digest, input_hash=other_grammar.hash())
    with pytest.raises(VerificationFailed, match="another input"):
        given.check(draft=draft, receipt=receipt, signature=given.signed(receipt))


def test_another_seed_that_the_node_claims_is_refused(given):
    """The input that the client has signed says how tokens are drawn."""
    asked = parse_input(given.evidence.input)
    cheated = dataclasses.replace(asked, sampling=dataclasses.replace(asked.sampling, seed=8))
    verdict = given.judged(input=cheated.canonical(), input_hash=cheated.hash())
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.BINDING)


def test_other_weights_are_refused(given):
    weights = copy.deepcopy(given.engine.model)
    with torch.no_grad():
        weights.model.layers[0].mlp.up_proj.weight.add_(0.2)
    verifier = TransformersEngine(
        weights, given.engine.tokenizer, model_name=NAME, model_id=RECORD.model_id, dtype="fp32"
    )
    assert given.judged(verifier=verifier).outcome is Outcome.REJECT


def test_another_template_or_tokenizer_is_refused(given):
    class Other:
        def __getattr__(self, name):
            return getattr(given.engine, name)

        def encode_chat(self, *arguments, **options):
            return given.engine.encode_chat(*arguments, **options)[1:]

    verdict = given.judged(verifier=Other())
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.PROMPT)


def changed_manifests():
    manifest = Manifest.from_bytes(RECORD.manifest)
    for role in ROLES:
        for index, file in enumerate(manifest.files):
            if file.role == role:
                files = list(manifest.files)
                files[index] = dataclasses.replace(file, sha256="00" * 32)
                yield role, dataclasses.replace(manifest, files=tuple(files))
                break
    rendering = manifest.rendering
    libraries = (dataclasses.replace(rendering.libraries[0], below="99.9"), *rendering.libraries[1:])
    yield (
        "renderer's version",
        dataclasses.replace(manifest, rendering=dataclasses.replace(rendering, libraries=libraries)),
    )
    yield (
        "renderer's vectors",
        dataclasses.replace(manifest, rendering=dataclasses.replace(rendering, vectors=rendering.vectors[1:])),
    )


MANIFESTS = dict(changed_manifests())


@pytest.mark.parametrize("what", MANIFESTS)
def test_any_other_file_or_renderer_is_another_model(given, what):
    changed = model_id(NAME, MANIFESTS[what].content_hash())
    assert model_id(NAME, Manifest.from_bytes(RECORD.manifest).content_hash()) == RECORD.model_id != changed
    receipt = dataclasses.replace(given.evidence.receipt, model_id=changed)
    with pytest.raises(VerificationFailed, match="another model"):
        given.check(receipt=receipt, signature=given.signed(receipt))
    for batch in (RECORD.model_id, changed):  # nor may the whole batch be of that one
        verdict = given.judged(model_id=changed, model=batch)
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.BINDING)


def test_the_page_names_every_field():
    table = PAGE.read_text().partition("## What a receipt binds")[2].partition("\n## ")[0]
    assert {name for name, _ in Receipt.FIELDS} <= set(re.findall(r"`(\w+)`", table))
