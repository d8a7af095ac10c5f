"""Orders to tasks: flags that hold, runs that hear of them whatever breaks in between, and starts they stop."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts import executor, planner, run_facts
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import ControlMode, RunAction, RunStatus
from contracts.planner import LaunchTask, Task, TaskStatus
from contracts.task_control import ControlTask, TaskAction
from tests.planner.conftest import World
from tests.planner.scripted_executor import KnownRun, fact
from tests.planner.test_drafting import answers, step
from tests.planner.test_tasks import refusal

PAUSE, RESUME, CANCEL, RESET = TaskAction


def order(task: Task, action: TaskAction, **fields: Any) -> ControlTask:
    return ControlTask(command_id=uuid4(), task_id=task.id, action=action, **fields)


async def no_job_is_left(chassis: Chassis) -> None:
    async def none() -> bool:
        return await chassis.pool.fetchval("select count(*) from jobs where ended_at is null") == 0

    await eventually(none)


async def told(chassis: Chassis, task: Task) -> list[str]:
    """The facts of a task's story, in their order."""
    rows = await chassis.pool.fetch("select subject from outbox where story = $1 order by sequence", str(task.id))
    return [row["subject"].split(".")[4] for row in rows]


async def test_pausing_resuming_and_canceling_a_task_reaches_its_run(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    paused = await live.control(task, PAUSE, by="ada", mode=ControlMode.INTERRUPT)
    assert (paused.status, paused.actual, paused.run_id) == (TaskStatus.PAUSED, TaskStatus.RUNNING, run_id)
    assert (paused.control.pause, paused.control.asked_by) == (True, "ada")
    await live.control(task, RESUME)
    canceled = await live.control(task, CANCEL)
    assert (canceled.status, canceled.control.cancel) == (TaskStatus.READY, True)
    assert live.executor.actions(run_id) == [RunAction.PAUSE, RunAction.RESUME, RunAction.CANCEL]
    assert (live.executor.controlled[0].mode, live.executor.controlled[0].by) == (ControlMode.INTERRUPT, "ada")


async def test_a_canceled_task_is_ready_with_its_flag_and_starts_again_only_after_a_reset(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    await live.control(task, CANCEL, by="ada")
    await live.ends(task, run_id, run_facts.RunCanceled)
    now = await live.becomes(task, status=TaskStatus.READY)
    assert (now.control.cancel, now.control.asked_by) == (True, "ada")
    assert (await refusal(live.started(task))).failure.code is Code.CANCELED
    assert not (await live.control(task, RESET)).control.cancel
    assert await live.started(task) != run_id


async def test_a_paused_task_that_is_not_running_starts_only_after_a_resume(live: World) -> None:
    task = await live.planned()
    answer = await live.control(task, PAUSE)
    assert (answer.status, answer.run_id, answer.control.pause) == (TaskStatus.READY, None, True)
    assert (await refusal(live.started(task))).failure.code is Code.PAUSED
    assert live.executor.asked == []
    await live.control(task, RESUME)
    await live.started(task)
    assert live.executor.controlled == [], "there was no run to tell"


async def test_a_reset_clears_the_flags_and_touches_no_run(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    await live.control(task, PAUSE)
    answer = await live.control(task, RESET)
    assert (answer.control.pause, answer.status) == (False, TaskStatus.RUNNING)
    assert live.executor.actions(run_id) == [RunAction.PAUSE]


async def test_the_same_order_again_is_answered_the_same_and_carried_out_once(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        run_id = await world.started(task)
        pause = order(task, PAUSE)
        assert await world.ask(pause) == await world.ask(pause)
        assert (await world.control(task, PAUSE)).control.pause
        assert world.executor.actions(run_id)[0] is RunAction.PAUSE
        assert (await told(chassis, task)).count("control_asked") == 2, "the second pause was an order of its own"


async def test_an_illegal_order_is_refused_with_the_state_and_what_is_legal_and_leaves_nothing(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    await live.control(task, CANCEL)
    refused = (await refusal(live.control(task, RESUME))).failure
    assert (refused.code, refused.details) == (
        Code.ILLEGAL_STATE,
        {"state": "running", "legal": ["cancel", "reset"]},
    )
    assert (await live.now(task)).control.cancel
    assert live.executor.actions(run_id) == [RunAction.CANCEL]
    assert (await refusal(live.control(task.model_copy(update={"id": uuid4()}), PAUSE))).failure.code is Code.NOT_FOUND


async def test_resuming_a_run_that_is_being_canceled_directly_is_refused_every_time_it_is_repeated(live: World) -> None:
    task = await live.planned()
    live.executor.runs[await live.started(task)].wanted = executor.Wanted.CANCEL
    resume = order(task, RESUME)
    for _ in range(2):
        refused = (await refusal(live.ask(resume))).failure
        assert (refused.code, refused.details["legal"]) == (Code.ILLEGAL_STATE, ["cancel", "reset"])


async def test_a_pause_that_meets_a_run_which_has_just_ended_holds_for_the_next_one(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    live.executor.end(run_id, RunStatus.FAILED)
    assert (await live.control(task, PAUSE)).control.pause
    await live.executor.tell(fact(run_facts.RunFailed, task, run_id))
    await live.becomes(task, status=TaskStatus.FAILED)
    assert (await refusal(live.started(task))).failure.code is Code.PAUSED


async def test_a_run_steered_directly_is_shown_and_sets_no_flag(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    await live.executor.tell(fact(run_facts.RunPaused, task, run_id))
    now = await live.becomes(task, status=TaskStatus.PAUSED)
    assert not now.control.pause
    await live.control(task, RESUME)
    assert live.executor.actions(run_id) == [RunAction.RESUME]


async def test_what_happens_is_told_as_facts_of_the_task(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        run_id = await world.started(task)
        await world.control(task, PAUSE)
        await world.executor.tell(fact(run_facts.RunPaused, task, run_id))
        await world.becomes(task, status=TaskStatus.PAUSED)
        await world.control(task, RESUME)
        await world.executor.tell(fact(run_facts.RunResumed, task, run_id))
        await world.becomes(task, status=TaskStatus.RUNNING)
        await world.control(task, CANCEL)
        await world.ends(task, run_id, run_facts.RunCanceled)
        await world.becomes(task, status=TaskStatus.READY)
        assert (await told(chassis, task))[3:] == [
            *("started", "control_asked", "paused", "control_asked", "resumed", "control_asked", "canceled"),
        ]


# the executor is away, or the process dies


async def test_an_order_that_the_executor_could_not_hear_reaches_it_when_it_is_back(world: World) -> None:
    async with world.start_planner(control_wait=0.0) as chassis:
        task = await world.planned()
        run_id = await world.started(task)
        world.executor.control_is_away = True
        assert (await world.control(task, CANCEL)).control.cancel
        world.executor.control_is_away = False
        await eventually(lambda: world.executor.actions(run_id) == [RunAction.CANCEL])
        await no_job_is_left(chassis)


async def test_of_orders_the_executor_could_not_hear_only_the_last_is_said(world: World) -> None:
    async with world.start_planner(control_wait=0.0) as chassis:
        task = await world.planned()
        run_id = await world.started(task)
        world.executor.control_is_away = True
        for action in (PAUSE, RESUME, PAUSE, RESUME, PAUSE):
            await world.control(task, action)
        world.executor.control_is_away = False
        await no_job_is_left(chassis)
        assert world.executor.actions(run_id) == [RunAction.PAUSE]


async def test_an_order_given_while_the_one_before_is_being_said_follows_it(world: World) -> None:
    async with world.start_planner(control_wait=0.0) as chassis:
        task = await world.planned()
        run_id = await world.started(task)

        async def resume() -> None:
            await world.control(task, RESUME)

        world.executor.during_control = resume
        await world.control(task, PAUSE)
        await eventually(lambda: world.executor.actions(run_id) == [RunAction.PAUSE, RunAction.RESUME])
        await no_job_is_left(chassis)


async def test_an_order_survives_the_planner_that_took_it(world: World) -> None:
    async with world.start_planner(control_wait=0.0):
        task = await world.planned()
        run_id = await world.started(task)
        world.executor.control_is_away = True
        await world.control(task, CANCEL)
    world.executor.control_is_away = False
    async with world.start_planner():
        await eventually(lambda: world.executor.actions(run_id) == [RunAction.CANCEL])


async def test_of_many_who_order_at_once_all_are_answered_and_the_run_ends_as_the_flags_say(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    await asyncio.gather(*(live.control(task, action) for action in (PAUSE, RESUME, PAUSE, RESUME) * 5))
    flags = (await live.now(task)).control

    async def agrees() -> bool:
        return live.executor.runs[run_id].wanted is (executor.Wanted.PAUSE if flags.pause else executor.Wanted.RUN)

    await eventually(agrees)


# the order comes while a run is being started


@pytest.mark.parametrize(("action", "said"), [(PAUSE, RunAction.PAUSE), (CANCEL, RunAction.CANCEL)])
async def test_an_order_that_comes_while_a_run_is_being_started_is_carried_out_after_the_start(
    live: World, action: TaskAction, said: RunAction
) -> None:
    task = await live.planned()
    live.executor.before_start = asyncio.Event()
    starting = asyncio.create_task(live.started(task))
    await live.executor.before_start.wait()
    await live.control(task, action)
    live.executor.go.set()
    run_id = await starting
    await eventually(lambda: live.executor.actions(run_id) == [said])


async def test_a_run_whose_acceptance_got_lost_hears_of_the_order_at_once(live: World) -> None:
    task = await live.planned()
    live.executor.loses_answers = True
    start = planner.StartTask(command_id=uuid4(), task_id=task.id)
    with pytest.raises(RetryLater):
        await live.ask(start)
    [run_id] = live.executor.runs
    await live.control(task, CANCEL)
    assert live.executor.actions(run_id) == [RunAction.CANCEL]
    live.executor.loses_answers = False
    assert (await refusal(live.ask(start))).failure.code is Code.CANCELED


async def test_a_run_that_only_its_facts_tell_of_hears_of_the_flag(live: World) -> None:
    task = await live.planned()
    await live.control(task, PAUSE)
    run_id = uuid4()
    order_of_others = live.executor.runs[run_id] = KnownRun(_order_of(task, run_id))
    await live.executor.tell(fact(run_facts.RunStarted, task, run_id))
    await eventually(lambda: live.executor.actions(run_id) == [RunAction.PAUSE])
    assert order_of_others.wanted is executor.Wanted.PAUSE


def _order_of(task: Task, run_id: UUID) -> executor.StartRun:
    node = {"key": "a", "title": "A"}
    asked = {"command_id": uuid4(), "run_id": run_id, "task_id": task.id, "title": task.title, "nodes": [node]}
    return executor.StartRun.model_validate(asked)


async def test_a_run_started_after_a_resume_is_not_told_of_orders_before_it(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        await world.control(task, PAUSE)
        await world.control(task, RESUME)
        run_id = await world.started(task)
        await world.executor.tell(fact(run_facts.RunStarted, task, run_id))
        await no_job_is_left(chassis)
        assert world.executor.controlled == []


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_run_started_after_a_reset_does_not_get_the_order_that_was_meant_for_the_one_before(
    world: World, asked_before: bool
) -> None:
    async with world.start_planner(control_wait=0.0) as chassis:
        task = await world.planned()
        first = await world.started(task)
        start = planner.StartTask(command_id=uuid4(), task_id=task.id)
        if asked_before:
            assert (await refusal(world.ask(start))).failure.code is Code.RUN_ACTIVE
        world.executor.control_is_away = True
        await world.control(task, PAUSE)
        await world.control(task, RESET)
        world.executor.end(first)
        world.executor.loses_answers = True
        with pytest.raises(RetryLater):
            await world.ask(start)
        [second] = world.executor.runs.keys() - {first}
        world.executor.control_is_away = False
        await no_job_is_left(chassis)
        assert world.executor.actions(second) == []


# starting by itself


def _launch(**fields: Any) -> LaunchTask:
    spec = {"description": "Compare three tents"}
    return LaunchTask.model_validate({"command_id": uuid4(), "title": "Ad hoc", "task_spec": spec, **fields})


async def test_a_launch_that_is_paused_while_it_is_planned_says_so_and_runs_after_a_resume(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(held=True, output={"plan": [step("a")]}))
    async with world.start_planner():
        launching = asyncio.create_task(world.ask(_launch()))
        await model.until(lambda: len(model.calls) == 1)
        [task] = (await world.ask(planner.ListTasks())).items
        await world.control(task, PAUSE)
        model.release()
        with pytest.raises(Rejection) as refused:
            await launching
        assert refused.value.failure.code is Code.PAUSED
        task = await world.now(task)
        assert (task.status, task.auto_start, world.executor.asked) == (TaskStatus.READY, True, [])
        await world.control(task, RESUME)
        started = await world.becomes(task, status=TaskStatus.RUNNING)
        assert (started.auto_start, started.run_id) == (False, world.executor.asked[0].run_id)


async def test_a_launch_that_is_canceled_while_it_is_planned_frees_its_request_id(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(held=True, output={"plan": [step("a")]}), answers(step("b")))
    async with world.start_planner():
        launching = asyncio.create_task(world.ask(_launch(dedupe_key="r-1")))
        await model.until(lambda: len(model.calls) == 1)
        [task] = (await world.ask(planner.ListTasks())).items
        await world.control(task, CANCEL)
        model.release()
        assert (await refusal(launching)).failure.code is Code.CANCELED
        again = await world.ask(_launch(dedupe_key="r-1"))
        assert again.task_id != task.id
        assert [run.task_id for run in world.executor.asked] == [again.task_id]
