"""Tasks that wait for tasks: no circles; released and started once by the last completion, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.unit_of_work import Tx
from contracts import planner, run_facts
from contracts.errors import Code, Rejection
from contracts.planner import Task, TaskStatus
from contracts.task_control import (
    AddDependencies,
    ListDependencies,
    ListDependents,
    RemoveDependency,
    TaskAction,
    TaskLinks,
    TaskReleased,
)
from tests.planner.conftest import World, quick_supervisor
from tests.planner.scripted_executor import fact
from tests.planner.test_control import no_job_is_left, told
from tests.planner.test_tasks import refusal


@pytest.fixture
async def supervisor() -> AsyncIterator[dict[str, str]]:
    async with quick_supervisor() as variables:
        yield variables


async def depend(world: World, task: Task, *on: Task | UUID) -> TaskLinks:
    ids = [other if isinstance(other, UUID) else other.id for other in on]
    return await world.ask(AddDependencies(command_id=uuid4(), task_id=task.id, depends_on=ids))


async def completed(world: World, task: Task) -> Task:
    await world.ends(task, await world.started(task))
    return await world.becomes(task, status=TaskStatus.COMPLETED)


async def waiter(world: World, *on: Task, title: str = "Waits") -> Task:
    """A task that shall start by itself once those are completed, planned by the supervisor."""
    created = await world.created(title, auto_start=True, dependencies=[other.id for other in on])
    assert created.run_id is None
    return await world.becomes(created.task, status=TaskStatus.READY)


async def test_a_task_with_uncompleted_dependencies_cannot_be_started(live: World) -> None:
    first, second, last = [await live.planned(title) for title in ("First", "Second", "Last")]
    links = await depend(live, last, first, second)
    assert ([task.title for task in links.items], links.waiting) == (["First", "Second"], True)
    refused = (await refusal(live.started(last))).failure
    assert (refused.code, refused.details) == (
        Code.WAITS_FOR_TASKS,
        {"waits_for": [str(first.id), str(second.id)]},
    )
    await completed(live, first)
    assert (await live.now(last)).waits_for == [second.id]
    await completed(live, second)
    assert (await live.ask(ListDependencies(task_id=last.id))).waiting is False
    await live.started(last)


async def test_links_are_shown_from_both_sides_and_removed(live: World) -> None:
    one, other = await live.planned("One"), await live.planned("Other")
    await depend(live, other, one)
    dependents = await live.ask(ListDependents(task_id=one.id))
    assert ([task.id for task in dependents.items], dependents.waiting) == ([other.id], False)
    for _ in range(2):
        removed = await live.ask(RemoveDependency(command_id=uuid4(), task_id=other.id, depends_on=one.id))
        assert (removed.items, removed.waiting) == ([], False)
    await live.started(other)


async def test_a_dependency_added_twice_is_told_once(world: World) -> None:
    async with world.start_planner() as chassis:
        one, other = await world.planned("One"), await world.planned("Other")
        order = AddDependencies(command_id=uuid4(), task_id=other.id, depends_on=[one.id, one.id])
        assert await world.ask(order) == await world.ask(order)
        await depend(world, other, one)
        assert (await told(chassis, other)).count("dependencies_changed") == 1


async def test_a_cycle_is_refused_and_named(live: World) -> None:
    a, b, c = [await live.task(title) for title in "ABC"]
    await depend(live, b, a)
    await depend(live, c, b)
    refused = (await refusal(depend(live, a, c))).failure
    assert refused.code is Code.CYCLE
    assert refused.details["cycle"] == [str(task.id) for task in (a, c, b)]
    assert "'A' → 'C' → 'B' → 'A'" in refused.message
    assert (await refusal(depend(live, a, a))).failure.code is Code.CYCLE
    assert (await live.now(a)).waits_for == []


async def test_of_two_that_close_a_cycle_at_once_one_is_refused(live: World) -> None:
    for attempt in range(5):
        a, b = await live.task(f"A{attempt}"), await live.task(f"B{attempt}")
        got = await asyncio.gather(depend(live, a, b), depend(live, b, a), return_exceptions=True)
        [refused] = [each for each in got if isinstance(each, Rejection)]
        assert refused.failure.code is Code.CYCLE


async def test_only_tasks_of_the_same_company_can_be_waited_for(live: World) -> None:
    await live.company("acme")
    here, there = await live.task("Here"), await live.task("There", company="acme")
    ghost = uuid4()
    refused = (await refusal(depend(live, here, there, ghost))).failure
    assert (refused.code, refused.details["missing"]) == (Code.NOT_FOUND, [str(there.id), str(ghost)])
    assert (await refusal(live.task("New", dependencies=[ghost]))).failure.code is Code.NOT_FOUND
    assert (await live.ask(planner.ListTasks())).total == 1


async def test_a_task_that_others_wait_for_is_not_deleted(live: World) -> None:
    one, other = await live.task("One"), await live.task("Other")
    await depend(live, other, one)
    delete = planner.DeleteTask(command_id=uuid4(), task_id=one.id)
    refused = (await refusal(live.ask(delete))).failure
    assert (refused.code, refused.details["dependents"]) == (Code.ILLEGAL_STATE, [str(other.id)])
    assert "'Other'" in refused.message
    await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=other.id))
    assert (await live.ask(delete)).existed


async def test_a_completed_task_may_be_deleted_and_is_waited_for_no_more(live: World) -> None:
    one, other = await live.planned("One"), await live.planned("Other")
    await depend(live, other, one)
    await completed(live, one)
    await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=one.id))
    assert (await live.ask(ListDependencies(task_id=other.id))).items == []
    await live.started(other)


# the last completion


async def test_the_last_completion_releases_and_starts_what_waits(world: World) -> None:
    async with world.start_planner() as chassis:
        first, second = await world.planned("First"), await world.planned("Second")
        waiting = await waiter(world, first, second)
        await completed(world, first)
        await no_job_is_left(chassis)
        assert (await world.now(waiting)).run_id is None
        await completed(world, second)
        started = await world.becomes(waiting, status=TaskStatus.RUNNING)
        assert (started.auto_start, started.waits_for) == (False, [])
        body = await chassis.pool.fetchval("select body from outbox where subject like '%.task.released.%'")
        released = TaskReleased.model_validate_json(body)
        assert (released.task_id, released.completed_task_id, released.starting) == (waiting.id, second.id, True)


async def test_a_task_without_auto_start_is_released_once_and_not_started(world: World) -> None:
    async with world.start_planner() as chassis:
        one, other = await world.planned("One"), await world.planned("Other")
        await depend(world, other, one)
        for _ in range(2):
            await completed(world, one)
        await no_job_is_left(chassis)
        assert (await told(chassis, other)).count("released") == 1
        assert (await world.now(other)).run_id is None


@pytest.mark.parametrize("kind", [run_facts.RunFailed, run_facts.RunCanceled])
async def test_a_dependency_that_fails_starts_nothing_and_is_shown(world: World, kind: type[run_facts.RunFact]) -> None:
    async with world.start_planner() as chassis:
        one = await world.planned("One")
        waiting = await waiter(world, one)
        await world.ends(one, await world.started(one), kind)
        await world.becomes(one, status=TaskStatus.FAILED if kind is run_facts.RunFailed else TaskStatus.READY)
        await no_job_is_left(chassis)
        now = await world.now(waiting)
        assert (now.status, now.waits_for, now.auto_start) == (TaskStatus.READY, [one.id], True)
        assert "released" not in await told(chassis, waiting)


async def test_a_rehearsal_of_a_dependency_does_not_count(world: World) -> None:
    async with world.start_planner() as chassis:
        one = await world.planned("One")
        waiting = await waiter(world, one)
        await world.ends(one, await world.started(one, dry_run=True))
        await world.becomes(one, status=TaskStatus.READY)
        await no_job_is_left(chassis)
        assert (await world.now(waiting)).waits_for == [one.id]


async def test_what_waits_for_its_plan_as_well_starts_when_the_plan_comes(world: World) -> None:
    async with world.start_planner() as chassis:
        one = await world.planned("One")
        waiting = await waiter(world, one)
        await chassis.pool.execute("delete from assignments")
        assert waiting.plan_id is not None
        await world.ask(planner.SubmitForValidation(command_id=uuid4(), plan_id=waiting.plan_id, validated=False))
        await completed(world, one)
        await no_job_is_left(chassis)
        assert (await world.now(waiting)).status is TaskStatus.DRAFT
        await world.plan(waiting, ("x",))
        started = await world.becomes(waiting, status=TaskStatus.RUNNING)
        assert [node.key for node in world.executor.asked[-1].nodes] == ["x"]
        assert not started.auto_start


async def test_what_is_paused_when_it_is_released_starts_when_it_is_resumed(world: World) -> None:
    async with world.start_planner() as chassis:
        one = await world.planned("One")
        waiting = await waiter(world, one)
        await world.control(waiting, TaskAction.PAUSE)
        await completed(world, one)
        await no_job_is_left(chassis)
        assert (await world.now(waiting)).run_id is None
        await world.control(waiting, TaskAction.RESET)
        await world.becomes(waiting, status=TaskStatus.RUNNING)


async def test_removing_the_last_dependency_starts_what_waits(live: World) -> None:
    one = await live.planned("One")
    waiting = await waiter(live, one)
    await live.ask(RemoveDependency(command_id=uuid4(), task_id=waiting.id, depends_on=one.id))
    await live.becomes(waiting, status=TaskStatus.RUNNING)


async def test_started_by_hand_it_does_not_start_by_itself_as_well(world: World) -> None:
    async with world.start_planner() as chassis:
        one = await world.planned("One")
        waiting = await waiter(world, one)
        await world.control(waiting, TaskAction.PAUSE)
        await completed(world, one)
        await no_job_is_left(chassis)
        await chassis.pool.execute("update tasks set pause_requested = false")  # without a start by itself
        run_id = await world.started(waiting)
        await world.ends(waiting, run_id)
        now = await world.becomes(waiting, status=TaskStatus.COMPLETED)
        await no_job_is_left(chassis)
        assert (now.run_id, now.auto_start) == (run_id, False)
        assert [run.run_id for run in world.executor.asked if run.task_id == waiting.id] == [run_id]


async def test_a_chain_of_tasks_runs_by_itself_one_after_the_other(live: World) -> None:
    first = await live.planned("0")
    chain = [first]
    for place in range(1, 5):
        chain.append(await waiter(live, chain[-1], title=str(place)))
    await live.started(first)
    for task in chain:
        running = await live.becomes(task, status=TaskStatus.RUNNING)
        assert running.run_id is not None
        await live.ends(task, running.run_id)
    assert [run.task_id for run in live.executor.asked] == [task.id for task in chain]


# races and deaths


async def test_two_dependencies_that_are_completed_at_once_start_one_run(live: World) -> None:
    for round_ in range(3):
        first, second = await live.planned(f"A{round_}"), await live.planned(f"B{round_}")
        waiting = await waiter(live, first, second, title=f"C{round_}")
        runs = [await live.started(first), await live.started(second)]
        for run_id in runs:
            live.executor.end(run_id)
        facts = [fact(run_facts.RunCompleted, *each) for each in zip((first, second), runs, strict=True)]
        await asyncio.gather(*(live.executor.tell(each) for each in facts))
        await live.becomes(waiting, status=TaskStatus.RUNNING)
        assert len({run.run_id for run in live.executor.asked if run.task_id == waiting.id}) == 1


async def test_a_dependency_added_while_the_other_task_is_completed_is_released_either_way(world: World) -> None:
    async with world.start_planner() as chassis:
        for round_ in range(5):
            one, other = await world.planned(f"A{round_}"), await world.planned(f"B{round_}")
            run_id = await world.started(one)
            await asyncio.gather(world.ends(one, run_id), depend(world, other, one))
            await world.becomes(one, status=TaskStatus.COMPLETED)

            async def waits_no_more(id: UUID = other.id) -> bool:
                return not await chassis.pool.fetchval("select waiting from tasks where id = $1", id)

            await eventually(waits_no_more)
            assert (await world.now(other)).waits_for == []


async def test_a_task_that_is_being_deleted_cannot_be_waited_for_any_more(world: World) -> None:
    async with world.start_planner() as chassis:
        one, other = await world.task("One"), await world.task("Other")
        async with chassis.uow.begin() as tx:
            await tx.conn.execute(
                "select from tasks where id = $1 for update", one.id
            )  # as every change of a task does
            await tx.conn.execute("update tasks set deleted_at = now() where id = $1", one.id)
            depending = asyncio.create_task(depend(world, other, one))
            await eventually(lambda: somebody_waits_for(tx, chassis), timeout=60)
        assert (await refusal(depending)).failure.code is Code.NOT_FOUND


async def somebody_waits_for(tx: Tx, chassis: Chassis) -> bool:
    """For a lock of this very transaction: others of the same server are none of its business."""
    waiting = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))"
    return bool(await chassis.pool.fetchval(waiting, tx.conn.get_server_pid()))


async def test_a_release_that_is_held_up_does_not_hold_up_another(world: World) -> None:
    async with world.start_planner() as chassis:
        tasks = {title: await world.planned(title) for title in "ABTU"}
        await depend(world, tasks["T"], tasks["A"])
        await depend(world, tasks["U"], tasks["B"])
        runs = {title: await world.started(tasks[title]) for title in "AB"}
        async with chassis.uow.begin() as tx:
            await tx.conn.execute("select from tasks where id = $1 for update", tasks["T"].id)
            await world.ends(tasks["A"], runs["A"])
            await eventually(lambda: somebody_waits_for(tx, chassis), timeout=60)
            await world.ends(tasks["B"], runs["B"])

            async def released() -> bool:
                return "released" in await told(chassis, tasks["U"])

            await eventually(released)


async def test_a_planner_that_stops_right_after_the_completion_leaves_the_start_to_the_next_one(world: World) -> None:
    async with world.start_planner():
        one = await world.planned("One")
        waiting = await waiter(world, one)
        run_id = await world.started(one)
        world.executor.refusal = Rejection(Code.UNAVAILABLE, "away")
        await world.ends(one, run_id)
        await world.becomes(one, status=TaskStatus.COMPLETED)
    world.executor.refusal = None
    asked = len(world.executor.asked)
    async with world.start_planner():
        started = await world.becomes(waiting, status=TaskStatus.RUNNING)
    ids = {run.run_id for run in world.executor.asked if run.task_id == waiting.id}
    assert ids == {started.run_id}
    assert len(world.executor.asked) > asked


async def test_an_answer_that_gets_lost_does_not_make_a_second_run(live: World) -> None:
    one = await live.planned("One")
    waiting = await waiter(live, one)
    run_id = await live.started(one)
    live.executor.loses_answers = True
    await live.ends(one, run_id)
    await eventually(lambda: len([run for run in live.executor.asked if run.task_id == waiting.id]) >= 2)
    live.executor.loses_answers = False
    started = await live.becomes(waiting, status=TaskStatus.RUNNING)
    assert [id for id, run in live.executor.runs.items() if run.order.task_id == waiting.id] == [started.run_id]


async def test_what_the_executor_refuses_for_good_is_not_tried_for_ever(world: World, chassis_of: Chassis) -> None:
    one = await world.planned("One")
    waiting = await waiter(world, one)
    run_id = await world.started(one)
    world.executor.refusal = Rejection(Code.INVALID, "no such role")
    await world.ends(one, run_id)
    await world.becomes(waiting, auto_start=False)
    await no_job_is_left(chassis_of)
    assert (await world.now(waiting)).status is TaskStatus.READY


@pytest.fixture
async def chassis_of(world: World) -> object:
    async with world.start_planner() as chassis:
        yield chassis
