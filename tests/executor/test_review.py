"""Results that wait for their verdicts, and reruns, on the real servers: what a verdict moves, and what it never may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code
from contracts.executor import ControlMode, NodeStatus, RunStatus, Usage
from contracts.review import BookReview, GetReviewCase, ListAttempts, ListHeld
from contracts.run_control import ControlNode, ExplainWaiting, GetRuntime, NodeAction, WaitReason
from contracts.verdict import Effect, Source
from services.executor.reconciling.reconciler import Reconciler
from services.executor.steering.store import leave
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_ownership import a_process, workers
from tests.executor.test_steering import steer
from tests.executor.verdicts import Judge, judging, noted

REVIEWING, PAUSED, COMPLETED = NodeStatus.REVIEWING, NodeStatus.PAUSED, NodeStatus.COMPLETED
HUMAN = {"source": Source.HUMAN, "reviewer": "Ada"}
CHAIN = [agent("a", say="say:first"), agent("b", "a", say="say:second"), agent("x", say="say:aside")]


@pytest.fixture
async def judge(world: World) -> AsyncIterator[Judge]:
    async with judging(world) as judge:
        yield judge


async def states(world: World, run_id: UUID) -> dict[str, str]:
    return {key: f"{node.status} {node.attempt}" for key, node in (await world.nodes(run_id)).items()}


async def verdicts_taken(world: World, run_id: UUID) -> bool:
    return not await world.rows("select from signals where run_id = $1", run_id)


async def test_a_result_waits_for_its_verdict_then_counts_and_is_told_of_as_it_was(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(*CHAIN, gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    handed_in = await live.fact(run_id, "executor.node.reviewing")
    assert handed_in["gate"] == "gate"
    assert handed_in["deadline_at"] is not None
    assert len([call for call in model.calls if "second" in call.user]) == 0
    await judge.give(run_id, "a", Effect.RELEASE, score=88, **HUMAN)
    node = await judge.until(run_id, "a", COMPLETED)
    assert node.verdict is not None
    assert (node.verdict.score, node.verdict.effect, node.verdict.reviewer) == (88, Effect.RELEASE, "Ada")
    told = await live.fact(run_id, "executor.node.completed")
    assert (told["output_preview"], told["score"], told["released_by"]) == ("first", 88, "Ada")
    assert told["checksum"] == node.checksum
    assert told["usage"]["requests"] == 1
    assert told["model"] == node.model
    await judge.until(run_id, "b", REVIEWING)
    for key in ("b", "x"):
        await judge.give(run_id, key, Effect.RELEASE)
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert not detail.run.needs_attention
    assert (await live.fact(run_id, "executor.run.completed"))["tokens"] == detail.summary.llm_total_tokens


async def test_a_critical_verdict_holds_what_depends_on_it_until_a_guided_rerun_is_accepted(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(*CHAIN, gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    await judge.until(run_id, "x", REVIEWING)
    await judge.give(run_id, "a", Effect.HOLD, critique="it names no source", score=35)
    await judge.give(run_id, "x", Effect.RELEASE)
    node = await judge.until(run_id, "a", PAUSED)
    assert node.pause_reasons == ["verdict"]
    await judge.until(run_id, "x", COMPLETED)
    assert (await states(live, run_id))["b"] == "queued 0"
    assert (await live.run(run_id)).run.needs_attention
    [held] = (await live.ask(ListHeld(run_id=run_id))).items
    assert (held.key, held.descendants, held.output_preview) == ("a", ["b"], "first")
    waiting = {w.key: w for w in (await live.ask(ExplainWaiting(run_id=run_id))).items}
    assert waiting["a"].reason is WaitReason.VERDICT
    assert "score of 35: it names no source" in waiting["a"].detail
    asked = await judge.rerun(run_id, "a", prompt="say:better", instructions="Name one.", by="Ada")
    assert (asked.attempt, asked.reopened, asked.status_after) == (2, False, NodeStatus.QUEUED)
    node = await judge.until(run_id, "a", REVIEWING, attempt=2)
    assert node.output_preview == "better"
    assert node.verdict is None
    assert "it names no source" in model.calls[-1].user
    assert "What a person asks of this attempt\nName one." in model.calls[-1].user
    for key in ("a", "b"):
        await judge.until(run_id, key, REVIEWING)
        await judge.give(run_id, key, Effect.RELEASE)
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert await states(live, run_id) == {"a": "completed 2", "b": "completed 1", "x": "completed 1"}
    assert not detail.run.needs_attention
    found = await live.ask(ListAttempts(node_id=held.node_id))
    assert [(a.number, a.output, a.status) for a in found.items] == [
        (1, "first", "succeeded"),
        (2, "better", "succeeded"),
    ]
    assert found.items[1].guidance is not None
    assert (found.items[1].guidance.critique, found.items[1].guidance.by) == ("it names no source", "Ada")
    assert found.items[0].guidance is None
    assert "-first\n+better" in (found.items[1].diff or "")


async def test_a_verdict_delivered_twice_or_about_an_older_attempt_releases_nothing(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:one"), agent("b", "a"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    fact = await judge.give(run_id, "a", Effect.REVISE, critique="too short")
    await judge.until(run_id, "a", REVIEWING, attempt=2)
    assert "too short" in model.calls[-1].user
    known, again = uuid4(), uuid4()
    accepted = fact.model_copy(update={"effect": Effect.RELEASE, "version": 2})
    await judge.publish(accepted, known)
    await judge.publish(accepted, known, message_id=again)
    await judge.told(run_id, "node.verdict_lapsed")
    lapsed = await live.fact(run_id, "executor.node.verdict_lapsed")
    assert (lapsed["of_attempt"], lapsed["attempt"], lapsed["effect"]) == (1, 2, "release")
    await eventually(lambda: verdicts_taken(live, run_id))
    assert await states(live, run_id) == {"a": "reviewing 2", "b": "queued 0"}
    await judge.give(run_id, "a", Effect.RELEASE)
    await judge.until(run_id, "b", REVIEWING)
    assert (await live.facts(run_id)).count("node.verdict_lapsed") == 1


async def test_a_verdict_after_a_cancel_changes_nothing(model: FakeOpenAI, live: World, judge: Judge) -> None:
    run_id = await live.start(agent("a", say="say:one"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    await live.order(run_id, "cancel")
    await live.until(run_id, RunStatus.CANCELED)
    assert not (await judge.case(run_id, "a")).current
    await judge.give(run_id, "a", Effect.RELEASE)
    await judge.told(run_id, "node.verdict_lapsed")
    assert await states(live, run_id) == {"a": "canceled 1"}
    assert (await refusal(judge.rerun(run_id, "a"))).failure.code is Code.ILLEGAL_STATE


async def test_reviewing_survives_the_death_of_the_owner(model: FakeOpenAI, world: World, judge: Judge) -> None:
    async with a_process(world) as victim:
        await eventually(lambda: workers(world))
        run_id = await world.start(*CHAIN, gate="gate")
        await judge.until(run_id, "a", REVIEWING)
        await judge.until(run_id, "x", REVIEWING)
        victim.kill()
        await victim.wait()
    await world.end_leases()
    async with world.executor():
        for key in ("a", "x", "b"):
            await judge.until(run_id, key, REVIEWING)
            await judge.give(run_id, key, Effect.RELEASE)
        await world.until(run_id, RunStatus.COMPLETED)
        assert await states(world, run_id) == {"a": "completed 1", "b": "completed 1", "x": "completed 1"}
    assert len(model.calls) == 3


async def test_a_hold_on_a_completed_result_lets_its_descendants_finish_and_starts_no_other(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    nodes = [agent("a", say="say:one"), agent("b", "a", say="until-released say:two"), agent("c", "b", say="say:three")]
    run_id = await live.start(*nodes, gate="observe")
    await model.until(lambda: len(model.calls) == 2)
    await judge.give(run_id, "a", Effect.HOLD, critique="wrong", **HUMAN)
    await judge.until(run_id, "a", PAUSED)
    model.release()
    await judge.until(run_id, "b", COMPLETED)
    waiting = {w.key: w for w in (await live.ask(ExplainWaiting(run_id=run_id))).items}
    assert "made with the result of a, which a verdict holds" in waiting["c"].detail
    assert await states(live, run_id) == {"a": "paused 1", "b": "completed 1", "c": "queued 0"}
    await judge.give(run_id, "a", Effect.RELEASE, **HUMAN)
    await live.until(run_id, RunStatus.COMPLETED)
    assert await states(live, run_id) == {"a": "completed 1", "b": "completed 1", "c": "completed 1"}


async def test_a_hold_on_a_finished_run_is_shown_and_a_rerun_reopens_it_unless_another_is_active(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    task = uuid4()
    run_id = await live.start(*CHAIN, gate="observe", task_id=task)
    await live.until(run_id, RunStatus.COMPLETED)
    await judge.give(run_id, "a", Effect.HOLD, critique="wrong", **HUMAN)

    async def shown() -> bool:
        return (await live.run(run_id)).run.needs_attention

    await eventually(shown)
    assert (await states(live, run_id))["a"] == "completed 1"
    other = await live.start(agent("o", say="until-released say:x"), task_id=task, reuse_run_id=run_id)
    await judge.heeded(await judge.give(run_id, "b", Effect.NOTE))  # its run is over, and takes the task from nobody
    refused = (await refusal(judge.rerun(run_id, "a"))).failure
    assert (refused.code, refused.details["run_id"]) == (Code.RUN_ACTIVE, str(other))
    model.release()
    await live.until(other)
    assert (await judge.rerun(run_id, "a", instructions="say:right")).reopened
    await live.until(run_id, RunStatus.COMPLETED)
    await judge.until(run_id, "b", COMPLETED, attempt=2)
    assert await states(live, run_id) == {"a": "completed 2", "b": "completed 2", "x": "completed 1"}
    assert not (await live.run(run_id)).run.needs_attention


async def test_a_rerun_may_keep_what_was_made_with_the_old_result(model: FakeOpenAI, live: World, judge: Judge) -> None:
    run_id = await live.start(*CHAIN)
    await live.until(run_id, RunStatus.COMPLETED)
    await judge.rerun(run_id, "a", prompt="say:new", keep_descendants=True)
    await judge.until(run_id, "a", COMPLETED, attempt=2)
    await live.until(run_id, RunStatus.COMPLETED)
    assert await states(live, run_id) == {"a": "completed 2", "b": "completed 1", "x": "completed 1"}
    assert (await live.nodes(run_id))["a"].output_preview == "new"


async def test_a_result_that_a_verdict_holds_is_not_taken_over_by_the_next_run(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    task = uuid4()
    run_id = await live.start(*CHAIN, gate="observe", task_id=task)
    await live.until(run_id, RunStatus.COMPLETED)
    await judge.heeded(await judge.give(run_id, "a", Effect.HOLD, **HUMAN))
    again = await live.start(*CHAIN, gate="gate", task_id=task, reuse_run_id=run_id)
    await judge.until(again, "a", REVIEWING)
    assert (await states(live, again))["x"] == "completed 0", "taken over, and not reviewed again"


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_an_overdue_review_follows_the_policy_also_over_a_restart(
    model: FakeOpenAI, world: World, judge: Judge, policy: str
) -> None:
    rules = {"review_overdue": policy, "review_deadline_s": 3}
    async with world.executor(**rules):
        run_id = await world.start(agent("a", say="say:one"), agent("b", "a", say="cut say:two"), gate="gate")
        await judge.until(run_id, "a", REVIEWING)
    async with world.executor(**rules):
        await judge.told(run_id, "node.review_overdue")
        if policy == "closed":
            node = await judge.until(run_id, "a", PAUSED)
            assert (node.pause_reasons, node.verdict) == (["verdict"], None)
            assert (await world.run(run_id)).run.needs_attention
            await judge.give(run_id, "a", Effect.RELEASE, **HUMAN)
            await judge.until(run_id, "a", COMPLETED)
        else:
            await world.until(run_id, RunStatus.COMPLETED)
            told = await world.fact(run_id, "executor.node.completed")
            assert told["output_preview"] == "two"
            assert [warning.split(":")[0] for warning in told["warnings"]] == [
                "the text is cut off",
                "no verdict came in time; its result counts all the same",
            ]


async def test_a_node_that_only_a_verdict_holds_is_not_resumed_and_the_refusal_says_what_helps(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(*CHAIN, gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    refused = (await refusal(steer(live, run_id, "a", "pause"))).failure
    assert refused.details["legal"] == [NodeAction.OVERRIDE]
    await judge.give(run_id, "a", Effect.HOLD)
    await judge.until(run_id, "a", PAUSED)
    refused = (await refusal(steer(live, run_id, "a", "resume"))).failure
    assert refused.code is Code.ILLEGAL_STATE
    assert "POST /feedbacks" in refused.message
    assert "/rerun" in refused.message
    await steer(live, run_id, "a", "pause")
    node = await judge.heeded(await judge.give(run_id, "a", Effect.RELEASE))
    assert (node.status, node.pause_reasons) == (PAUSED, ["control"])
    answer = await live.ask(ControlNode(command_id=uuid4(), node_id=node.id, action=NodeAction.RESUME))
    assert answer.status_after is COMPLETED
    await judge.until(run_id, "a", COMPLETED, attempt=1)
    await judge.until(run_id, "b", REVIEWING)


async def test_what_was_skipped_in_spite_of_a_verdict_hands_its_result_to_nobody(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:hostile"), agent("b", "a"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    await judge.give(run_id, "a", Effect.HOLD)
    await judge.until(run_id, "a", PAUSED)
    await steer(live, run_id, "a", "skip")
    await judge.until(run_id, "b", REVIEWING)
    assert "hostile" not in model.calls[-1].user
    assert not (await live.run(run_id)).run.needs_attention


async def test_a_reviewer_gets_its_case_and_books_what_it_took(model: FakeOpenAI, live: World, judge: Judge) -> None:
    run_id = await live.start(agent("a", say="say:one", acceptance=["short"]), noop("free"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    case = await judge.case(run_id, "a")
    assert (case.output, case.current, case.author, case.status) == ("one", True, "openai/fake-1", REVIEWING)
    assert case.spec.acceptance == ["short"]
    before = (await live.nodes(run_id))["a"].usage
    usage = Usage(prompt_tokens=10, completion_tokens=2, requests=1, cost_usd="0.25")
    book = BookReview(command_id=uuid4(), node_id=case.node_id, attempt=1, usage=usage, sidecar={"v": 1})
    assert ((await live.ask(book)).call, (await live.ask(book)).call) == (2, 2), "once, however often it is asked for"
    free = (await judge.until(run_id, "free", COMPLETED)).id
    assert (await live.ask(book.model_copy(update={"command_id": uuid4(), "node_id": free}))).call == 1
    nodes = await live.nodes(run_id)
    assert nodes["a"].usage.prompt_tokens == before.prompt_tokens + 10
    took = nodes["a"].usage
    assert (took.cost_usd, took.unpriced_calls) == ("0.25", 1), "what the author took has no known price"
    assert (nodes["free"].usage.cost_usd, nodes["free"].usage.requests) == ("0.25", 1)
    await judge.give(run_id, "a", Effect.RELEASE)
    detail = await live.until(run_id, RunStatus.COMPLETED)
    told = await live.fact(run_id, "executor.run.completed")
    for name in ("cost_usd", "unpriced_calls", "estimated_calls"):
        assert told[name] == getattr(detail.summary, name)
    assert told["tokens"] == detail.summary.llm_total_tokens
    for wrong in ({"run_id": uuid4()}, {"attempt": 9}):
        refused = await refusal(live.ask(GetReviewCase(node_id=case.node_id, **wrong)))
        assert refused.failure.code is Code.NOT_FOUND


async def test_a_reviewer_that_does_not_know_what_it_took_leaves_the_costs_of_the_run_a_number(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    """Its call ended by its timeout, and nobody will ever say what that came to; or it comes later, and is booked once."""
    run_id = await live.start(noop("a"), agent("b", say="until-released say:x"), gate="gate")
    a = (await judge.until(run_id, "a", COMPLETED)).id
    for usage in (
        Usage(prompt_tokens=10, requests=1, cost_usd="0.5"),
        Usage(prompt_tokens=10, requests=1, cost_usd=None, unpriced_calls=1),
        Usage(prompt_tokens=10, requests=1, cost_usd=None),  # as an older reviewer says it
        Usage(prompt_tokens=10, requests=1, cost_usd="0.25", estimated_calls=1),
    ):
        book = BookReview(command_id=uuid4(), node_id=a, attempt=0, usage=usage, sidecar={"v": 1})
        await asyncio.gather(*(live.ask(book) for _ in range(2)), return_exceptions=True)
        await live.ask(book)
    took = (await live.nodes(run_id))["a"].usage
    assert (took.cost_usd, took.requests, took.estimated_calls, took.unpriced_calls) == ("0.75", 4, 1, 2)
    summary = (await live.run(run_id)).summary
    assert (summary.cost_usd, summary.estimated_calls, summary.unpriced_calls) == ("0.75", 1, 2)
    runtime = await live.ask(GetRuntime(run_id=run_id))
    assert (runtime.cost_usd, runtime.estimated_calls, runtime.unpriced_calls) == ("0.75", 1, 2)


async def test_what_stands_on_a_held_result_is_not_taken_for_slept_over(
    model: FakeOpenAI, world: World, judge: Judge
) -> None:
    """c could run, but for a, which is not even what it depends on."""
    nodes = [agent("a"), agent("b", "a"), agent("c", "b", say="until-released say:x")]
    async with world.executor(quiet_s=0.05, reconcile_s=3600) as chassis:
        run_id = await world.start(*nodes, gate="observe")
        await model.until(lambda: len(model.calls) == 3)
        await steer(world, run_id, "c", "pause", mode=ControlMode.INTERRUPT)
        await judge.until(run_id, "c", PAUSED)
        await judge.heeded(await judge.give(run_id, "a", Effect.HOLD, **HUMAN))
        await steer(world, run_id, "c", "resume")
        await judge.until(run_id, "c", NodeStatus.QUEUED)

        async def at_rest() -> bool:
            return bool(
                await world.rows("select from runs where id = $1 and owner is null and wake_at is null", run_id)
            )

        await eventually(at_rest)
        await Reconciler(chassis.pool, chassis.uow, chassis.bus, every=3600, stall=900).look()
        assert "run.repaired" not in await world.facts(run_id)
        await judge.give(run_id, "a", Effect.RELEASE, **HUMAN)
        await model.until(lambda: len(model.calls) == 4)
        model.release()
        await world.until(run_id, RunStatus.COMPLETED)


async def test_another_attempt_may_go_to_another_model_but_to_none_that_is_not_there(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:one"))
    await live.until(run_id, RunStatus.COMPLETED)
    refused = (await refusal(judge.rerun(run_id, "a", llm_backend="nonsense"))).failure
    assert (refused.code, refused.details["errors"][0]["loc"]) == (Code.INVALID, ["llm_backend"])
    await judge.rerun(run_id, "a", llm_model="fake-2")
    assert (await judge.until(run_id, "a", COMPLETED, attempt=2)).model == "fake-2"
    told = await live.fact(run_id, "executor.node.rerun_asked")
    assert (told["fields"], told["keep_descendants"]) == (["llm_model"], False)


async def test_a_run_that_is_over_is_given_away_however_many_verdicts_come_at_once(
    world: World, model: FakeOpenAI
) -> None:
    async with world.executor(quiet_s=60) as chassis:
        run = await world.start(agent("a"), agent("b"), gate="observe")
        await world.until(run, RunStatus.COMPLETED)
        async with chassis.pool.acquire() as verdicts, verdicts.transaction():
            for key in ("a", "b"):
                await leave(verdicts, run, noted(key))

        async def heard_and_free() -> bool:
            waits = "exists (select from signals where run_id = runs.id)"
            row = (await world.rows(f"select owner is null and not {waits} as free from runs where id = $1", run))[0]
            return bool(row["free"])

        await eventually(heard_and_free)


async def test_the_word_of_a_person_that_came_with_the_order_is_told_though_their_verdict_is_still_on_its_way(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:one"), gate="gate")
    await judge.until(run_id, "a", REVIEWING, attempt=1)
    await judge.rerun(run_id, "a", instructions="Name one.", critique={"of_attempt": 1, "text": "Not one is named."})
    await judge.until(run_id, "a", REVIEWING, attempt=2)
    assert "Not one is named." in model.calls[-1].user
    assert "Name one." in model.calls[-1].user
    await judge.rerun(run_id, "a", critique={"of_attempt": 1, "text": "It is about another attempt."})
    await judge.until(run_id, "a", REVIEWING, attempt=3)
    assert "about another attempt" not in model.calls[-1].user


async def test_the_critique_is_told_until_an_attempt_has_succeeded_with_it(world: World, model: FakeOpenAI) -> None:
    async with world.executor(), judging(world) as judge:
        run = await world.start(agent("a", say="say:first", max_attempts=1), gate="gate")
        await judge.until(run, "a", NodeStatus.REVIEWING)
        await judge.give(run, "a", Effect.HOLD, critique="it names no source", score=35)
        await judge.until(run, "a", NodeStatus.PAUSED)
        await judge.rerun(run, "a", prompt="fail:400:1", instructions="Name one.")
        await judge.until(run, "a", NodeStatus.FAILED, attempt=2)
        await judge.rerun(run, "a", prompt="say:better")
        await judge.until(run, "a", NodeStatus.REVIEWING, attempt=3)
        assert "it names no source" in model.calls[-1].user
        assert "Name one." in model.calls[-1].user
        await judge.rerun(run, "a")
        await judge.until(run, "a", NodeStatus.REVIEWING, attempt=4)
        assert "it names no source" not in model.calls[-1].user, "it was about a result that is gone"
