"""The planner's tables refuse what its domain refuses, whoever writes."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from chassis.postgres import connect
from chassis.testing.servers import Database
from contracts.planner import PlanStatus, TaskStatus
from services.planner.domain.control import TO_RUNS
from services.planner.domain.task import ACTIVE, RunState

TASK = (
    "insert into tasks (id, company_id, project_id, title, {more}) values ('{id}', 'default', 'default', 't', {values})"
)
ALL_OF_A_TYPE = "select unnest(regexp_matches(pg_get_constraintdef(oid), '''([a-z]+)''::text', 'g')) from pg_constraint"


def task(**fields: str) -> str:
    return TASK.format(id=uuid4(), more=", ".join(fields), values=", ".join(fields.values()))


@pytest.fixture
async def db(database: Database) -> asyncpg.Connection:
    connection = await connect(database.url_for("planner"), "planner")
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a_task_has_a_known_status", set(TaskStatus)),
        ("a_plan_is_draft_ready_or_invalid", set(PlanStatus)),
        ("a_version_is_draft_ready_or_invalid", set(PlanStatus)),
        ("a_run_has_a_known_state", set(RunState)),
        ("an_order_to_runs_is_pause_resume_or_cancel", set(TO_RUNS)),
    ],
)
async def test_the_tables_know_exactly_the_states_of_the_domain(
    db: asyncpg.Connection, name: str, values: set[str]
) -> None:
    rows = await db.fetch(f"{ALL_OF_A_TYPE} where conname = $1", name)
    assert {row[0] for row in rows} == {str(v) for v in values}


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (task(status="'sleeping'"), "a_task_has_a_known_status"),
        *((task(status=f"'{s}'"), "a_running_paused_or_completed_task_has_a_run") for s in (*ACTIVE, "completed")),
        (task(gate="'maybe'"), "a_gate_is_gate_observe_or_off"),
        (task(dedupe_key="'r-1'"), "only_ad_hoc_tasks_have_a_dedupe_key"),
        (task(ad_hoc="true", dedupe_key="'r'", deleted_at="now()"), "a_deleted_task_frees_its_request"),
        (task(pause_requested="true", cancel_requested="true"), "a_task_is_paused_or_canceled_not_both"),
        (task(order_id=f"'{uuid4()}'"), "an_order_is_whole"),
        (task(auto_start="true"), "only_a_launched_task_starts_by_itself"),
        ("insert into companies (id, name) values ('Not A Slug', 'n')", "a_company_id_is_a_slug"),
    ],
)
async def test_a_row_that_cannot_be_is_refused(db: asyncpg.Connection, statement: str, constraint: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await db.execute(statement)


async def test_a_version_without_a_graph_must_say_why(db: asyncpg.Connection) -> None:
    task_id, plan_id = uuid4(), uuid4()
    await db.execute(TASK.format(id=task_id, more="gate", values="null"))
    await db.execute("insert into plans values ($1, 'default', $2, 'invalid', 1)", plan_id, task_id)
    add = "insert into plan_versions (plan_id, version, company_id, status, graph, errors, origin) values "
    for status, errors in (("ready", []), ("draft", []), ("invalid", [])):
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute(f"{add} ($1, 1, 'default', $2, null, $3, 'explicit')", plan_id, status, errors)
    await db.execute(f"{add} ($1, 1, 'default', 'invalid', null, $2, 'explicit')", plan_id, ["why"])


async def test_a_task_does_not_wait_for_itself(db: asyncpg.Connection) -> None:
    id = uuid4()
    await db.execute(TASK.format(id=id, more="gate", values="null"))
    with pytest.raises(asyncpg.CheckViolationError, match="a_task_does_not_wait_for_itself"):
        await db.execute("insert into task_dependencies values ($1, $1, 'default')", id)


async def test_company_and_project_default_are_there_from_the_start(db: asyncpg.Connection) -> None:
    assert await db.fetchval("select id from companies") == "default"
    assert [*await db.fetchrow("select company_id, id from projects")] == ["default", "default"]
