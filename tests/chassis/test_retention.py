"""What is old goes in small steps, what is young or in use stays, and nobody is held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from chassis import retention
from chassis.postgres import Connection, Pool, connect, create_pool
from chassis.retention import DAY, OldRows, Retention
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts.errors import RetryLater

NEVER = asyncio.Event()
FILL = """
insert into inbox (consumer, message_id, handled_at)
select 'c', gen_random_uuid(), clock_timestamp() - make_interval(days => $2) from generate_series(1, $1)
"""


@pytest.fixture
def settings(database: Database) -> ServiceSettings:
    return ServiceSettings(nats_url="nats://unused", database_url=database.url_for("planner"), env="test")  # type: ignore[arg-type]


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = await create_pool(database.url_for("planner"), "planner")
    yield pool
    await pool.close()


@pytest.fixture
def prune(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> Retention:
    """The planner's."""
    monkeypatch.setattr(retention, "PAUSE", 0.001)

    async def connection() -> Connection:
        return await connect(settings.database_url.get_secret_value(), "planner")

    return Retention("planner", connection, settings)


@dataclass
class Recorded:
    """A rule that notes its steps, and does with each what it was given."""

    does: Any
    name: str = "recorded"
    steps: list[int] = field(default_factory=list)

    async def step(self, connection: Connection, most: int) -> int:
        self.steps.append(most)
        return int(await self.does())


async def count(pool: Pool, table: str = "inbox") -> int:
    return int(await pool.fetchval(f"select count(*) from {table}"))


async def test_old_rows_go_in_steps_while_young_ones_stay_and_writers_go_on(
    prune: Retention, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[int] = []
    step = OldRows.step

    async def noted(rule: OldRows, connection: Connection, most: int) -> int:
        rows = await step(rule, connection, most)
        if rule.table == "inbox":
            statements.append(rows)
        return rows

    monkeypatch.setattr(OldRows, "step", noted)
    await pool.execute(FILL, 1300, 9)
    await pool.execute(FILL, 7, 7)
    stop = asyncio.Event()
    writer = asyncio.create_task(write(pool, stop))
    assert (await prune.prune(NEVER))["inbox"] == 1300
    stop.set()
    written = await writer
    assert statements == [500, 500, 300, 0]
    assert written > 0
    assert await count(pool) == 7 + written


async def write(pool: Pool, stop: asyncio.Event) -> int:
    written = 0
    while not stop.is_set():
        await pool.execute(FILL, 1, 0)
        written += 1
    return written


async def test_every_table_of_the_chassis_forgets_at_its_age_and_not_before(prune: Retention, pool: Pool) -> None:
    for days in (7, 9, 29, 31):
        ago = f"clock_timestamp() - make_interval(days => {days})"
        await pool.execute(f"insert into inbox values ('c', gen_random_uuid(), {ago})")
        await pool.execute(f"insert into inbox_attempts values ('c', gen_random_uuid(), 1, 'e', {ago})")
        await pool.execute(f"insert into commands values (gen_random_uuid(), 'h', '{{}}', {ago})")
        await pool.execute(
            f"""insert into dead_letters (id, consumer, subject, headers, body, reason, attempts, created_at)
                values (gen_random_uuid(), 'c', 's', '{{}}', '', 'r', 1, {ago})"""
        )
        for state, ended in (("done", ago), ("failed", ago), ("queued", "null")):
            await pool.execute(
                f"""insert into jobs (id, company_id, kind, ref, payload, context, state, created_at, ended_at)
                    values (gen_random_uuid(), 'default', 'draft', '{days}', '{{}}', '{{}}', '{state}', {ago}, {ended})"""
            )
    gone = await prune.prune(NEVER)
    assert gone == {"inbox": 3, "inbox_attempts": 3, "commands": 3, "jobs": 6, "dead_letters": 1}
    assert await pool.fetchval("select count(*) from jobs where state = 'queued'") == 4, "what waits is never too old"


async def test_what_is_in_use_stays_however_old_it_is(prune: Retention, pool: Pool) -> None:
    prune.spare("inbox", "consumer = 'c' and message_id = (select max(message_id::text)::uuid from inbox)")
    await pool.execute(FILL, 10, 99)
    assert (await prune.prune(NEVER))["inbox"] == 9
    assert await count(pool) == 1


async def test_a_row_that_somebody_holds_is_passed_over_and_goes_the_next_time(prune: Retention, pool: Pool) -> None:
    await pool.execute(FILL, 3, 9)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from inbox limit 1 for update")
        assert (await asyncio.wait_for(prune.prune(NEVER), 60))["inbox"] == 2
    assert (await prune.prune(NEVER))["inbox"] == 1


async def test_a_second_process_of_the_service_does_nothing_until_the_first_is_done(
    prune: Retention, pool: Pool
) -> None:
    at_work, may_end = asyncio.Event(), asyncio.Event()

    async def linger() -> int:
        at_work.set()
        await may_end.wait()
        return 0

    await pool.execute(FILL, 5, 9)
    first = Retention("planner", prune._connect, ServiceSettings(nats_url="x", database_url="x"))  # type: ignore[arg-type]
    first._tables.clear()
    first.add(Recorded(linger))
    working = asyncio.create_task(first.prune(NEVER))
    await at_work.wait()
    assert await prune.prune(NEVER) == {}
    assert await count(pool) == 5
    may_end.set()
    await working
    assert (await prune.prune(NEVER))["inbox"] == 5


@pytest.mark.parametrize("trouble", [RetryLater(1.0, "the object store is away"), ZeroDivisionError()])
async def test_a_rule_that_fails_keeps_the_others_from_nothing(
    prune: Retention, pool: Pool, trouble: Exception
) -> None:
    async def fail() -> int:
        raise trouble

    tail = Recorded(lambda: asyncio.sleep(0, 0))
    prune.add(Recorded(fail, "failing"), tail)
    await pool.execute(FILL, 5, 9)
    gone = await prune.prune(NEVER)
    assert (gone["inbox"], gone["failing"], gone["recorded"]) == (5, 0, 0)
    assert tail.steps == [retention.STEP]


async def test_a_service_that_stops_ends_between_two_steps(prune: Retention, pool: Pool) -> None:
    stop = asyncio.Event()
    stop.set()
    await pool.execute(FILL, 1300, 9)
    assert (await prune.prune(stop))["inbox"] == retention.STEP


async def test_it_looks_again_and_again_and_outlives_a_database_that_is_away(
    settings: ServiceSettings, pool: Pool, prune: Retention
) -> None:
    refusals = iter([ConnectionRefusedError(111, "refused"), ConnectionRefusedError(111, "refused")])

    async def connection() -> Connection:
        for refusal in refusals:
            raise refusal
        return await prune._connect()

    often = settings.model_copy(update={"retention_every_s": 0.01})
    stop = asyncio.Event()
    running = asyncio.create_task(Retention("planner", connection, often).run(stop))
    for _ in range(2):
        await pool.execute(FILL, 3, 9)
        await eventually(lambda: empty(pool))
    stop.set()
    await asyncio.wait_for(running, 60)


async def empty(pool: Pool) -> bool:
    return await count(pool) == 0


def test_what_was_handled_is_remembered_for_longer_than_it_may_come_again() -> None:
    with pytest.raises(ValidationError, match="RETENTION_INBOX_DAYS"):
        ServiceSettings(nats_url="x", database_url="x", RETENTION_INBOX_DAYS=7)  # type: ignore[call-arg, arg-type]


def test_a_job_is_kept_at_least_as_long_as_the_order_that_asks_for_it() -> None:
    settings = ServiceSettings(nats_url="x", database_url="x", retention_jobs_days=1)  # type: ignore[arg-type]
    ages = {rule.table: rule.keep for rule in retention.rules_of_every_service(settings)}
    assert ages["jobs"] == ages["commands"] == 8 * DAY
