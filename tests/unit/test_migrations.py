"""Revisions of an operator's store: what they make, what they take over, what they refuse and leave alone."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from pathlib import Path

import migration
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from trine_operator import schema
from trine_operator.database import open_engine
from trine_operator.store import Due, Kept, Store, StoreError
from trine_verifier.store import VerifierStore

VERSION_3 = (Path(__file__).parent / "data" / "store_version_3.sql").read_text()
NODE_3, VERIFIER_3 = VERSION_3.split("-- and of a verifier's")
PAYER = "0x" + "Ab" * 20
ROWS_3 = f"""
INSERT INTO schema (name, version) VALUES ('trine', 3);
INSERT INTO owner (owner) VALUES ('somebody');
INSERT INTO batches VALUES ('{"11" * 32}', '{"22" * 32}', '{"33" * 32}', '{"44" * 32}', '[]', NULL, 'final', '1', '0');
INSERT INTO answers (digest, request_hash, model_id, client, fee_wei, evidence, batch_id, leaf, result)
    VALUES ('{"55" * 32}', NULL, '{"22" * 32}', '{PAYER}', '7', '{{}}', '{"11" * 32}', 0, 'accept');
INSERT INTO balances VALUES ('{PAYER.lower()}', '7', '7', '0', TRUE);
INSERT INTO vouchers VALUES ('{PAYER}', '9', '{"66" * 65}');
"""
VOTES_3 = f"INSERT INTO votes VALUES ('{'11' * 32}', 0, '1', '0', 5, '{'77' * 32}', '[]');"


def run(url, script):
    """Statements, as another program would run them."""
    engine = open_engine(url)
    if engine.dialect.name == "postgresql":
        script = script.replace("sequence INTEGER", "sequence SERIAL")
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    with engine.begin() as connection:
        for statement in filter(str.strip, "\n".join(lines).split(";\n")):
            connection.exec_driver_sql(statement.rstrip().rstrip(";"))
    engine.dispose()


def contents(url):
    """Every table's columns and rows."""
    engine = open_engine(url)
    with engine.connect() as connection:
        tables = sorted(inspect(connection).get_table_names())
        found = {
            table: (
                [(column["name"], str(column["type"])) for column in inspect(connection).get_columns(table)],
                sorted(map(repr, connection.execute(text(f"SELECT * FROM {table}")))),
            )
            for table in tables
        }
    engine.dispose()
    return found


def newest():
    return ScriptDirectory.from_config(schema.config()).get_current_head()


def test_the_revisions_make_what_the_modules_declare(database_url):
    engine = open_engine(database_url)
    schema.upgrade(engine)
    assert migration.differences(engine) == []
    engine.dispose()


def test_a_table_without_a_revision_is_noticed(database_url):
    """Or the test above would prove nothing."""
    engine = open_engine(database_url)
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE votes")
        connection.exec_driver_sql("DROP INDEX waiting")
    assert sorted(kind for kind, *_ in migration.differences(engine)) == ["add_index", "add_index", "add_table"]
    engine.dispose()


def test_revisions_are_one_chain_and_numbered_in_order():
    scripts = [script.revision for script in ScriptDirectory.from_config(schema.config()).walk_revisions()]
    assert scripts == [f"{number:04d}" for number in range(len(scripts), 0, -1)]
    assert migration.next_revision() == f"{len(scripts) + 1:04d}"


@pytest.mark.parametrize("is_verifier", [False, True])
def test_a_store_from_before_there_were_revisions_is_taken_over(database_url, is_verifier):
    run(database_url, NODE_3 + ROWS_3)
    if is_verifier:
        run(database_url, VERIFIER_3 + VOTES_3)
    store = (VerifierStore if is_verifier else Store)(database_url)
    assert store.to_collect() == [Due(PAYER, 7, 0, 0, 0)]
    assert store.voucher(PAYER) == Kept(9, bytes.fromhex("66" * 65))
    assert store.batch(bytes.fromhex("11" * 32)).state == "final"
    assert store.owed(PAYER) == 7
    with pytest.raises(StoreError, match="belongs to somebody"):
        store.claim("somebody else")
    if is_verifier:
        assert store.vote(bytes.fromhex("11" * 32), 0).salt == bytes.fromhex("77" * 32)
    store.close()
    kept = contents(database_url)
    assert kept["alembic_version"][1] == [repr((newest(),))]
    # Releases that know no revisions refuse what is not version 3, instead of writing rows that lack columns.
    assert kept["schema"][1] == ["('trine', 4)"]
    Store(database_url).close()
    assert contents(database_url) == kept


@pytest.mark.parametrize(("version", "why"), [(2, "which is too old"), (99, "which is newer")])
def test_a_store_of_another_version_is_refused_untouched(database_url, version, why):
    run(database_url, NODE_3 + ROWS_3.replace("('trine', 3)", f"('trine', {version})"))
    before = contents(database_url)
    with pytest.raises(StoreError, match=f"schema {version}, {why}.*use the version that wrote it"):
        Store(database_url)
    assert contents(database_url) == before


def test_a_store_of_a_newer_revision_is_refused_untouched(database_url):
    Store(database_url).close()
    run(database_url, "UPDATE alembic_version SET version_num = '9999'")
    before = contents(database_url)
    with pytest.raises(
        StoreError, match=f"revision 9999, which a newer version of Trine wrote; this one knows {newest()}"
    ):
        Store(database_url)
    assert contents(database_url) == before


def test_a_database_of_another_program_is_refused_untouched(database_url):
    run(database_url, "CREATE TABLE schema (name VARCHAR(32) NOT NULL, version INTEGER)")
    before = contents(database_url)
    with pytest.raises(StoreError, match="no store of Trine's"):
        Store(database_url)
    assert contents(database_url) == before


def test_a_step_that_fails_leaves_the_store_as_it_was_and_says_what_to_do(database_url, tmp_path, monkeypatch):
    run(database_url, NODE_3 + ROWS_3)
    before = contents(database_url)
    broken = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, broken)
    (broken / "versions" / f"{int(newest()) + 1:04d}_broken.py").write_text(
        "from alembic import op\n"
        f'revision, down_revision = "{int(newest()) + 1:04d}", "{newest()}"\n'
        "def upgrade():\n"
        "    op.execute(\"UPDATE owner SET owner = 'nobody'\")\n"
        '    op.execute("DELETE FROM no_such_table")\n'
    )
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(
            StoreError, match=r"left as it was \(.*no_such_table.*put that right and start again, or go"
        ):
            Store(database_url)
    assert contents(database_url) == before
    Store(database_url).close()
    assert contents(database_url)["owner"][1] == ["('somebody',)"]


def test_of_processes_that_open_a_store_at_once_one_upgrades_it(database_url):
    run(database_url, NODE_3 + ROWS_3)
    context = multiprocessing.get_context("spawn")
    begin, said = context.Event(), context.Queue()
    openers = [context.Process(target=open_together, args=(database_url, begin, said)) for _ in range(3)]
    for opener in openers:
        opener.start()
    for _ in openers:
        assert said.get(timeout=120) == "ready"
    begin.set()
    assert sorted(said.get(timeout=120) for _ in openers) == ["as it was", "as it was", "upgraded"]
    for opener in openers:
        opener.join(60)
    store = Store(database_url)
    assert store.to_collect() == [Due(PAYER, 7, 0, 0, 0)]
    store.close()


def test_a_store_that_another_process_upgrades_meanwhile_is_no_newer_one(database_url, monkeypatch):
    """The list of its tables may be older than what they hold."""
    Store(database_url).close()
    looks = []

    def torn(connection):
        looks.append(connection)
        return schema.Found(version=schema.BASELINE_VERSION + 1) if len(looks) == 1 else found(connection)

    found = schema.found
    monkeypatch.setattr(schema, "found", torn)
    Store(database_url).close()
    assert len(looks) == 2


def open_together(url, begin, said):
    from structlog.testing import capture_logs

    said.put("ready")
    begin.wait(60)
    with capture_logs() as lines:
        Store(url).close()
    said.put("upgraded" if [line["event"] for line in lines] == ["store_upgrading"] else "as it was")


def test_make_migration_writes_what_is_missing(tmp_path, monkeypatch):
    assert migration.write("nothing") is None
    copy = tmp_path / "migrations"
    later = re.compile("(?!0001)[0-9]{4}_")
    shutil.copytree(schema.MIGRATIONS, copy, ignore=lambda _folder, names: list(filter(later.match, names)))
    monkeypatch.setattr(schema, "MIGRATIONS", copy)
    monkeypatch.setattr(migration, "VERSIONS", copy / "versions")
    file = migration.write("when it was over")
    assert file == copy / "versions" / "0002_when_it_was_over.py"
    engine = open_engine(f"sqlite:///{tmp_path}/store.sqlite")
    schema.upgrade(engine)
    assert migration.differences(engine) == []
    engine.dispose()
