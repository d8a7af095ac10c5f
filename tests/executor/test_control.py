"""Orders to runs as people see them: what was asked, when it took effect, and what is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code, Rejection
from contracts.executor import ControlMode, ControlRun, NodeStatus, RunAction, RunDetail, RunStatus, Wanted
from tests.executor.conftest import World, agent, noop, refusal


async def ask(world: World, run_id: UUID, action: str, **fields: Any) -> Any:
    return await world.ask(ControlRun(command_id=uuid4(), run_id=run_id, action=RunAction(action), **fields))


async def effective(world: World, run_id: UUID) -> RunDetail:
    async def reached() -> RunDetail | None:
        found = await world.run(run_id)
        return found if found.run.control and found.run.control.effective_at else None

    return await eventually(reached, what="what was asked took effect")


async def test_a_pause_shows_who_asked_when_what_finishes_first_and_when_it_took_effect(
    model: FakeOpenAI, live: World
) -> None:
    run_id = await live.start(agent("a", say="until-released"), agent("b", "a"))
    assert (await live.run(run_id)).run.control is None
    await model.until(lambda: len(model.calls) == 1)

    answer = await ask(live, run_id, "pause", by="Ada")

    control = (await live.run(run_id)).run.control
    assert answer.control == control
    assert control is not None
    assert (control.wanted, control.asked_by, control.mode) == (Wanted.PAUSE, "Ada", ControlMode.FINISH)
    assert (control.effective_at, control.finishing) == (None, 1)
    model.release()
    detail = await effective(live, run_id)
    assert detail.run.status is RunStatus.PAUSED
    assert detail.run.control is not None
    assert detail.run.control.asked_at == control.asked_at
    assert detail.run.control.effective_at is not None
    assert detail.run.control.effective_at > control.asked_at
    assert detail.run.control.finishing == 0
    assert "run.control_asked" in await live.facts(run_id)
    await ask(live, run_id, "cancel")
    detail = await effective(live, run_id)
    assert (detail.run.status, detail.run.control and detail.run.control.wanted) == (RunStatus.CANCELED, Wanted.CANCEL)


async def test_asking_again_for_what_is_wanted_changes_nothing(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:1"))
    await model.until(lambda: len(model.calls) == 1)
    first, second = await ask(live, run_id, "pause", by="Ada"), await ask(live, run_id, "pause", by="Bob")
    assert first == second
    assert (await live.facts(run_id)).count("run.control_asked") == 1
    await ask(live, run_id, "cancel")
    await live.until(run_id, RunStatus.CANCELED)
    assert (await ask(live, run_id, "cancel")).actual is RunStatus.CANCELED
    assert (await live.facts(run_id)).count("run.control_asked") == 2


async def test_a_pause_that_interrupts_closes_the_request_and_the_node_starts_over(
    model: FakeOpenAI, live: World
) -> None:
    run_id = await live.start(agent("a", say="until-released say:done"))
    await model.until(lambda: len(model.calls) == 1)
    await ask(live, run_id, "pause")
    await ask(live, run_id, "pause", mode=ControlMode.INTERRUPT)
    await model.until(lambda: model.calls[0].outcome == "disconnected")
    detail = await effective(live, run_id)
    node = (await live.nodes(run_id))["a"]
    assert (detail.run.status, node.status, node.attempt) == (RunStatus.PAUSED, NodeStatus.QUEUED, 1)
    await eventually(lambda: live.rows("select document from sidecars where run_id = $1", run_id))
    model.release()
    await ask(live, run_id, "resume")
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert detail.summary.llm_request_count == 2
    rows = await live.rows("select status from attempts where run_id = $1 order by number", run_id)
    assert [r["status"] for r in rows] == ["canceled", "succeeded"]
    counts = await live.rows("select failures, losses, waits from nodes where run_id = $1", run_id)
    assert tuple(counts[0]) == (0, 0, 0)
    told = await live.fact(run_id, "executor.run.completed")
    assert told["tokens"] == detail.summary.llm_total_tokens, "what was cut off is told too"


async def test_a_refusal_names_what_it_found_and_what_would_be_legal(live: World) -> None:
    run_id = await live.start(noop("a"))
    await live.until(run_id)
    refused = (await refusal(ask(live, run_id, "pause"))).failure
    assert (refused.code, refused.details) == (Code.ILLEGAL_STATE, {"state": "completed", "legal": []})
    refused = (await refusal(ask(live, uuid4(), "pause"))).failure
    assert refused.code is Code.NOT_FOUND


async def test_a_run_that_is_to_go_on_keeps_other_runs_of_its_task_out_and_the_other_way_round(
    model: FakeOpenAI, live: World
) -> None:
    task = uuid4()
    failed = await live.start(agent("a", say="fail:400:9"), agent("b", "a", say="stall:1"), task_id=task)
    await live.until(failed, RunStatus.FAILED)
    other = await live.start(agent("a", say="stall:1"), task_id=task)
    refused = (await refusal(ask(live, failed, "skip_failed_and_resume"))).failure
    assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(other)})
    await ask(live, other, "cancel")
    await live.until(other, RunStatus.CANCELED)
    await ask(live, failed, "skip_failed_and_resume")
    refused = (await refusal(live.start(noop("a"), task_id=task))).failure
    assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(failed)})
    await live.until(failed, RunStatus.RUNNING)
    assert [f for f in await live.facts(failed) if f.startswith("run.")][-2:] == ["run.reopened", "run.resumed"]
    await ask(live, failed, "cancel")


async def test_nobody_starts_another_run_between_an_order_and_its_execution(world: World) -> None:
    """No executor is there to carry the order out; the task is taken all the same."""
    from tests.executor.test_ownership import engine_of

    task = uuid4()
    async with world.executor() as chassis:
        failed = await world.start(agent("a", llm_backend="nonsense"), task_id=task)
        await world.until(failed, RunStatus.FAILED)
        engine_of(chassis).owner.draining = True
        await ask(world, failed, "skip_failed_and_resume")
        refused = (await refusal(world.start(noop("a"), task_id=task))).failure
        assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(failed)})
        repeated = await ask(world, failed, "skip_failed_and_resume")
        assert repeated.skipped_nodes == ["a"]
        engine_of(chassis).owner.draining = False
        assert (await world.until(failed, RunStatus.COMPLETED)).run.status is RunStatus.COMPLETED
        assert (await world.rows("select reopening from runs"))[0]["reopening"] is False
        await world.ended([await world.start(noop("a"), task_id=task)])


@pytest.mark.parametrize("action", ["pause", "cancel"])
async def test_an_order_to_a_run_that_ends_meanwhile_counts_as_carried_out(live: World, action: str) -> None:
    run_id = await live.start(noop("a"))
    try:
        await ask(live, run_id, action)
    except Rejection:
        return
    detail = await live.until(run_id, RunStatus.COMPLETED, RunStatus.CANCELED, RunStatus.PAUSED)
    assert detail.run.control is not None
    await effective(live, run_id)
