"""Facts are forgotten from the beginning of a feed: positions go on counting, and who was behind is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.postgres import connect
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts.executor import GetRun
from contracts.message import Event
from contracts.run_facts import RunCompleted
from services.gateway.retention.rules import OldFacts
from tests.gateway.builders import a_run, a_run_detail
from tests.gateway.conftest import Gateway, Owner, StartGateway, StartOwner
from tests.gateway.sse import watch
from tests.gateway.test_streams import step

MONTHS = 90 * 86_400.0


@pytest.fixture
async def executor(start_owner: StartOwner) -> AsyncIterator[Owner]:
    async with start_owner("executor") as owner:
        yield owner


@pytest.fixture
async def timeline(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database.url_for("gateway"), "gateway")
    yield connection
    await connection.close()


async def told(gateway: Gateway, executor: Owner, timeline: asyncpg.Connection, *facts: Event) -> None:
    before = await timeline.fetchval("select count(*) from timeline")
    await executor.tell(*facts)
    await eventually(lambda: holds(timeline, before + len(facts)))


async def holds(timeline: asyncpg.Connection, facts: int) -> bool:
    return bool(await timeline.fetchval("select count(*) from timeline") == facts)


async def age(timeline: asyncpg.Connection, *positions: int) -> None:
    await timeline.execute("update timeline set at = at - interval '91 days' where position = any($1)", positions)


async def positions(timeline: asyncpg.Connection) -> list[int]:
    return [row["position"] for row in await timeline.fetch("select position from timeline order by position")]


async def test_old_facts_go_in_steps_and_positions_go_on_counting(
    gateway: Gateway, executor: Owner, timeline: asyncpg.Connection
) -> None:
    run_id = uuid4()
    await told(gateway, executor, timeline, *(step(run_id, n) for n in range(8)))
    await age(timeline, 1, 2, 3, 4, 5, 7)
    rule = OldFacts(MONTHS)
    assert [await rule.step(timeline, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert await positions(timeline) == [6, 7, 8], "nothing behind a young fact goes before it"
    await told(gateway, executor, timeline, step(run_id, 8))
    assert await positions(timeline) == [6, 7, 8, 9]


async def test_a_feed_that_was_forgotten_whole_goes_on_where_it_was(
    gateway: Gateway, executor: Owner, timeline: asyncpg.Connection
) -> None:
    run_id = uuid4()
    await told(gateway, executor, timeline, *(step(run_id, n) for n in range(3)))
    await age(timeline, 1, 2, 3)
    assert await OldFacts(MONTHS).step(timeline, 500) == 3
    await told(gateway, executor, timeline, step(run_id, 3))
    assert await positions(timeline) == [4]


async def test_who_resumes_below_the_floor_is_reset_and_who_was_at_it_goes_on(
    gateway: Gateway, executor: Owner, timeline: asyncpg.Connection
) -> None:
    run_id = uuid4()
    await told(gateway, executor, timeline, *(step(run_id, n) for n in range(6)))
    epoch = await timeline.fetchval("select epoch from feeds")
    await age(timeline, 1, 2, 3)
    assert await OldFacts(MONTHS).step(timeline, 500) == 3
    async with watch(gateway.client, f"/events/stream?run_id={run_id}", f"{epoch}.2") as behind:
        await behind.until(lambda r: len(r.messages) == 3)
        assert behind.events() == ["reset", "message", "message", "message"]
        assert "no longer kept" in json.loads(behind.frames[0].data)["reason"]
    async with watch(gateway.client, f"/events/stream?run_id={run_id}", f"{epoch}.3") as there:
        await there.until(lambda r: len(r.messages) == 3)
        assert there.events() == ["message", "message", "message"]


async def test_a_watcher_misses_nothing_while_the_beginning_goes(
    gateway: Gateway, executor: Owner, timeline: asyncpg.Connection
) -> None:
    run_id: UUID = uuid4()
    await told(gateway, executor, timeline, *(step(run_id, n) for n in range(40)))
    await age(timeline, *range(1, 31))
    rule = OldFacts(MONTHS)
    async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
        await reader.until(lambda r: len(r.messages) == 40)
        telling = asyncio.create_task(executor.tell(*(step(run_id, n) for n in range(40, 60))))
        while await rule.step(timeline, 3):
            continue
        await telling
        await reader.until(lambda r: len(r.messages) == 60)
        assert reader.events() == ["message"] * 60
    assert await positions(timeline) == list(range(31, 61))


def finished(run_id: UUID) -> RunCompleted:
    counts: dict[str, Any] = {"nodes_completed": 1, "nodes_skipped": 0, "cost_usd": "0", "tokens": 0}
    return RunCompleted(run_id=run_id, title="r", **counts)


@pytest.mark.parametrize("path", ["/events/stream?run_id={}", "/runs/{}/tokens"])
async def test_the_stream_of_a_run_whose_facts_are_gone_ends_as_its_executor_says(
    start_gateway: StartGateway, start_owner: StartOwner, timeline: asyncpg.Connection, path: str
) -> None:
    long_ago, run_id = datetime.now(UTC) - timedelta(days=91), uuid4()
    over = a_run(status="failed", started_at=long_ago, ended_at=long_ago)
    answers = {GetRun: lambda r: a_run_detail(over.model_copy(update={"id": r.run_id}))}
    async with start_owner("executor", answers) as executor, start_gateway() as gateway:
        await told(gateway, executor, timeline, step(run_id, 0), finished(run_id))
        epoch = await timeline.fetchval("select epoch from feeds")
        await age(timeline, 1, 2)
        assert await OldFacts(MONTHS).step(timeline, 500) == 2
        async with watch(gateway.client, path.format(run_id)) as reader:
            await reader.until_end()
        assert reader.events() == ["end"]
        assert json.loads(reader.frames[0].data) == {"status": "failed"}
        again = await gateway.client.get(path.format(run_id), headers={"Last-Event-ID": f"{epoch}.2"})
        assert again.status_code == 204


async def test_a_run_that_has_just_ended_is_not_over_before_its_facts_are_told(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    now, run_id = datetime.now(UTC), uuid4()
    over = a_run(id=run_id, status="completed", started_at=now, ended_at=now)
    answers = {GetRun: lambda _: a_run_detail(over)}
    async with start_owner("executor", answers) as executor, start_gateway() as gateway:
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await eventually(lambda: len(executor.asked) > 1)
            await executor.tell(step(run_id, 0), finished(run_id))
            await reader.until_end()
        assert reader.events() == ["message", "message", "end"]
