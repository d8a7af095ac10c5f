"""A database of the release before indexes: what is searched stays so, and what was to be made anew still is."""

from __future__ import annotations

from pathlib import Path
from shutil import copy
from uuid import uuid4

import asyncpg
import pytest

import services.rag
from chassis.migrate import migrate
from chassis.postgres import connect
from chassis.testing.servers import Database

MIGRATIONS = Path(services.rag.__file__).parent / "migrations"
OF_THIS_RELEASE = "0007_indexes.sql"
SPACE = """
insert into spaces (id, company_id, name, scope, language, provider, model, dimension, target, wanted)
values ($1, 'default', $2, 'company', 'en', 'local', 'all-MiniLM-L6-v2', 384, 800, $3) returning number
"""
DOCUMENT = """
insert into documents (id, company_id, space_id, identity, title, tags, version, searchable, title_vector)
values ($1, 'default', $2, 'id', 'Tides', '{}', 1, 1, '[1,2]')
"""
CHUNK = """
insert into chunks (id, company_id, space, document_id, version, ord, start, stop, body, folded, terms, length)
values ($1, 'default', $2, $3, 1, 0, 0, 4, 'Tide', 'tide', '{7}', 1)
"""


@pytest.fixture
async def older(database: Database, tmp_path: Path) -> asyncpg.Connection:
    """Rag's schema as the release before made it."""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if file.name < OF_THIS_RELEASE:
            copy(file, tmp_path)
    administrator = await asyncpg.connect(str(database))
    await administrator.execute("drop schema rag cascade; create schema rag authorization rag")
    await administrator.close()
    await migrate(database.url_for("rag"), "rag", tmp_path)
    return await connect(database.url_for("rag"), "rag")


async def test_what_is_searched_stays_and_what_was_wanted_gets_an_index_of_its_own(
    older: asyncpg.Connection, database: Database
) -> None:
    calm, changing, document = uuid4(), uuid4(), uuid4()
    numbers = [await older.fetchval(SPACE, calm, "Calm", None), await older.fetchval(SPACE, changing, "Changing", {})]
    await older.executemany(
        "insert into space_stats (space, documents, chunks) values ($1, 1, 1)", [[n] for n in numbers]
    )
    await older.execute(DOCUMENT, document, calm)
    await older.execute(CHUNK, uuid4(), numbers[0], document)
    assert OF_THIS_RELEASE in await migrate(database.url_for("rag"), "rag", MIGRATIONS)
    spaces = {row["id"]: row for row in await older.fetch("select id, number, next from spaces")}
    assert [spaces[id]["number"] for id in (calm, changing)] == numbers
    assert (spaces[calm]["next"], spaces[changing]["next"] not in (None, *numbers)) == (None, True)
    rows = await older.fetch("select space, space_id, chunks from space_stats order by space")
    following = (spaces[changing]["next"], changing, 0)
    assert [tuple(row) for row in rows] == [(numbers[0], calm, 1), (numbers[1], changing, 1), following]
    await older.execute(CHUNK, uuid4(), numbers[1], document)  # the same place in another index
    with pytest.raises(asyncpg.UniqueViolationError):
        await older.execute(CHUNK, uuid4(), numbers[1], document)
    await older.close()
