"""A database of the release before outbox_batches: what it had not published yet is published, what it had is known."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis import migrate
from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import PUBLISHED
from chassis.testing.servers import Database
from contracts import run_facts
from contracts.envelope import Envelope
from contracts.message import Message
from contracts.streams import PLANNER_RUNS
from tests.chassis.conftest import Start, fact, nothing
from tests.chassis.test_relay import none_waits

OF_THIS_RELEASE = "0004_outbox_batches.sql"
TOLD = """
insert into outbox (message_id, stream, subject, story, sequence, headers, body, published_at, stream_sequence)
values ($1, 'EVENTS', $2, $3, $4, $5, $6, case when $7::bigint is not null then clock_timestamp() end, $7)
"""


@pytest.fixture
async def older(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> asyncpg.Connection:
    """The executor's schema as the release before made it, as the executor sees it."""
    for file in sorted(migrate.CHASSIS.glob("*.sql")):
        if file.name < OF_THIS_RELEASE:
            copy(file, tmp_path)
    administrator = await asyncpg.connect(str(database))
    await administrator.execute("drop schema executor cascade; create schema executor authorization executor")
    await administrator.close()
    url = database.url_for("executor")
    with monkeypatch.context() as before:
        before.setattr(migrate, "CHASSIS", tmp_path)
        await migrate.migrate(url, "executor", tmp_path / "none")
    connection = await asyncpg.connect(url, server_settings={"search_path": "executor"})
    await connection.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
    return connection


def told(message: Message, id: UUID) -> Envelope:
    return Envelope.of(message, id=id, source="executor", request_id="req-1")


async def test_what_the_release_before_left_unpublished_is_published_under_its_own_headers(
    older: asyncpg.Connection, database: Database, start: Start, keeper: Keeper, tmp_path: Path
) -> None:
    run_id, ids = uuid4(), [uuid4() for _ in range(1203)]
    message = fact(run_id)
    rows = []
    for n, id in enumerate(ids, start=1):
        headers = told(message, id).headers() | {"ce-sequence": str(n)}
        place = None if n > 3 else n
        rows.append(
            (id, message.subject, str(run_id), n, json.dumps(headers), message.model_dump_json().encode(), place)
        )
    await older.executemany(TOLD, rows)
    await older.close()
    await migrate.migrate(database.url_for("executor"), "executor", tmp_path / "none")

    async with start("executor", nothing) as emitter:
        published = await emitter.pool.fetchrow(
            "select size, first_sequence, last_sequence from outbox_batches where id = 1"
        )
        assert tuple(published) == (3, 1, 3)
        assert await emitter.pool.fetchval("select max(size) from outbox_batches") == 500
        await eventually(lambda: none_waits(emitter))
        assert await emitter.pool.fetchval(PUBLISHED) == 1203

    js = await keeper.connect()
    assert (await js.stream_info("EVENTS")).state.messages == 1203, "also the three that this broker never had"
    pull = await js.pull_subscribe_bind(consumer=PLANNER_RUNS.durable, stream="EVENTS")
    (arrived,) = await pull.fetch(1, timeout=5)
    envelope = Envelope.from_headers(arrived.headers)
    assert (envelope.type, envelope.request_id, envelope.story) == (message.type_name(), "req-1", str(run_id))
    assert envelope.id == ids[envelope.sequence - 1]
    assert run_facts.RunCompleted.model_validate_json(arrived.data) == message
