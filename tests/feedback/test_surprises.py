"""What nobody foresaw in the middle of a review: it ends all the same, calls its model once, and says what it met."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.verdict import Effect
from services.feedback.adapters import reviewer
from services.feedback.handlers import reviewing, surprises
from services.feedback.store.calls import CallStore
from tests.feedback.conftest import World, a_case
from tests.feedback.test_reviewer import JUDGE, model, says

__all__ = ["model"]  # the fixture


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surprises, "PAUSE", 0.01)


def broken(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("a mistake of ours")


async def settled(chassis: Chassis) -> tuple[str, int]:
    """The only job's state, once it has ended, and how many answers are still kept."""
    ended = "select state from jobs where state in ('done', 'failed')"
    state = str(await eventually(lambda: chassis.pool.fetchval(ended), what="the end of the review"))
    return state, await chassis.pool.fetchval("select count(*) from model_calls")


async def test_an_executor_that_fails_for_a_moment_ends_no_review(world: World) -> None:
    case, world.executor.failures = a_case(), 2
    async with world.start_feedback() as chassis:
        await world.executor.tell(case)
        assert (await world.verdict(case)).effect is Effect.RELEASE
        assert await settled(chassis) == ("done", 0)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((reviewer, "sidecar_for"), "what came of the call could not be used: ZeroDivisionError"),
        ((reviewer, "_heard"), "what came of the call could not be used: ZeroDivisionError"),
        ((reviewing, "assess"), "failed 5 times, the last time with: ZeroDivisionError: a mistake of ours"),
    ],
    ids=["the sidecar", "the answer", "the assessment"],
)
async def test_a_mistake_of_ours_after_the_call_repeats_no_call_and_code_decides(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], said: str
) -> None:
    module, name = place
    real = getattr(module, name)

    def breaks(*given: Any, **named: Any) -> Any:
        has_an_opinion = name != "assess" or given[1] is not None
        return broken() if has_an_opinion else real(*given, **named)

    monkeypatch.setattr(module, name, breaks)
    model.script(*[says(20)] * 20)
    async with world.start_feedback(reviewer=JUDGE) as chassis:
        case = a_case()
        verdict = await world.judged(case)
        assert (verdict.score, verdict.reviewer) == (100, "code checks")
        assert said in (await world.review(case)).evaluation["review_unavailable"]
        assert (len(model.calls), len(world.executor.booked)) == (1, 1), "called once, and paid once"
        assert await settled(chassis) == ("done", 0)


async def test_an_answer_that_cannot_be_kept_is_paid_for_and_not_asked_for_again(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = CallStore.keep, iter([ZeroDivisionError("jsonb does not take it")])

    async def keep(self: CallStore, *given: Any) -> Any:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        return await real(self, *given)

    monkeypatch.setattr(CallStore, "keep", keep)
    model.script(*[says(20)] * 20)
    async with world.start_feedback(reviewer=JUDGE):
        case = a_case()
        assert (await world.judged(case)).score == 100
        assert "could not be kept" in (await world.review(case)).evaluation["review_unavailable"]
        assert (len(model.calls), len(world.executor.booked)) == (1, 1)


async def test_what_fails_without_a_model_too_is_given_up_and_left_to_the_deadline_of_the_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviewing, "check", broken)
    async with world.start_feedback() as chassis:
        await world.executor.tell(a_case())
        assert (await settled(chassis))[0] == "failed"
        row = await chassis.pool.fetchrow("select attempt, error from jobs")
        assert row["attempt"] == 2 * surprises.SURPRISES
        assert "ZeroDivisionError: a mistake of ours" in row["error"]
        assert world.executor.verdicts == []


async def test_a_verdict_does_not_wait_for_books_that_cannot_be_kept(world: World, model: FakeOpenAI) -> None:
    model.script(says(20))

    class Illegible(dict[Any, Any]):
        setdefault = broken

    world.executor.booked = Illegible()
    async with world.start_feedback(reviewer=JUDGE) as chassis:
        case = a_case()
        assert (await world.judged(case)).effect is Effect.RELEASE
        assert "failed 5 times" in (await world.review(case)).evaluation["review_unavailable"]
        assert len(model.calls) == 1
        assert await settled(chassis) == ("done", 0)


async def test_a_budget_that_cannot_be_asked_about_keeps_no_verdict_back_for_ever(
    world: World, model: FakeOpenAI
) -> None:
    class Illegible(list[Any]):
        append = broken

    world.executor.reserved = Illegible()
    async with world.start_feedback(reviewer=JUDGE):
        case = a_case()
        assert (await world.judged(case)).effect is Effect.RELEASE
        assert "executor failed on this request" in (await world.review(case)).evaluation["review_unavailable"]
        assert model.calls == []


async def test_who_is_told_to_stop_lets_a_review_under_way_come_to_its_end(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(held=True, output=says(77).output), says(11))
    case = a_case()
    async with world.start_feedback(reviewer=JUDGE) as chassis:
        await world.executor.tell(case)
        await model.until(lambda: len(model.calls) == 1)
        answering = asyncio.create_task(_answered_when_told_to_stop(chassis, model))
    await answering
    verdict = await world.verdict(case)
    assert (verdict.score, verdict.reviewer, len(model.calls)) == (77, JUDGE, 1)


async def _answered_when_told_to_stop(chassis: Chassis, model: FakeOpenAI) -> None:
    await eventually(lambda: chassis.jobs._closed, what="a service that begins nothing any more")
    model.release()


async def test_a_review_that_takes_longer_than_the_stop_may_is_handed_back_and_done_elsewhere(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(first_token_s=60), says(66))
    case = a_case()
    async with world.start_feedback(reviewer=JUDGE, review_timeout_ms=60_000, lease=300) as chassis:
        await world.executor.tell(case)
        await model.until(lambda: len(model.calls) == 1)
        await chassis.jobs.drain(0.1)
        assert await chassis.pool.fetchval("select state from jobs") == "queued"
    async with world.start_feedback(reviewer=JUDGE, review_timeout_ms=60_000):
        verdict = await world.verdict(case)
        assert (verdict.score, verdict.reviewer) == (66, JUDGE)
