"""The supervisor's plans: sound, repaired, unusable, late, interrupted. The model server is real HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chassis.llm.models import Models
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts import planner
from contracts.errors import Code, RetryLater
from contracts.plan import ArtifactKind
from contracts.planner import PlanDrafted, PlanStatus, Task, TaskStatus
from tests.planner.conftest import World
from tests.planner.test_tasks import refusal


def step(id: str, *deps: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "title": id, "deps": list(deps), "suggested_agent_role": "writer", **fields}


def answers(*steps: dict[str, Any]) -> Behaviour:
    return Behaviour(output={"plan": list(steps)})


def drafting(task: Task) -> planner.DraftPlan:
    return planner.DraftPlan(command_id=uuid4(), task_id=task.id)


def jobs_are(chassis: Chassis, *states: str) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        rows = await chassis.pool.fetch("select state from jobs order by created_at")
        return [row["state"] for row in rows] == list(states)

    return holds


async def test_the_offline_supervisor_gives_a_rich_plan(live: World) -> None:
    task = await live.task("Write a report on tides", description="For sailors")
    drafted = await live.ask(drafting(task))
    assert (drafted.status, drafted.version, drafted.pending, drafted.errors) == (PlanStatus.READY, 1, False, [])
    assert drafted.graph is not None
    assert len(drafted.graph.plan) >= 3
    assert len(drafted.graph.edges) >= 2
    assert all(n.suggested_agent_role and n.acceptance and n.risks and n.assumptions for n in drafted.graph.plan)
    owed = {n.id: [item.kind for item in n.deliverables] for n in drafted.graph.plan if n.deliverables}
    assert owed == {"synthesis": [ArtifactKind.PREVIEW]}
    assert (await live.now(task)).status is TaskStatus.READY


async def test_drafting_again_gives_the_next_version_of_the_same_plan(world: World, model: FakeOpenAI) -> None:
    model.script(answers(step("a")), answers(step("a"), step("b", "a")))
    async with world.start_planner():
        task = await world.task()
        first, second = await world.ask(drafting(task)), await world.ask(drafting(task))
        assert (first.plan_id, first.version, second.version) == (second.plan_id, 1, 2)
        change = await world.ask(planner.DiffPlan(plan_id=second.plan_id, version=2))
        assert [n.id for n in change.added_nodes] == ["b"]


async def test_the_model_is_told_the_whole_brief(world: World, model: FakeOpenAI) -> None:
    async with world.start_planner():
        await world.ask(drafting(await world.task("The title", description="The description")))
        assert "The title" in model.calls[0].user
        assert "The description" in model.calls[0].user


async def test_an_unsound_answer_gets_one_repair_round_that_names_its_faults(world: World, model: FakeOpenAI) -> None:
    model.script(answers(step("a", "b"), step("b", "a"), step("c", "ghost")), answers(step("a"), step("b", "a")))
    async with world.start_planner():
        drafted = await world.ask(drafting(await world.task()))
        assert (drafted.status, len(model.calls)) == (PlanStatus.READY, 2)
        assert "cycle: a → b → a" in model.calls[1].user
        assert "'ghost'" in model.calls[1].user
        version = await world.ask(planner.GetPlanVersion(plan_id=drafted.plan_id, version=1))
        assert (version.origin, version.answer) == ("repaired", None)


@pytest.mark.parametrize("second", [Behaviour(raw_output='{"plan": ['), answers(step("x", "x"))])
async def test_what_stays_unusable_is_kept_as_an_invalid_plan_with_reasons(
    world: World, model: FakeOpenAI, second: Behaviour
) -> None:
    model.script(answers(step("x", "x")), second)
    async with world.start_planner():
        task = await world.task()
        drafted = await world.ask(drafting(task))
        assert (drafted.status, drafted.graph, len(model.calls)) == (PlanStatus.INVALID, None, 2)
        assert drafted.errors
        version = await world.ask(planner.GetPlanVersion(plan_id=drafted.plan_id, version=1))
        assert version.answer
        assert "plan" in version.answer
        now = await world.now(task)
        assert (now.status, now.plan_id) == (TaskStatus.DRAFT, drafted.plan_id)
        assert (await refusal(world.started(task))).failure.details["errors"] == drafted.errors
        judge = planner.SubmitForValidation(command_id=uuid4(), plan_id=drafted.plan_id, validated=True)
        assert (await refusal(world.ask(judge))).failure.code is Code.ILLEGAL_STATE


async def test_a_bad_key_makes_the_plan_invalid_at_once_and_says_what_to_do(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(status=401, message="wrong key"))
    async with world.start_planner():
        drafted = await world.ask(drafting(await world.task()))
        assert (drafted.status, len(model.calls)) == (PlanStatus.INVALID, 1)
        assert "OPENAI_API_KEY" in drafted.errors[0]


async def test_a_provider_that_stumbles_is_asked_again_and_each_time_it_is_told_why_and_when(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(status=503), Behaviour(status=429, headers={"retry-after": "0.2"}), answers(step("a")))
    async with world.start_planner() as chassis:
        drafted = await world.ask(drafting(await world.task()))
        assert (drafted.status, len(model.calls)) == (PlanStatus.READY, 3)
        rows = await chassis.pool.fetch(
            "select body from outbox where subject like '%plan.retried%' order by batch, id"
        )
        told = [planner.PlanRetried.model_validate_json(row["body"]) for row in rows]
        assert [fact.attempt for fact in told] == [1, 2]
        assert all(fact.error and fact.due_at for fact in told)


async def test_a_provider_that_never_answers_fails_the_draft_clearly_and_leaves_the_task_as_it_was(
    world: World, model: FakeOpenAI
) -> None:
    model.script(*[Behaviour(status=503)] * 2)
    async with world.start_planner(draft_attempts=2):
        task = await world.planned()
        with pytest.raises(RetryLater, match="check the provider"):
            await world.ask(drafting(task))
        now = await world.now(task)
        assert now.status is TaskStatus.READY, "the plan it had still stands"
        assert (await world.ask(planner.GetPlan(plan_id=now.plan_id))).version == 1


async def test_who_may_not_wait_longer_is_told_that_the_draft_goes_on(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(first_token_s=30))
    async with world.start_planner(draft_wait=0.2):
        task = await world.task()
        order = drafting(task)
        pending = await world.ask(order)
        assert (pending.pending, pending.plan_id, pending.status) == (True, None, None)
        assert await world.ask(order) == pending


async def test_who_waits_while_the_planner_stops_is_told_that_the_draft_goes_on(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(first_token_s=60))
    async with world.start_planner():
        waiting = asyncio.create_task(world.ask(drafting(await world.task())))
        await model.until(lambda: len(model.calls) == 1)
    assert (await waiting).pending


async def test_two_who_ask_at_once_get_one_plan(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(first_token_s=0.5, output={"plan": [step("a")]}))
    async with world.start_planner():
        task = await world.task()
        got: list[PlanDrafted] = await asyncio.gather(*(world.ask(drafting(task)) for _ in range(5)))
        assert {(p.plan_id, p.version) for p in got} == {(got[0].plan_id, 1)}
        assert len(model.calls) == 1


async def test_the_same_order_after_its_draft_gets_that_draft_and_no_new_one(world: World, model: FakeOpenAI) -> None:
    async with world.start_planner():
        task = await world.task()
        order = drafting(task)
        first = await world.ask(order)
        assert await world.ask(order) == first
        assert len(model.calls) == 1


async def test_a_planner_stopped_in_the_middle_of_a_draft_finishes_it_after_its_restart(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(first_token_s=60), answers(step("a")))
    async with world.start_planner(draft_wait=0.1):
        task = await world.task()
        assert (await world.ask(drafting(task))).pending
        await model.until(lambda: len(model.calls) == 1)
    assert model.calls[0].outcome == "disconnected", "the request was closed, not left to run"
    async with world.start_planner() as chassis:
        await eventually(jobs_are(chassis, "done"))
        assert (await world.now(task)).status is TaskStatus.READY
        assert len(model.calls) == 2


async def test_a_planner_killed_in_the_middle_of_a_draft_is_replaced_by_another(
    world: World, model: FakeOpenAI, tmp_path: Path
) -> None:
    model.script(Behaviour(first_token_s=60), answers(step("a")))
    environment = {**os.environ, **world.urls, "PLANNER_DRAFT_WAIT": "0.1"}
    command = [sys.executable, "-m", "services.planner"]
    with (tmp_path / "planner.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
    try:
        task = await eventually(world.task, what="the planner answers")
        assert (await world.ask(drafting(task))).pending
        await model.until(lambda: len(model.calls) == 1)
    finally:
        process.kill()
        await process.wait()
    async with world.start_planner() as chassis:
        await chassis.pool.execute("update jobs set lease_until = clock_timestamp()")
        await eventually(jobs_are(chassis, "done"))
        assert (await world.now(task)).status is TaskStatus.READY
        assert [call.outcome for call in model.calls] == ["disconnected", "done"]


async def test_a_draft_that_was_recorded_before_its_worker_died_is_not_paid_twice(
    world: World, model: FakeOpenAI
) -> None:
    async with world.start_planner() as chassis:
        task = await world.task()
        first = await world.ask(drafting(task))
        # As if the worker had died between recording the version and finishing the job:
        again = "update jobs set state = 'queued', ended_at = null, result = null, due_at = clock_timestamp()"
        await chassis.pool.execute(again)
        await eventually(jobs_are(chassis, "done"))
        assert await world.ask(planner.GetPlan(plan_id=first.plan_id))
        assert (len(model.calls), (await world.ask(planner.GetPlan(plan_id=first.plan_id))).version) == (1, 1)


async def test_a_task_deleted_meanwhile_ends_its_draft(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(held=True))
    async with world.start_planner(draft_wait=0.1) as chassis:
        task = await world.task()
        await world.ask(drafting(task))
        await world.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id))
        model.release()
        await eventually(jobs_are(chassis, "failed"))


async def test_what_the_supervisor_spent_is_told(world: World, model: FakeOpenAI) -> None:
    async with world.start_planner() as chassis:
        await world.ask(drafting(await world.task()))
        body = await chassis.pool.fetchval("select body from outbox where subject like '%plan.drafted%'")
        told = planner.PlanWasDrafted.model_validate_json(body)
        assert told.tokens > 0
        assert told.cost_usd is None, "nobody knows the price of fake-1"


async def test_auto_plan_creates_a_task_that_is_ready(live: World) -> None:
    created = await live.ask(planner.CreateTask(command_id=uuid4(), title="Auto", auto_plan=True))
    assert (created.task.status, created.run_id) == (TaskStatus.READY, None)


async def test_auto_plan_creates_the_task_even_when_no_plan_comes_out(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(status=401))
    async with world.start_planner():
        created = await world.ask(planner.CreateTask(command_id=uuid4(), title="Auto", auto_plan=True))
        assert created.task.status is TaskStatus.DRAFT
        assert (await world.ask(planner.GetPlan(plan_id=created.task.plan_id))).status is PlanStatus.INVALID


async def test_the_planner_gets_its_model_ready_before_anybody_asks(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, warm_up = asyncio.Event(), Models.warm_up

    async def noted(models: Models) -> None:
        await warm_up(models)
        ready.set()

    monkeypatch.setattr(Models, "warm_up", noted)
    async with world.start_planner():
        await asyncio.wait_for(ready.wait(), 60)
    assert model.calls == []


async def test_a_planner_whose_provider_is_not_ready_does_all_that_needs_no_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "anthropic")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with world.start_planner():
        assert (await world.planned()).status is TaskStatus.READY
