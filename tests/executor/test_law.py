"""The database refuses what the domain's mapping refuses, and allows what it allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.testing.servers import Database
from contracts.executor import NodeStatus, RunStatus
from services.executor.domain.status import NODE_FINAL, NODE_LEGAL, RUN_FINAL, RUN_LEGAL

NOW = "clock_timestamp()"


@pytest.fixture
async def db(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url_for("executor"), server_settings={"search_path": "executor"})
    yield connection
    await connection.close()


async def add_run(db: asyncpg.Connection, status: RunStatus = RunStatus.QUEUED, task: UUID | None = None) -> UUID:
    run_id = uuid4()
    await db.execute(
        f"""insert into runs (id, company_id, project_id, task_id, title, gate, dry_run, meta, context, status,
                pause_reasons, error, ended_at)
            values ($1, 'default', 'default', $2, 't', 'off', false, '{{}}', '{{}}', $3, '{{control}}', 'why',
                case when $4 then {NOW} end)""",
        run_id,
        task,
        status,
        status in RUN_FINAL,
    )
    return run_id


async def move(db: asyncpg.Connection, table: str, id: UUID, status: str, final: bool) -> bool:
    """Whether the database let the row go there."""
    try:
        await db.execute(
            f"update {table} set status = $2, ended_at = case when $3 then {NOW} end where id = $1", id, status, final
        )
    except asyncpg.CheckViolationError as refusal:
        if refusal.constraint_name is not None:
            raise
        return False
    return True


@pytest.mark.parametrize("origin", list(RunStatus))
async def test_a_run_moves_exactly_as_the_mapping_says(db: asyncpg.Connection, origin: RunStatus) -> None:
    for target in RunStatus:
        run_id = await add_run(db, origin)
        allowed = target is origin or target in RUN_LEGAL[origin]
        assert await move(db, "runs", run_id, target, target in RUN_FINAL) is allowed, f"{origin} to {target}"


@pytest.mark.parametrize("origin", list(NodeStatus))
async def test_a_node_moves_exactly_as_the_mapping_says(db: asyncpg.Connection, origin: NodeStatus) -> None:
    run_id = await add_run(db)
    for target in NodeStatus:
        node_id = uuid4()
        await db.execute(
            f"""insert into nodes (id, run_id, company_id, key, position, title, spec, deps, status, pause_reasons, error,
                    ended_at)
                values ($1, $2, 'default', $3, 1, 't', '{{}}', '{{}}', $4, '{{control}}', 'why',
                    case when $5 then {NOW} end)""",
            node_id,
            run_id,
            str(node_id),
            origin,
            origin in NODE_FINAL,
        )
        allowed = target is origin or target in NODE_LEGAL[origin]
        assert await move(db, "nodes", node_id, target, target in NODE_FINAL) is allowed, f"{origin} to {target}"


@pytest.mark.parametrize("state", list(RunStatus))
async def test_a_task_has_one_active_run(db: asyncpg.Connection, state: RunStatus) -> None:
    task = uuid4()
    await add_run(db, state, task)
    if state in RUN_FINAL:
        await add_run(db, RunStatus.QUEUED, task)
        return
    with pytest.raises(asyncpg.UniqueViolationError, match="one_active_run_per_task"):
        await add_run(db, RunStatus.QUEUED, task)


async def test_a_run_that_is_about_to_go_on_has_its_task_already(db: asyncpg.Connection) -> None:
    task = uuid4()
    ended = await add_run(db, RunStatus.FAILED, task)
    await db.execute("update runs set reopening = true where id = $1", ended)
    with pytest.raises(asyncpg.UniqueViolationError, match="one_active_run_per_task"):
        await add_run(db, RunStatus.QUEUED, task)


async def test_a_paused_node_needs_a_reason(db: asyncpg.Connection) -> None:
    run_id = await add_run(db)
    with pytest.raises(asyncpg.CheckViolationError, match="paused_node_has_a_reason"):
        await db.execute(
            """insert into nodes (id, run_id, company_id, key, position, title, spec, deps, status)
               values ($1, $2, 'default', 'a', 1, 't', '{}', '{}', 'paused')""",
            uuid4(),
            run_id,
        )


@pytest.mark.parametrize(("status", "ended"), [("done", "null"), ("running", NOW), ("completed", "null")])
async def test_a_node_stands_somewhere_known_and_has_ended_when_it_is_there(
    db: asyncpg.Connection, status: str, ended: str
) -> None:
    run_id = await add_run(db)
    with pytest.raises(asyncpg.CheckViolationError, match="node_ended_when_final"):
        await db.execute(
            f"""insert into nodes (id, run_id, company_id, key, position, title, spec, deps, status, ended_at)
                values ($1, $2, 'default', 'a', 1, 't', '{{}}', '{{}}', $3, {ended})""",
            uuid4(), run_id, status,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'done'", "run_ended_when_final"),
        ("wanted = 'everything'", "run_wish_is_known"),
        (f"ended_at = {NOW}", "run_ended_when_final"),
        ("status = 'paused', pause_reasons = '{}'", "paused_run_has_a_reason"),
        (f"deadline_at = {NOW}", "clock_ticks_only_while_running"),
        (f"status = 'failed', ended_at = {NOW}, error = null", "failed_run_says_why"),
    ],
)
async def test_a_run_that_makes_no_sense_cannot_be_stored(db: asyncpg.Connection, change: str, constraint: str) -> None:
    run_id = await add_run(db)
    if "'done'" in change:
        await db.execute("drop trigger a_run_moves_legally on runs")
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await db.execute(f"update runs set {change} where id = $1", run_id)
