"""A task shows the state of its latest run: facts late, doubled, shuffled, and answers that got lost."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.unit_of_work import AlreadyHandled
from contracts import planner, run_facts
from contracts.envelope import Envelope
from contracts.errors import Code, RetryLater
from contracts.planner import Task, TaskStatus
from contracts.run_facts import RunFact
from services.planner.handlers.runs import Runs
from tests.planner.conftest import World
from tests.planner.scripted_executor import fact
from tests.planner.test_tasks import refusal


def story(
    task: Task,
    run_id: UUID,
    *kinds: type[RunFact],
    start: int = 2,
    at: datetime | None = None,
    activation: int = 0,
) -> list[tuple[RunFact, Envelope]]:
    """The facts of a run with their envelopes, numbered as the executor numbers them (1 is run.queued)."""
    time = at or datetime.now(UTC)
    told = [fact(kind, task, run_id).model_copy(update={"activation": activation}) for kind in kinds]
    facts = enumerate(told, start)
    return [(f, Envelope.of(f, id=uuid4(), source="executor", sequence=number, time=time)) for number, f in facts]


async def status(world: World, task: Task) -> TaskStatus:
    return (await world.now(task)).status


async def test_a_task_follows_its_run_over_the_bus(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    assert await status(live, task) is TaskStatus.RUNNING
    for kind, expected in (
        (run_facts.RunStarted, TaskStatus.RUNNING),
        (run_facts.RunPaused, TaskStatus.PAUSED),
        (run_facts.RunResumed, TaskStatus.RUNNING),
        (run_facts.RunCompleted, TaskStatus.COMPLETED),
    ):
        await live.executor.tell(fact(kind, task, run_id))

        async def follows(expected: TaskStatus = expected) -> bool:
            return await status(live, task) is expected

        await eventually(follows)
    assert (await live.now(task)).run_id == run_id


async def test_a_run_that_was_canceled_directly_leaves_the_task_ready_without_a_flag(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        runs = Runs(chassis.uow, chassis.jobs)
        for each in story(task, await world.started(task), run_facts.RunStarted, run_facts.RunCanceled):
            await runs.on_fact(*each)
        now = await world.now(task)
        assert (now.status, now.control.cancel) == (TaskStatus.READY, False)
        world.executor.active.clear()
        await world.started(task)
        assert await status(world, task) is TaskStatus.RUNNING


async def test_a_failed_run_fails_the_task_with_the_reason(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        for each in story(task, await world.started(task), run_facts.RunFailed):
            await Runs(chassis.uow, chassis.jobs).on_fact(*each)
        assert await status(world, task) is TaskStatus.FAILED
        body = await chassis.pool.fetchval("select body from outbox where subject like '%task.failed%'")
        assert planner.TaskFailed.model_validate_json(body).reason == "node a failed"


@pytest.mark.parametrize("seed", range(5))
async def test_the_facts_of_two_runs_ten_times_each_and_shuffled_leave_the_same_task(world: World, seed: int) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        first = await world.started(task)
        kinds = (run_facts.RunStarted, run_facts.RunPaused, run_facts.RunResumed, run_facts.RunFailed)
        facts = story(task, first, *kinds)
        world.executor.active.clear()
        second = await world.started(task)
        facts += story(task, second, run_facts.RunStarted, run_facts.RunPaused)
        deliveries = facts * 10
        random.Random(seed).shuffle(deliveries)
        runs, effects = Runs(chassis.uow, chassis.jobs), 0
        for each in deliveries:
            try:
                await runs.on_fact(*each)
                effects += 1
            except AlreadyHandled:
                continue
        assert effects == len(facts)
        now = await world.now(task)
        assert (now.status, now.run_id) == (TaskStatus.PAUSED, second)


async def test_a_fact_told_again_under_a_new_id_changes_nothing(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        facts = story(task, await world.started(task), run_facts.RunStarted, run_facts.RunCompleted)
        runs = Runs(chassis.uow, chassis.jobs)
        for each in facts:
            await runs.on_fact(*each)
        told = await chassis.pool.fetchval("select count(*) from outbox")
        replay, envelope = facts[0]
        await runs.on_fact(replay, envelope.model_copy(update={"id": uuid4(), "replay_of": str(envelope.id)}))
        assert await status(world, task) is TaskStatus.COMPLETED
        assert await chassis.pool.fetchval("select count(*) from outbox") == told


async def test_a_reopened_run_makes_a_completed_task_run_again(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        kinds = (run_facts.RunStarted, run_facts.RunCompleted, run_facts.RunStarted)
        for each in story(task, await world.started(task), *kinds):
            await Runs(chassis.uow, chassis.jobs).on_fact(*each)
        assert await status(world, task) is TaskStatus.RUNNING


async def test_a_rehearsal_leaves_the_task_ready(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        run_id = await world.started(task, dry_run=True)
        assert world.executor.asked[0].dry_run
        for each in story(task, run_id, run_facts.RunStarted, run_facts.RunCompleted):
            await Runs(chassis.uow, chassis.jobs).on_fact(*each)
        assert await status(world, task) is TaskStatus.READY


async def test_facts_heal_what_an_answer_that_got_lost_left_open(live: World) -> None:
    task = await live.planned()
    live.executor.loses_answers = True
    order = planner.StartTask(command_id=uuid4(), task_id=task.id)
    with pytest.raises(RetryLater):
        await live.ask(order)
    assert await status(live, task) is TaskStatus.READY
    run_id = live.executor.asked[0].run_id
    await live.executor.tell(fact(run_facts.RunStarted, task, run_id))

    async def heals() -> bool:
        now = await live.now(task)
        return (now.status, now.run_id) == (TaskStatus.RUNNING, run_id)

    await eventually(heals)
    assert (await live.ask(order)).run_id == run_id
    assert len(live.executor.asked) == 1, "the run is known: nobody is asked again"


async def test_a_run_that_only_its_facts_tell_of_is_taken_up(live: World) -> None:
    task = await live.planned()
    run_id = uuid4()
    await live.executor.tell(fact(run_facts.RunStarted, task, run_id))

    async def taken_up() -> bool:
        return (await live.now(task)).run_id == run_id

    await eventually(taken_up)


async def test_runs_of_no_task_and_of_deleted_tasks_stop_nothing(live: World) -> None:
    gone, task = await live.planned("Gone"), await live.planned("Here")
    await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=gone.id))
    run_id = await live.started(task)
    nobody = run_facts.RunStarted(run_id=uuid4(), title="bench")
    await live.executor.tell(
        nobody, fact(run_facts.RunStarted, gone, uuid4()), fact(run_facts.RunCompleted, task, run_id)
    )

    async def done() -> bool:
        return await status(live, task) is TaskStatus.COMPLETED

    await eventually(done)
    assert (await refusal(live.now(gone))).failure.code is Code.NOT_FOUND


async def test_a_run_that_is_reopened_after_a_newer_one_ended_is_the_tasks_again(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        runs = Runs(chassis.uow, chassis.jobs)
        first = await world.started(task)
        now = datetime.now(UTC)
        fast, slow = now + timedelta(hours=1), now - timedelta(hours=1)  # the clocks of two hosts
        early = story(task, first, run_facts.RunStarted, run_facts.RunFailed, at=fast, activation=1)
        world.executor.active.clear()
        second = await world.started(task)
        later = story(task, second, run_facts.RunStarted, run_facts.RunFailed, at=fast, activation=2)
        again = story(task, first, run_facts.RunResumed, run_facts.RunCompleted, start=5, at=slow, activation=3)
        for each in (*later, again[0], *early):
            await runs.on_fact(*each)
        shown = await world.now(task)
        assert (shown.status, shown.run_id) == (TaskStatus.RUNNING, first)
        await runs.on_fact(*again[1])
        shown = await world.now(task)
        assert (shown.status, shown.run_id) == (TaskStatus.COMPLETED, first)
