"""A certificate that travels: one file, checked without a chain and without a network.

It holds what a committee signed of one answer (`HardCertificate`), and the way from a key set that the reader trusts
to the key set of the certificate's epoch: the sets, and the hand-overs between them, each signed by keys with more than
two thirds of the set before. `trine/data/certificate.schema.json` describes the JSON, docs/certificates.md the rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trine.errors import InvalidInput, VerificationFailed, what_is_wrong
from trine.protocol import bls
from trine.protocol.certificate import NOT_SIGNED, HardCertificate
from trine.protocol.key_root import MAX_SIGNERS, KeySet, Member, handing_over

FORMAT = "trine-certificate-1"
MAX_HANDOVERS = 64
"""Each of up to `MAX_STEP_EPOCHS` epochs."""
MAX_FILE_BYTES = 8 << 20
"""What is larger is not read."""
MAX_JSON_INTEGER = 2**53 - 1
"""JSON's numbers are exact up to here everywhere; what may be larger is text."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Signatures of one set's keys over the next one."""

    members: tuple[Member, ...]  # in rising order of their index
    signature: bytes  # the sum of theirs

    def to_json(self) -> dict[str, Any]:
        return {"members": [member.to_json() for member in self.members], "signature": "0x" + self.signature.hex()}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            if len(document["members"]) > MAX_SIGNERS:
                raise InvalidInput(f"a hand-over has at most {MAX_SIGNERS} signers")
            members = tuple(Member.from_json(member) for member in document["members"])
            return cls(members, bytes.fromhex(document["signature"].removeprefix("0x")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a hand-over: {what_is_wrong(error)}") from None


@dataclass(frozen=True, slots=True)
class PortableCertificate:
    """A hard certificate with the key sets that lead to it. `key_sets` begins with the one that the reader trusts and
    ends with that of the certificate's epoch; `handovers[i]` leads from set i to set i + 1."""

    certificate: HardCertificate
    key_sets: tuple[KeySet, ...]
    handovers: tuple[Handover, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.key_sets) <= MAX_HANDOVERS + 1 or len(self.handovers) != len(self.key_sets) - 1:
            raise InvalidInput(
                f"a certificate has 1 to {MAX_HANDOVERS + 1} key sets and a hand-over between each and the next"
            )

    @property
    def root_id(self) -> bytes:
        """Names the key set that the reader must trust; see `KeySet.id_on`."""
        return self.key_sets[0].id_on(self.certificate.chain_id, self.certificate.batches)

    def verify(self, trusted_id: bytes, at: int) -> None:
        """Checks everything: offline, in milliseconds. Raises VerificationFailed or BadSignature.

        `trusted_id`: the `KeySet.id_on` of the set that the reader has compared with the source, or with people who
        have. `at`: when the reader got the file, in seconds. A set's keys may have been sold once their stake was
        withdrawn, so what they sign proves something only to who has it before the set's time is up.
        """
        if self.root_id != trusted_id:
            epoch = self.key_sets[0].epoch
            # Not with the file's own id: whoever copied that would trust the file.
            raise VerificationFailed(
                f"the certificate begins with a key set of epoch {epoch} which is not the one that you trust, "
                f"0x{trusted_id.hex()}: each epoch has its own; `trine certificate root --epoch {epoch}` computes that "
                "one's id from the chain, and where yours is of an earlier epoch, `trine certificate get "
                "--root-epoch …` makes a certificate that begins with it"
            )
        for key_set in self.key_sets:
            if at > key_set.valid_until:
                raise VerificationFailed(
                    f"the key set of epoch {key_set.epoch} was good until {key_set.valid_until}, and it is {at} "
                    "(seconds since 1970): its keys may have no stake any more, so they prove nothing; name the time "
                    "at which you got the file if that was earlier, or have the certificate made again from a newer "
                    "root"
                )
        claims = [(self.certificate.claim(self.key_sets[-1]), NOT_SIGNED)]
        source = (self.certificate.chain_id, self.certificate.batches)
        for current, following, handover in zip(self.key_sets, self.key_sets[1:], self.handovers, strict=False):
            otherwise = (
                f"epoch {current.epoch} does not hand over to the key set of epoch {following.epoch}: that is not "
                "signed by distinct keys with more than two thirds of the weight"
            )
            claim = handing_over(current, following, *source, handover.members, handover.signature)
            if claim is None:
                raise VerificationFailed(otherwise)
            claims.append((claim, otherwise))
        if not bls.verify_all([claim for claim, _ in claims]):
            # Each alone, to say which: that costs time only where something is wrong.
            raise VerificationFailed(next(why for claim, why in claims if not bls.verify_all([claim])))
        self.certificate.require_signed_receipt()

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "certificate": self.certificate.to_json(),
            "keySets": [key_set.to_json() for key_set in self.key_sets],
            "handovers": [handover.to_json() for handover in self.handovers],
        }

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Reads a file: `to_json`'s form in UTF-8, in which white space alone is free. Raises InvalidInput.

        So that readers in all languages take the same files: some decode other encodings, take the last of two equal
        names, or spell characters and numbers in several ways.
        """
        try:
            document = json.loads(raw)
            again = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"not a certificate, or not all of one: it is no JSON ({error!s:.200})") from None
        # No string of the format has white space.
        if re.sub(rb"[ \t\r\n]", b"", raw) != again:
            raise InvalidInput("not a certificate: the JSON is not written as the format says, or a name stands twice")
        return cls.from_json(document)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form, and nothing that is written in another way: no field more, no other spelling of a
        number. Raises InvalidInput."""
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise InvalidInput(
                f"not a certificate in the format {FORMAT!r}, which its field `format` would say: `trine certificate "
                "get` writes one"
            )
        try:
            if len(document["keySets"]) > MAX_HANDOVERS + 1 or len(document["handovers"]) > MAX_HANDOVERS:
                raise InvalidInput(f"a certificate has at most {MAX_HANDOVERS} hand-overs")
            found = cls(
                HardCertificate.from_json(document["certificate"]),
                tuple(KeySet.from_json(key_set) for key_set in document["keySets"]),
                tuple(Handover.from_json(handover) for handover in document["handovers"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"not a certificate: {what_is_wrong(error)}") from None
        if (other := _difference(document, found.to_json(), "")) is not None:
            raise InvalidInput(f"not a certificate: {other or 'the document'} is not written as the format says")
        return found


def _difference(given: Any, canonical: Any, where: str) -> str | None:
    """Path of the first place where two documents differ, in types too; None where they do not."""
    if type(given) is not type(canonical):
        return where
    if isinstance(given, dict):
        if (stray := next(iter(given.keys() ^ canonical.keys()), None)) is not None:
            name = stray if str(stray).isidentifier() else ascii(stray)[:80]  # a stranger's: it is shown in a line
            return f"{where}.{name}".strip(".")
        pairs = [(f"{where}.{name}".strip("."), given[name], canonical[name]) for name in given]
    elif isinstance(given, list):
        if len(given) != len(canonical):
            return where
        pairs = [(f"{where}[{i}]", one, other) for i, (one, other) in enumerate(zip(given, canonical, strict=True))]
    else:
        too_large = isinstance(given, int) and abs(given) > MAX_JSON_INTEGER
        return where if given != canonical or too_large else None
    return next((found for path, one, other in pairs if (found := _difference(one, other, path)) is not None), None)
