"""Certificates that travel: whatever is changed in the file, it does not hold any more; and the command says why."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from trine.cli import verify as verify_cli
from trine.cli.audit import app as audit_app
from trine.errors import InvalidInput, ProtocolError, TrineError, VerificationFailed
from trine.protocol import bls
from trine.protocol.key_root import KeySet
from trine.protocol.portable import FORMAT, MAX_HANDOVERS, PortableCertificate
from trine.protocol.roster import Roster

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FOLDER / "certificate.json").read_text())
AT = VECTORS["at"]
SCHEMA = json.loads(resources.files("trine").joinpath("data", "certificate.schema.json").read_text())
CASES = [
    (PortableCertificate.from_json(case["document"]), bytes.fromhex(case["rootId"][2:]))
    for case in VECTORS["certificates"]
]


def generator():
    spec = importlib.util.spec_from_file_location("generate_certificate", FOLDER / "generate_certificate.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def changed(document, path, value):
    document = copy.deepcopy(document)
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


def refused(document, root_id):
    """Whether it does not hold, or is no certificate. Anything but an error of ours is a bug."""
    try:
        PortableCertificate.from_json(document).verify(root_id, AT)
    except TrineError:
        return True
    return False


@pytest.mark.parametrize("number", range(3))
def test_a_certificate_holds_with_nothing_but_a_root(number):
    portable, root_id = CASES[number]
    portable.verify(root_id, AT)
    assert portable.certificate.result == VECTORS["certificates"][number]["result"]
    assert len(portable.handovers) == number
    assert PortableCertificate.from_json(json.loads(json.dumps(portable.to_json()))) == portable


@pytest.mark.parametrize("number", range(3))
def test_attack_every_field_is_tampered_with(number):
    """The fields are the document's own: one that is added later is tried without a word here."""
    document = VECTORS["certificates"][number]["document"]
    tried = list(generator().changes(document))
    assert len(tried) > 70
    held = [path for path, value in tried if not refused(changed(document, path, value), CASES[number][1])]
    assert held == []


def test_the_vectors_refusals_are_refused():
    assert len(VECTORS["refused"]) > 200
    for case in VECTORS["refused"]:
        document, root_id = VECTORS["certificates"][case["certificate"]]["document"], CASES[case["certificate"]][1]
        assert refused(changed(document, case["path"], case["value"]), root_id), case["path"]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80)
junk = st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=9), x, max_size=3))


@given(st.data())
def test_attack_anything_in_any_place_is_refused_with_an_error_of_ours(data):
    document = VECTORS["certificates"][2]["document"]
    path, _ = data.draw(st.sampled_from(list(generator().changes(document))))
    here = document
    for step in path:
        here = here[step] if not isinstance(here, dict) or step in here else None
    value = data.draw(junk)
    if json.dumps(value) != json.dumps(here):
        assert refused(changed(document, path, value), CASES[2][1])


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-32"),
        lambda text: text.replace('"0x', '"\\u0030x', 1).encode(),
        lambda text: text.replace('"format"', '"form\\u0061t"', 1).encode(),
        lambda text: re.sub(r'"index": \d+', '"index": -0', text, count=1).encode(),
        lambda text: text.replace("{", "{\u00a0", 1).encode(),
        lambda text: text.replace('"format"', '"format": "trine-certificate-1", "format"', 1).encode(),
    ],
)
def test_a_file_is_read_in_one_spelling_only(spell):
    document = VECTORS["certificates"][0]["document"]
    text = json.dumps(document, indent=2)
    assert PortableCertificate.from_bytes(text.encode()).to_json() == document
    with pytest.raises(InvalidInput, match="not a certificate"):
        PortableCertificate.from_bytes(spell(text))


def test_attack_a_strange_name_writes_no_line_of_its_own():
    document = {**VECTORS["certificates"][0]["document"], "\nthe certificate holds\n": 1}
    with pytest.raises(InvalidInput) as caught:
        PortableCertificate.from_json(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["certificate", "epoch"], float(CASES[0][0].certificate.epoch)),
        (["certificate", "epoch"], str(CASES[0][0].certificate.epoch)),
        (["certificate", "root"], VECTORS["certificates"][0]["document"]["certificate"]["root"].upper()),
        (["certificate", "root"], VECTORS["certificates"][0]["document"]["certificate"]["root"][2:]),
        (["certificate", "accepted"], "0x0" + hex(CASES[0][0].certificate.accepted)[2:]),
        (["certificate", "batches"], CASES[0][0].certificate.batches.lower()),
        (["certificate", "members", 0, "weight"], "+" + str(CASES[0][0].certificate.members[0].weight)),
        (["certificate", "members", 0, "weight"], CASES[0][0].certificate.members[0].weight),
        (["keySets", 0, "totalWeight"], " " + str(CASES[0][0].key_sets[0].total_weight)),
        (["format"], "trine-certificate-2"),
    ],
)
def test_what_says_the_same_in_another_way_is_refused(path, value):
    document = changed(VECTORS["certificates"][0]["document"], path, value)
    with pytest.raises(InvalidInput, match=r"not a (hard certificate|certificate|key set)"):
        PortableCertificate.from_json(document)


def test_numbers_that_other_languages_would_round_are_refused():
    portable = CASES[0][0]
    sets = (replace(portable.key_sets[0], valid_until=2**53),)
    with pytest.raises(InvalidInput, match=r"keySets\[0\]\.validUntil"):
        PortableCertificate.from_json(replace(portable, key_sets=sets).to_json())


def test_attack_wrong_signatures_that_cancel_prove_nothing():
    """All signatures are checked in one equation: an error in one must not be made good by another's."""
    portable, root_id = CASES[2]
    error = bls.SecretKey(7).sign(b"what is wrong with it")
    opposite = bls.SecretKey(bls.GROUP_ORDER - 7).sign(b"what is wrong with it")
    wrong = [bls.aggregate([each.signature, error]) for each in (portable.certificate, *portable.handovers)]
    undone = [bls.aggregate([each.signature, opposite]) for each in (portable.certificate, *portable.handovers)]
    certificate = replace(portable.certificate, signature=wrong[0])
    handovers = [
        (replace(portable.handovers[0], signature=undone[1]), portable.handovers[1]),
        (portable.handovers[0], replace(portable.handovers[1], signature=undone[2])),
    ]
    for each in handovers:
        with pytest.raises(VerificationFailed, match="result is not signed"):
            replace(portable, certificate=certificate, handovers=each).verify(root_id, AT)
    between = (replace(portable.handovers[0], signature=wrong[1]), replace(portable.handovers[1], signature=undone[2]))
    with pytest.raises(VerificationFailed, match=f"epoch {portable.key_sets[0].epoch} does not hand over"):
        replace(portable, handovers=between).verify(root_id, AT)
    later = (portable.handovers[0], replace(portable.handovers[1], signature=wrong[2]))
    with pytest.raises(VerificationFailed, match=f"epoch {portable.key_sets[1].epoch} does not hand over"):
        replace(portable, handovers=later).verify(root_id, AT)


def test_a_root_that_nobody_trusts_proves_nothing():
    portable, _ = CASES[1]
    with pytest.raises(VerificationFailed, match="not the one that you trust"):
        portable.verify(CASES[2][1][:-1] + b"\0", AT)


def test_the_id_of_a_set_names_its_network():
    key_set, names = CASES[0][0].key_sets[0], set()
    for chain_id, batches in ((1, "0x" + "11" * 20), (2, "0x" + "11" * 20), (1, "0x" + "12" * 20)):
        names.add(key_set.id_on(chain_id, batches))
    for change in ("epoch", "count", "total_weight", "valid_until"):
        names.add(replace(key_set, **{change: getattr(key_set, change) + 1}).id_on(1, "0x" + "11" * 20))
    assert len(names) == 7


def test_keys_whose_stake_may_have_left_prove_nothing():
    portable, root_id = CASES[2]
    last = min(key_set.valid_until for key_set in portable.key_sets)
    portable.verify(root_id, last)
    with pytest.raises(VerificationFailed, match="name the time at which you got the file"):
        portable.verify(root_id, last + 1)


def test_sets_and_handovers_must_fit_each_other():
    portable = CASES[2][0]
    for change in (
        {"handovers": portable.handovers[:1]},
        {"key_sets": ()},
        {"key_sets": portable.key_sets * 22, "handovers": portable.handovers * 32 + portable.handovers[:1]},
    ):
        with pytest.raises(InvalidInput, match=f"1 to {MAX_HANDOVERS + 1} key sets"):
            replace(portable, **change)
    skipped = replace(portable, key_sets=(portable.key_sets[0], portable.key_sets[2]), handovers=portable.handovers[:1])
    with pytest.raises(VerificationFailed, match="does not hand over"):
        skipped.verify(skipped.root_id, AT)


def test_rosters_are_as_the_vectors_say():
    case = VECTORS["roster"]
    operators = case["operators"]
    roster = Roster.of(
        case["epoch"],
        [[(each["operator"], each["weight"]) for each in reversed(operators)]],
        {each["operator"]: bytes.fromhex(each["keyHash"][2:]) for each in operators},
        case["firstBlockTime"],
        case["unbondingSeconds"],
    )
    assert roster.key_set == KeySet.from_json(case["keySet"])
    assert roster.key_set.to_json() == case["keySet"]


# Schema


def test_the_schema_describes_what_is_written():
    Draft202012Validator.check_schema(SCHEMA)
    for case in VECTORS["certificates"]:
        Draft202012Validator(SCHEMA).validate(case["document"])
    assert SCHEMA["properties"]["format"]["const"] == FORMAT


def test_the_schema_takes_no_field_more_or_less():
    validator, document = Draft202012Validator(SCHEMA), VECTORS["certificates"][1]["document"]
    for path, value in generator().changes(document):
        if path[-1] == "stray":
            assert not validator.is_valid(changed(document, path, value)), path

    def places(node):
        if isinstance(node, dict):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from places(child)

    for number, place in enumerate(places(document)):
        for name in place:
            copied = copy.deepcopy(document)
            del list(places(copied))[number][name]
            assert not validator.is_valid(copied), name


# The command


def run(tmp_path, document, *options, at=AT):
    import typer

    app = typer.Typer()
    app.command()(verify_cli.verify)
    file = tmp_path / "certificate.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return CliRunner().invoke(app, [str(file), "--at", str(at), *options])


def test_the_command_checks_a_file(tmp_path):
    case = VECTORS["certificates"][0]
    said = run(tmp_path, case["document"], "--root", case["rootId"], "--json")
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    assert report["result"] == "accept"
    assert report["committee"] == 3
    text = tmp_path / "text"
    text.write_text(VECTORS["text"])
    assert run(tmp_path, case["document"], "--root", case["rootId"], "--text", str(text)).exit_code == 0
    text.write_text("Paris, says somebody else.")
    said = run(tmp_path, case["document"], "--root", case["rootId"], "--text", str(text))
    assert (said.exit_code, "not the certified answer" in said.output) == (7, True)


def test_the_command_says_what_is_wrong(tmp_path):
    good = VECTORS["certificates"][0]
    root = ["--root", good["rootId"]]
    rejected = VECTORS["certificates"][1]
    text, epoch = json.dumps(good["document"]), good["document"]["keySets"][0]["epoch"]
    for document, options, code, words in (
        (good["document"], ["--root", "0x" + "00" * 32], 7, "is not the one that you trust"),
        (good["document"], ["--root", "0x" + "00" * 32], 7, f"`trine certificate root --epoch {epoch}` computes"),
        (good["document"], ["--root", good["document"]["keySets"][0]["root"]], 3, "takes a key set's id, and this is"),
        (good["document"], ["--root", "0x12"], 3, "expected 0x and 64"),
        (changed(good["document"], ["certificate", "accepted"], "0x1"), root, 7, "not signed by distinct keys"),
        (rejected["document"], ["--root", rejected["rootId"]], 7, "result is reject"),
        ("{", root, 3, "not a certificate"),
        ("[" * 100_000, root, 3, "not a certificate"),
        (text.replace('"format"', '"format": "trine-certificate-1", "format"', 1), root, 3, "stands twice"),
        ("[]", root, 3, "not a certificate"),
        (text[:-20], root, 3, "not a certificate, or not all of one: it is no JSON"),
        ({**good["document"], "certificate": None}, root, 3, "a field in it is of another type"),
        ({"certificate": 1}, root, 3, "`trine certificate get` writes one"),
        (
            {
                **good["document"],
                "certificate": {k: v for k, v in good["document"]["certificate"].items() if k != "root"},
            },
            root,
            3,
            "it has no field 'root'",
        ),
        (" " * (8 << 20) + text, root, 3, "more than 8388608 bytes"),
    ):
        said = run(tmp_path, document, *options)
        assert said.exit_code == code, said.output
        assert words in " ".join(said.output.split())
        assert "Traceback" not in said.output
        assert good["rootId"] not in said.output, "whoever copied it would trust the file"


def test_the_audit_on_the_chain_names_the_command_that_such_a_file_is_for(tmp_path):
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(VECTORS["certificates"][0]["document"]))
    said = CliRunner().invoke(audit_app, ["certificate", str(file)])
    assert said.exit_code == 3
    assert "is a certificate that needs no chain: `trine verify` checks it" in " ".join(said.output.split())


def test_no_junk_verifies():
    for document in (None, [], {}, {"format": FORMAT}, {"format": FORMAT, "certificate": [], "keySets": 1}):
        with pytest.raises((InvalidInput, ProtocolError)):
            PortableCertificate.from_json(document)
