"""Databases of tests: what one test left is not there for the next."""

from __future__ import annotations

import asyncpg
import pytest

from chassis.testing.lending import Databases
from chassis.testing.servers import Database

WATCHED = "select to_regprocedure('testing.empty()') is not null"


@pytest.fixture
async def lent(databases: Databases) -> Database:
    """The next that anybody gets: of the ones that were given back, the last."""
    return await databases.lend()


async def _did(database: Database, *statements: str) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        if not await connection.fetchval(WATCHED):
            pytest.skip("the administrator of this server is no superuser: nothing is lent twice")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _found(database: Database, question: str) -> object:
    connection = await asyncpg.connect(database.url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_rows_and_numbers_are_as_the_migrations_left_them(databases: Databases, lent: Database) -> None:
    await _did(
        lent,
        "insert into planner.companies (id, name) values ('acme', 'Acme')",
        "delete from planner.projects",
        "insert into rag.spaces (id, company_id, name, scope, language, provider, model, dimension, target)"
        " values (gen_random_uuid(), 'acme', 'Handbook', 'company', 'en', 'local', 'm', 384, 900)",
    )
    await databases.take_back(lent)
    again = await databases.lend()
    assert again.name != lent.name
    assert await _found(again, "select array_agg(id) from planner.companies") == ["default"]
    assert await _found(again, "select array_agg(id) from planner.projects") == ["default"]
    assert await _found(again, "select count(*) from rag.spaces") == 0
    assert await _found(again, "select nextval('rag.spaces_number_seq')") == 1
    assert await _found(again, "select count(*) from executor.schema_migrations") != 0
    await databases.take_back(again)


async def test_what_a_test_altered_is_lent_to_nobody(databases: Databases, lent: Database) -> None:
    await _did(lent, "alter table planner.tasks disable trigger all")
    await databases.take_back(lent)
    again = await databases.lend()
    assert await _found(again, "select count(*) from pg_trigger where tgenabled = 'D'") == 0
    await databases.take_back(again)


async def test_what_a_service_altered_is_lent_to_nobody_either(databases: Databases, lent: Database) -> None:
    await _did(lent, "set role planner", "create table planner.left_over ()")
    await databases.take_back(lent)
    again = await databases.lend()
    assert await _found(again, "select to_regclass('planner.left_over')") is None
    await databases.take_back(again)


async def test_who_was_left_running_is_cut_off_and_finds_nothing(databases: Databases, lent: Database) -> None:
    await _did(lent)
    left = await asyncpg.connect(lent.url_for("planner"))
    await databases.take_back(lent)
    with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError, ConnectionError)):
        await left.fetchval("select 1")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(lent.url_for("planner"))
