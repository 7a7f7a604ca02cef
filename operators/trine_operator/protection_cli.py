"""`trine node protection …`, `trine verifier protection …`: the record of what was signed, out and in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, say

if TYPE_CHECKING:
    from trine_operator.outbox.protection import Owner
    from trine_operator.settings import OperatorSettings
    from trine_operator.store import Store

Config = Annotated[
    Path | None,
    typer.Option(help="TOML file with the settings; see docs/operators.md.", exists=True, dir_okay=False),
]
Written = Annotated[Path, typer.Argument(help="JSON file to write; one that is there is replaced.")]
Read = Annotated[Path, typer.Argument(help="JSON file that `export` wrote.")]


def protection_group(load: Callable[[Path | None], OperatorSettings]) -> typer.Typer:
    """The commands, for who is set up by what `load` reads."""
    app = group("What this operator has signed and must not contradict: take it along to another machine.")

    @app.command("export")
    @fail_cleanly
    def export_(file: Written, config: Config = None) -> None:
        """Writes the record of votes and anchors to a file. The operator may run meanwhile; stop it first to move."""
        from trine_operator.outbox.protection import export

        with _opened(load(config)) as (store, owner):
            document = export(store, owner)
        _replace(file, json.dumps(document, indent=1) + "\n")
        say(f"{len(document['signed'])} entries of {owner.account} on chain {owner.chain_id} written to {file}")

    @app.command("import")
    @fail_cleanly
    def import_(file: Read, config: Config = None) -> None:
        """Adds the record in a file to the store's. Nothing is removed, and a contradiction changes nothing."""
        from trine_operator.outbox.protection import merge, read_file

        document = read_file(file)
        with _opened(load(config)) as (store, owner):
            added = merge(store, owner, document)
        say(f"{added} entries added to the record of {owner.account} on chain {owner.chain_id}")

    return app


@contextmanager
def _opened(settings: OperatorSettings) -> Iterator[tuple[Store, Owner]]:
    """The store and whose it is. Asks no chain."""
    from trine.chain import Deployment, load_keystore
    from trine_operator.outbox.protection import Owner
    from trine_operator.store import Store

    account = str(load_keystore(settings.keystore, settings.password_file).address)
    deployment = Deployment.load(settings.deployment)
    owner = Owner(deployment.chain_id, deployment.address("Batches"), account)
    store = Store(settings.store_url)
    try:
        store.claim(f"{account} on chain {owner.chain_id} at {owner.batches}")
        yield store, owner
    finally:
        store.close()


def _replace(file: Path, text: str) -> None:
    """All of it or nothing."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(file)
