"""`trine verify`: a certificate that travels, checked with nothing but what its reader trusts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.options import AsJson
from trine.cli.output import fail_cleanly, print_json, say
from trine.errors import InvalidInput, VerificationFailed

if TYPE_CHECKING:
    from trine.protocol.portable import PortableCertificate


@fail_cleanly
def verify(
    file: Annotated[
        Path, typer.Argument(help="What `trine certificate get` has written.", exists=True, dir_okay=False)
    ],
    root: Annotated[
        str,
        typer.Option(help="The id that `trine certificate root --epoch N` computes from the chain: what you trust."),
    ],
    text: Annotated[
        Path | None, typer.Option(help="File with the answer's text, to be compared.", exists=True, dir_okay=False)
    ] = None,
    salt: Annotated[
        str | None, typer.Option(help="The order's salt, which the text is hashed with; in what --save-receipt wrote.")
    ] = None,
    at: Annotated[
        int | None, typer.Option(min=0, help="When you got the file, in seconds since 1970; default: now.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Checks a certificate without a chain and without a network. Exit code 7 when it does not hold, or does not say
    that the answer was accepted."""
    from trine.protocol.key_root import KeySet
    from trine.protocol.messages import text_hash
    from trine.protocol.salts import read_salt

    if salt is not None and text is None:
        raise InvalidInput("--salt is for the text: name its file with --text")
    trusted, found = _trusted(root), _read(file)
    if trusted == found.key_sets[0].root != found.root_id:
        epoch = found.key_sets[0].epoch
        raise InvalidInput(
            "--root takes a key set's id, and this is the root of its tree, which does not say what the keys weigh "
            f"together and until when they are good: `trine certificate root --epoch {epoch}` prints the id"
        )
    started = time.perf_counter()
    found.verify(trusted, int(time.time()) if at is None else at)
    milliseconds = (time.perf_counter() - started) * 1e3
    hard = found.certificate
    with_salt = b"" if salt is None else read_salt(salt)
    if text is not None and text_hash(_text(text), with_salt) != hard.receipt.text_hash:
        hint = "" if salt else ", or the order had a salt: name it with --salt"
        raise VerificationFailed(f"{text} is not the certified answer: its text hashes to something else{hint}")
    last: KeySet = found.key_sets[-1]
    if json:
        print_json(
            {
                "result": hard.result,
                "chainId": hard.chain_id,
                "batches": hard.batches,
                "batchId": "0x" + hard.batch_id.hex(),
                "index": hard.index,
                "epoch": hard.epoch,
                "committee": len(hard.members),
                "handovers": len(found.handovers),
                "validUntil": min(key_set.valid_until for key_set in found.key_sets),
                "receipt": hard.receipt.to_json(),
                "milliseconds": round(milliseconds, 2),
            }
        )
    else:
        say(f"the certificate holds: {hard.receipt.node}'s answer, result {hard.result}")
        say(f"  batch      0x{hard.batch_id.hex()}, leaf {hard.index}, on chain {hard.chain_id}")
        say(f"  signed by  {len(hard.members)} of {last.count} keys of epoch {hard.epoch}")
        say(f"  text       0x{hard.receipt.text_hash.hex()}{'' if text is None else ' (the file has it)'}")
        say(f"  checked in {milliseconds:.1f} ms, {len(found.handovers)} hand-overs from the set that you trust")
    if hard.result != "accept":
        raise VerificationFailed(f"the verifiers' result is {hard.result}: do not use this answer")


def _read(file: Path) -> PortableCertificate:
    from trine.protocol.portable import MAX_FILE_BYTES, PortableCertificate

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{file} has more than {MAX_FILE_BYTES} bytes: that is no certificate")
        return PortableCertificate.from_bytes(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from None


def _trusted(root: str) -> bytes:
    try:
        trusted = bytes.fromhex(root.removeprefix("0x"))
    except ValueError:
        trusted = b""
    if len(trusted) != 32:
        raise InvalidInput(
            f"--root {root!r:.80} is no id of a key set: expected 0x and 64 hexadecimal digits, as "
            "`trine certificate root` prints them"
        )
    return trusted


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from None
