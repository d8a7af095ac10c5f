"""What should not happen, planted and mended: facts that are lost for ever, and intentions nobody is about to carry out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from contracts import planner, run_facts
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import RunAction, RunStatus
from contracts.planner import Task, TaskStatus
from contracts.task_control import TaskAction, TaskRepaired
from services.planner.handlers.dependencies import Dependencies
from services.planner.handlers.reconciling import Reconciler
from services.planner.store.drift import alone
from tests.planner.conftest import World, quick_supervisor
from tests.planner.scripted_executor import fact
from tests.planner.test_control import no_job_is_left, told
from tests.planner.test_dependencies import depend, waiter

AN_HOUR_AGO = "clock_timestamp() - interval '1 hour'"


@pytest.fixture
async def supervisor() -> AsyncIterator[dict[str, str]]:
    async with quick_supervisor() as variables:
        yield variables


def fixes(kind: str) -> float:
    return REGISTRY.get_sample_value("reconcile_fixes_total", {"kind": kind}) or 0.0


async def repairs(scene: Scene, task: Task) -> list[str]:
    """As the story of the task tells them, each with what was wrong and the run it was about."""
    rows = await scene.chassis.pool.fetch(
        "select body from outbox where story = $1 and subject like '%.task.repaired.%' order by sequence", str(task.id)
    )
    found = [TaskRepaired.model_validate_json(row["body"]) for row in rows]
    assert all(repair.detail and (repair.run_id is None) == repair.repair.endswith("_left") for repair in found)
    return [repair.repair for repair in found]


@dataclass
class Scene:
    """A planner whose own reconciler sleeps, and one to look when the test says so."""

    world: World
    chassis: Chassis
    reconciler: Reconciler

    async def an_hour_passes(self) -> None:
        pool = self.chassis.pool
        await pool.execute(f"update task_runs set heard_at = {AN_HOUR_AGO}")
        await pool.execute(f"update tasks set updated_at = {AN_HOUR_AGO}")
        await pool.execute(f"update tasks set control_asked_at = {AN_HOUR_AGO} where control_asked_at is not null")

    async def look(self) -> None:
        await self.an_hour_passes()
        await self.reconciler.look()


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with world.start_planner(reconcile_s=3600.0) as chassis:
        uow, pool, jobs = chassis.uow, chassis.pool, chassis.jobs
        dependencies = Dependencies(uow, pool, jobs)
        yield Scene(world, chassis, Reconciler(uow, pool, chassis.bus, jobs, dependencies, every=60.0))


@pytest.mark.parametrize(
    ("ended", "shows", "fact_told"),
    [
        (RunStatus.COMPLETED, TaskStatus.COMPLETED, "completed"),
        (RunStatus.FAILED, TaskStatus.FAILED, "failed"),
        (RunStatus.CANCELED, TaskStatus.READY, "canceled"),
        (RunStatus.PAUSED, TaskStatus.PAUSED, "paused"),
    ],
)
async def test_a_task_that_never_heard_what_became_of_its_run_is_mended_and_counted(
    scene: Scene, ended: RunStatus, shows: TaskStatus, fact_told: str
) -> None:
    task = await scene.world.planned()
    scene.world.executor.runs[await scene.world.started(task)].status = ended
    before = fixes("run_drifted")
    await scene.look()
    assert (await scene.world.now(task)).status is shows
    assert (await told(scene.chassis, task))[-2:] == ["repaired", fact_told]
    assert fixes("run_drifted") == before + 1
    await scene.look()
    assert fixes("run_drifted") == before + 1
    assert (await repairs(scene, task)) == ["run_drifted"]


async def test_the_reason_of_a_failure_nobody_told_is_that_of_the_executor(scene: Scene) -> None:
    task = await scene.world.planned()
    run = scene.world.executor.runs[await scene.world.started(task)]
    run.status, run.error = RunStatus.FAILED, "node a failed"
    await scene.look()
    body = await scene.chassis.pool.fetchval("select body from outbox where subject like '%.task.failed.%'")
    assert planner.TaskFailed.model_validate_json(body).reason == "node a failed"


async def test_a_lost_completion_starts_what_waited_for_it(scene: Scene) -> None:
    one = await scene.world.planned("One")
    waiting = await waiter(scene.world, one)
    scene.world.executor.end(await scene.world.started(one))
    await scene.look()
    await scene.world.becomes(waiting, status=TaskStatus.RUNNING)


async def test_a_run_the_executor_has_forgotten_fails_its_task(scene: Scene) -> None:
    task = await scene.world.planned()
    del scene.world.executor.runs[await scene.world.started(task)]
    before = fixes("run_gone")
    await scene.look()
    assert (await scene.world.now(task)).status is TaskStatus.FAILED
    assert fixes("run_gone") == before + 1
    assert await repairs(scene, task) == ["run_gone"]


async def test_a_start_whose_answer_was_never_noted_is_noted(scene: Scene) -> None:
    task = await scene.world.planned()
    scene.world.executor.loses_answers = True
    with pytest.raises(RetryLater):
        await scene.world.started(task)
    [run_id] = scene.world.executor.runs
    before = fixes("start_unnoted")
    await scene.look()
    now = await scene.world.now(task)
    assert (now.status, now.run_id) == (TaskStatus.RUNNING, run_id)
    assert fixes("start_unnoted") == before + 1
    assert await repairs(scene, task) == ["start_unnoted"]


async def test_a_start_the_executor_never_heard_of_is_asked_again_when_it_is_repeated(scene: Scene) -> None:
    task = await scene.world.planned()
    scene.world.executor.refusal = Rejection(Code.UNAVAILABLE, "away")
    start = planner.StartTask(command_id=uuid4(), task_id=task.id)
    with pytest.raises(RetryLater):
        await scene.world.ask(start)
    await scene.look()
    assert await state_of_runs(scene) == ["refused"]
    scene.world.executor.refusal = None
    assert (await scene.world.ask(start)).run_id in scene.world.executor.runs


async def state_of_runs(scene: Scene) -> list[str]:
    return [row["state"] for row in await scene.chassis.pool.fetch("select state from task_runs order by ordinal")]


async def test_who_was_heard_of_lately_is_not_asked_about(scene: Scene) -> None:
    task = await scene.world.planned()
    run_id = await scene.world.started(task)
    await scene.reconciler.look()
    assert scene.world.executor.looked_at == []
    await scene.look()
    await scene.reconciler.look()
    assert scene.world.executor.looked_at == [run_id], "an answer counts as having been heard of"


async def test_a_fact_that_comes_while_the_executor_is_asked_counts_more(scene: Scene) -> None:
    task = await scene.world.planned()
    run_id = await scene.world.started(task)
    await scene.an_hour_passes()

    async def ends() -> None:
        await scene.world.executor.tell(fact(run_facts.RunCompleted, task, run_id))
        await scene.world.becomes(task, status=TaskStatus.COMPLETED)

    scene.world.executor.before_answer = ends
    scene.world.executor.runs[run_id].status = RunStatus.PAUSED
    await scene.reconciler.look()
    assert (await scene.world.now(task)).status is TaskStatus.COMPLETED


async def test_an_executor_that_is_away_is_asked_again_next_time(scene: Scene) -> None:
    task = await scene.world.planned()
    run_id = await scene.world.started(task)

    async def away() -> None:
        raise RetryLater(1.0, "away")

    scene.world.executor.before_answer = away
    with pytest.raises(RetryLater):
        await scene.look()
    scene.world.executor.before_answer = None
    scene.world.executor.end(run_id)
    await scene.look()
    assert (await scene.world.now(task)).status is TaskStatus.COMPLETED


async def test_one_planner_looks_at_a_time(scene: Scene) -> None:
    task = await scene.world.planned()
    scene.world.executor.end(await scene.world.started(task))
    async with alone(scene.chassis.pool) as mine:
        assert mine
        await scene.look()
        assert (await scene.world.now(task)).status is TaskStatus.RUNNING
    await scene.look()
    assert (await scene.world.now(task)).status is TaskStatus.COMPLETED


async def test_a_surprise_is_logged_and_the_next_look_mends(scene: Scene) -> None:
    """What mends must not end the process, whatever stands in its way."""
    task = await scene.world.planned()
    scene.world.executor.end(await scene.world.started(task))
    await scene.an_hour_passes()
    pool, stop = scene.chassis.pool, asyncio.Event()
    await pool.execute("alter table task_runs add constraint a_surprise check (state <> 'completed')")
    dependencies = Dependencies(scene.chassis.uow, pool, scene.chassis.jobs)
    impatient = Reconciler(scene.chassis.uow, pool, scene.chassis.bus, scene.chassis.jobs, dependencies, every=0.05)
    with capture_logs() as said:
        looking = asyncio.create_task(impatient.run(stop))
        await eventually(lambda: [line for line in said if line["event"] == "reconciler.look_failed"][1:])
        await pool.execute("alter table task_runs drop constraint a_surprise")
        await scene.world.becomes(task, status=TaskStatus.COMPLETED)
        stop.set()
        await looking


# intentions whose job is gone


async def forget_jobs(scene: Scene) -> None:
    await no_job_is_left(scene.chassis)
    await scene.chassis.pool.execute("delete from jobs")


async def test_an_order_that_lost_its_job_is_carried_to_the_run(scene: Scene) -> None:
    task = await scene.world.planned()
    run_id = await scene.world.started(task)
    await scene.world.control(task, TaskAction.PAUSE)
    await forget_jobs(scene)
    scene.world.executor.controlled.clear()
    await scene.chassis.pool.execute("update task_runs set told_order = null")
    before = fixes("order_left")
    await scene.look()
    await no_job_is_left(scene.chassis)
    assert scene.world.executor.actions(run_id) == [RunAction.PAUSE]
    assert fixes("order_left") == before + 1
    assert (await repairs(scene, task))[0] == "order_left"


async def released_without_a_job(scene: Scene) -> tuple[Task, UUID]:
    """A task that waits for one which is completed, as if the work that follows had got lost."""
    one = await scene.world.planned("One")
    waiting = await waiter(scene.world, one)
    await scene.chassis.pool.execute(
        "update tasks set status = 'completed', run_id = $2 where id = $1", one.id, uuid4()
    )
    await forget_jobs(scene)
    return waiting, one.id


async def test_a_task_whose_release_got_lost_is_released_and_started(scene: Scene) -> None:
    waiting, _ = await released_without_a_job(scene)
    before = fixes("release_left")
    await scene.look()
    await scene.world.becomes(waiting, status=TaskStatus.RUNNING)
    assert "released" in await told(scene.chassis, waiting)
    assert fixes("release_left") == before + 1
    assert await repairs(scene, waiting) == ["release_left"]


async def test_a_task_whose_start_got_lost_is_started(scene: Scene) -> None:
    waiting, _ = await released_without_a_job(scene)
    await scene.chassis.pool.execute("update tasks set waiting = false")
    before = fixes("start_left")
    await scene.look()
    await scene.world.becomes(waiting, status=TaskStatus.RUNNING)
    assert fixes("start_left") == before + 1
    assert await repairs(scene, waiting) == ["start_left"]


async def test_nothing_is_mended_where_nothing_is_wrong(scene: Scene) -> None:
    one, other = await scene.world.planned("One"), await scene.world.planned("Other")
    await depend(scene.world, other, one)
    await waiter(scene.world, other)
    await scene.world.control(one, TaskAction.PAUSE)
    await scene.world.control(one, TaskAction.RESUME)
    run_id = await scene.world.started(one)
    await scene.world.executor.tell(fact(run_facts.RunStarted, one, run_id))
    await no_job_is_left(scene.chassis)
    facts = await told(scene.chassis, other)
    kinds = ("run_drifted", "run_gone", "start_unnoted", "order_left", "start_left", "release_left")
    counted = [fixes(kind) for kind in kinds]
    await scene.look()
    assert [fixes(kind) for kind in kinds] == counted
    assert await told(scene.chassis, other) == facts
