"""Retries: further runs that take over what earlier ones have finished, of the plan as it is now."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from contracts import run_facts
from contracts.errors import Code, RetryLater
from contracts.executor import RunStatus
from contracts.planner import LaunchTask, RunAccepted, Task, TaskStatus
from contracts.task_control import RetryTask, TaskAction, TaskRetried
from tests.planner.conftest import World
from tests.planner.test_tasks import refusal


async def retried(world: World, task: Task, **fields: object) -> RunAccepted:
    return await world.ask(RetryTask.model_validate({"command_id": uuid4(), "task_id": task.id, **fields}))


async def failed(world: World, task: Task, *, nodes_completed: int) -> UUID:
    run_id = await world.started(task)
    await fails(world, task, run_id, nodes_completed)
    return run_id


async def fails(world: World, task: Task, run_id: UUID, nodes_completed: int) -> None:
    await world.ends(task, run_id, run_facts.RunFailed)
    world.executor.runs[run_id].nodes_completed = nodes_completed
    await world.becomes(task, status=TaskStatus.FAILED, run_id=run_id)


async def test_a_retry_takes_over_the_results_of_the_latest_run_with_the_plan_as_it_is_now(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        earlier = await failed(world, task, nodes_completed=1)
        await world.plan(task, ("a", "other"))
        accepted = await retried(world, task)
        asked = world.executor.asked[-1]
        assert (asked.run_id, asked.reuse_run_id, asked.plan_version) == (accepted.run_id, earlier, 2)
        assert (await world.now(task)).status is TaskStatus.RUNNING
        body = await chassis.pool.fetchval("select body from outbox where subject like '%.task.retried.%'")
        told = TaskRetried.model_validate_json(body)
        assert (told.run_id, told.earlier_run_id, told.fresh) == (accepted.run_id, earlier, False)


async def test_a_fresh_retry_takes_over_nothing(live: World) -> None:
    task = await live.planned()
    await failed(live, task, nodes_completed=1)
    await retried(live, task, fresh=True)
    assert live.executor.asked[-1].reuse_run_id is None
    assert live.executor.looked_at == []


async def test_a_run_without_results_is_passed_over_for_an_earlier_one_that_has_some(live: World) -> None:
    task = await live.planned()
    earlier = await failed(live, task, nodes_completed=1)
    await failed(live, task, nodes_completed=0)
    await retried(live, task)
    assert live.executor.asked[-1].reuse_run_id == earlier


async def test_runs_the_executor_has_forgotten_have_no_results(live: World) -> None:
    task = await live.planned()
    del live.executor.runs[await failed(live, task, nodes_completed=1)]
    await retried(live, task)
    assert live.executor.asked[-1].reuse_run_id is None


async def test_the_same_retry_again_is_one_run(live: World) -> None:
    task = await live.planned()
    await failed(live, task, nodes_completed=1)
    order = RetryTask(command_id=uuid4(), task_id=task.id)
    live.executor.loses_answers = True
    with pytest.raises(RetryLater):
        await live.ask(order)
    live.executor.loses_answers = False
    assert await live.ask(order) == await live.ask(order)
    assert live.executor.asked[-1] == live.executor.asked[-2]
    assert len(live.executor.runs) == 2


@pytest.mark.parametrize("fresh", [False, True])
async def test_while_a_run_is_active_a_retry_is_refused_with_it(live: World, fresh: bool) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    refused = (await refusal(retried(live, task, fresh=fresh))).failure
    assert (refused.code, refused.details["run_id"]) == (Code.RUN_ACTIVE, str(run_id))


async def test_a_run_that_has_ended_may_be_retried_before_the_planner_has_heard_of_it(live: World) -> None:
    task = await live.planned()
    run_id = await live.started(task)
    live.executor.end(run_id, RunStatus.FAILED, nodes_completed=1)
    await retried(live, task)
    assert live.executor.asked[-1].reuse_run_id == run_id


async def test_what_never_ran_cannot_be_retried(live: World) -> None:
    task = await live.planned()
    refused = (await refusal(retried(live, task))).failure
    assert (refused.code, refused.details["legal"]) == (Code.ILLEGAL_STATE, ["run"])
    await live.ends(task, await live.started(task, dry_run=True))
    await live.becomes(task, status=TaskStatus.READY)
    assert (await refusal(retried(live, task))).failure.code is Code.ILLEGAL_STATE, "a rehearsal has no results"


async def test_flags_stand_in_the_way_of_a_retry(live: World) -> None:
    task = await live.planned()
    await live.control(task, TaskAction.PAUSE)
    assert (await refusal(retried(live, task))).failure.code is Code.PAUSED
    await live.control(task, TaskAction.CANCEL)
    assert (await refusal(retried(live, task))).failure.code is Code.CANCELED


async def test_a_retried_launch_keeps_what_it_was_launched_with(live: World) -> None:
    launched = await live.ask(
        LaunchTask.model_validate(
            {
                "command_id": uuid4(),
                "title": "Ad hoc",
                "task_spec": {"plan": [{"id": "a", "title": "A"}], "params": {"language": "fr"}},
                "options": {"llm_backend": "ollama", "llm_model": "m", "node_timeout_s": 5},
            }
        )
    )
    await fails(live, await live.now(launched.task_id), launched.run_id, 1)
    await retried(live, await live.now(launched.task_id))
    first, second = live.executor.asked
    assert second.nodes == first.nodes
    assert second.node_timeout_s == 5
