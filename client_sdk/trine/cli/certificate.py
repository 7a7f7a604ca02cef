"""`trine certificate …`: certificates that are checked without the chain, and the key sets that they begin with."""

from __future__ import annotations

import json as json_module
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trine.cli.groups import group
from trine.cli.options import DEFAULT_DEPLOYMENT, DEFAULT_RPC_URL, AsJson, DeploymentFile, RpcUrl, read_chain
from trine.cli.output import fail_cleanly, note, print_json, program, say
from trine.errors import InvalidInput

if TYPE_CHECKING:
    from trine.chain import Chain
    from trine.protocol.portable import PortableCertificate
    from trine.protocol.roster import Roster

app = group("Make certificates that are checked without the chain, and name the key sets that they begin with.")

Epoch = Annotated[int | None, typer.Option(min=0, help="Of the key set; default: the newest that is confirmed.")]


@app.command()
@fail_cleanly
def get(
    file: Annotated[
        Path,
        typer.Argument(
            help="What `trine ask` has saved: a certificate (--save) or a receipt (--save-receipt).",
            exists=True,
            dir_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the certificate that travels.")],
    root_epoch: Annotated[
        int | None,
        typer.Option(min=0, help="Epoch of the key set that its reader trusts; default: the certificate's own."),
    ] = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
) -> None:
    """Writes the file that `trine verify` checks without the chain. Exit code 4 for a batch that was settled by votes,
    or while too few verifiers show their hand-overs."""
    try:
        document = json_module.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from None
    found = _portable(document, root_epoch, rpc_url, deployment)
    write_whole(out, json_module.dumps(found.to_json(), indent=1) + "\n")
    note(
        f"{found.certificate.result}, signed by {len(found.certificate.members)} verifiers in epoch "
        f"{found.certificate.epoch}, with {len(found.handovers)} hand-overs"
    )
    note("who checks it names the key set that it begins with, by an endpoint of their own and not by this file:")
    say(f'{program()} verify {out} --root "$({program()} certificate root --epoch {found.key_sets[0].epoch} --id)"')


@app.command()
@fail_cleanly
def root(
    epoch: Epoch = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    id_alone: Annotated[bool, typer.Option("--id", help="Print the id alone.")] = False,
    json: AsJson = False,
) -> None:
    """Prints an epoch's key set, computed from the chain, and its id: what `trine verify --root` takes, and what to
    compare with others who have computed it from endpoints of their own. Each epoch has another one."""
    chain = read_chain(rpc_url, deployment)
    found = roster_of(chain, epoch)
    document = root_document(chain, found)
    if json:
        print_json(document)
        return
    if id_alone:
        say(document["id"])
        return
    for name, value in document.items():
        say(f"{name:<12} {value}")
    note(f"`{program()} verify FILE --root` takes the id, for files that begin with epoch {found.epoch}")


def roster_of(chain: Chain, epoch: int | None) -> Roster:
    return chain.roster(max(chain.newest_key_epoch(), 0) if epoch is None else epoch)


def root_document(chain: Chain, roster: Roster) -> dict[str, Any]:
    from trine.certificates import source_of

    source, fields = source_of(chain), roster.key_set.to_json()
    # Never `root`: of the two hashes here, `--root` takes the id. The tree's root says nothing of the keys' weight in
    # all, nor until when they are good, so a file could choose both.
    return {
        "id": "0x" + roster.key_set.id_on(source.chain_id, source.batches).hex(),
        "chainId": source.chain_id,
        "batches": source.batches,
        **{"merkleRoot" if name == "root" else name: value for name, value in fields.items()},
    }


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing. Raises InvalidInput."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from None


def _portable(document: Any, root_epoch: int | None, rpc_url: str, deployment: Path) -> PortableCertificate:
    if isinstance(document, dict) and "nodeUrl" in document:
        from trine import Answer, Client, Deployment
        from trine.unsettled import require_of_this_chain

        answer = Answer.from_held(document)
        with Client(rpc_url=rpc_url, deployment=Deployment.load(deployment)) as client:
            require_of_this_chain(client.chain, answer.receipt)
            return client.certify(answer, hard=True, root_epoch=root_epoch)
    from trine.certificates import portable_certificate
    from trine.protocol.certificate import Certificate

    return portable_certificate(read_chain(rpc_url, deployment), Certificate.from_json(document), root_epoch)
