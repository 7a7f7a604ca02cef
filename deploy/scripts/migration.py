"""Writes the next revision of the stores' tables: `make migration M="what changed"`.

Compares what the modules of node and verifier declare with what the revisions make, and writes the difference to
operators/trine_operator/migrations/versions. Read it before it is committed: Alembic takes a renamed column for two.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData
from sqlalchemy.engine import Engine

from trine_operator import schema
from trine_operator.database import open_engine
from trine_operator.tables import Base

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "operators" / "trine_operator", ROOT / "node" / "trine_node", ROOT / "verifier" / "trine_verifier")
VERSIONS = schema.MIGRATIONS / "versions"


def declared() -> MetaData:
    """All tables: every module that declares one is imported."""
    for folder in FOLDERS:
        for file in sorted(folder.rglob("*.py")):
            if "__tablename__ =" in file.read_text("utf-8"):
                importlib.import_module(".".join(file.relative_to(folder.parent).with_suffix("").parts))
    return Base.metadata


def differences(engine: Engine) -> list[Any]:
    """What a store that the revisions made lacks, or has too much."""
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), declared()))


def next_revision() -> str:
    return f"{max(int(file.name[:4]) for file in VERSIONS.glob('[0-9]*.py')) + 1:04d}"


def write(message: str) -> Path | None:
    """None if there is nothing to write."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/store.sqlite")
        schema.upgrade(engine)
        if not differences(engine):
            return None
        with engine.connect() as connection:
            made = command.revision(
                schema.config(connection=connection, metadata=declared()),
                message,
                autogenerate=True,
                rev_id=next_revision(),
            )
        engine.dispose()
    assert made is not None
    assert not isinstance(made, list)
    return Path(made.path)


def main() -> None:
    message = " ".join(sys.argv[1:]).strip()
    if not message:
        sys.exit('error: say what changed: make migration M="what changed"')
    file = write(message)
    if file is None:
        sys.exit("error: the tables are what the revisions make: change them first")
    for arguments in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, str(file)], check=True)
    print(f"{file.relative_to(ROOT)}: read it, then run pytest tests/unit/test_migrations.py")


if __name__ == "__main__":
    main()
