"""What becomes of reviews when workers die, the owner is away, and results arrive that nobody takes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.feedback import ListFeedbacks
from contracts.verdict import Effect
from tests.feedback.conftest import World, a_case
from tests.feedback.test_reviewer import JUDGE, model, says

__all__ = ["model"]  # the fixture

BACKLOG = 500
NEVER = asyncio.Event()


@asynccontextmanager
async def killed_after(world: World, log: Path) -> AsyncIterator[None]:
    """A feedback process of its own, which the end of the block kills -9."""
    command = [sys.executable, "-m", "services.feedback"]
    named = {"FEEDBACK_LEASE": "3", "FEEDBACK_REVIEWER": JUDGE, "FEEDBACK_REVIEW_TIMEOUT_MS": "60000"}
    env = {**os.environ, **world.urls, **named}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_service_killed_in_the_middle_of_a_review_is_replaced_by_another(
    world: World, model: FakeOpenAI, tmp_path: Path
) -> None:
    model.script(Behaviour(first_token_s=600))
    case = a_case()
    async with killed_after(world, tmp_path / "log"):
        await world.executor.tell(case)
        await eventually(lambda: len(model.calls) >= 1, what="a call of a process that has yet to start")
    model.script(says(80))
    async with world.start_feedback(reviewer=JUDGE):
        assert (await world.verdict(case)).score == 80
        assert len(await world.feedbacks(case)) == 1


async def test_a_call_that_was_made_is_not_paid_again_when_its_worker_dies_before_the_verdict(
    world: World, model: FakeOpenAI, tmp_path: Path
) -> None:
    model.script(says(77), says(11))
    case = a_case()
    world.executor.may_book.clear()
    async with killed_after(world, tmp_path / "log"):
        await world.executor.tell(case)
        await eventually(lambda: model.calls and model.calls[0].outcome == "done")
        await eventually(lambda: kept(world))
    world.executor.may_book.set()
    async with world.start_feedback(reviewer=JUDGE) as chassis:
        assert (await world.verdict(case)).score == 77
        assert (len(model.calls), len(world.executor.booked)) == (1, 1)
        assert await chassis.pool.fetchval("select count(*) from model_calls") == 0


async def test_a_call_that_was_made_is_not_paid_again_when_its_worker_hands_the_review_back(
    world: World, model: FakeOpenAI
) -> None:
    model.script(says(77), says(11))
    case = a_case()
    world.executor.may_book.clear()
    async with world.start_feedback(reviewer=JUDGE):
        await world.executor.tell(case)
        await eventually(lambda: kept(world))
    world.executor.may_book.set()
    async with world.start_feedback(reviewer=JUDGE):
        assert (await world.verdict(case)).score == 77
        assert (len(model.calls), len(world.executor.booked)) == (1, 1)


async def kept(world: World) -> bool:
    """The answer is written down, and nothing is booked."""
    from chassis.postgres import connect

    connection = await connect(world.urls["DATABASE_URL"], "feedback")
    try:
        return bool(await connection.fetchval("select exists (select from model_calls)"))
    finally:
        await connection.close()


async def test_a_review_that_is_done_is_not_done_again_whatever_brings_its_job_back(
    world: World, model: FakeOpenAI
) -> None:
    model.script(says(70), says(71))
    async with world.start_feedback(reviewer=JUDGE) as chassis:
        case = a_case()
        await world.judged(case)
        again = "update jobs set state = 'queued', ended_at = null, result = null, due_at = clock_timestamp()"
        await chassis.pool.execute(again)
        await eventually(lambda: _counts(chassis, "select count(*) from jobs where result ? 'lapsed'", 1))
        assert (len(model.calls), len(world.executor.booked)) == (1, 1)
        assert len(await world.feedbacks(case)) == 1
        assert len(world.executor.verdicts_on(case)) == 1


async def _counts(chassis: Chassis, query: str, expected: int) -> bool:
    return bool(await chassis.pool.fetchval(query) == expected)


async def test_while_the_executor_is_away_reviews_wait_and_then_go_on(world: World) -> None:
    world.executor.is_away = True
    case = a_case()
    async with world.start_feedback() as chassis:
        await world.executor.tell(case)
        await eventually(lambda: _counts(chassis, "select count(*) from jobs where attempt > 2", 1))
        world.executor.is_away = False
        assert (await world.verdict(case)).effect is Effect.RELEASE


async def test_results_that_arrive_while_the_service_is_down_are_all_judged_once(world: World) -> None:
    cases = [a_case(key=f"n{n}") for n in range(BACKLOG)]
    for start in range(0, BACKLOG, 100):
        await world.executor.tell(*cases[start : start + 100])
    async with world.start_feedback():
        await eventually(lambda: at_least(world, BACKLOG // 5), timeout=60)
    async with world.start_feedback():  # it was stopped in the middle of them
        await eventually(lambda: at_least(world, BACKLOG), timeout=60)
        judged = [(verdict.node_id, verdict.version) for verdict in world.executor.verdicts]
        assert sorted(judged) == sorted((case.node_id, 1) for case in cases)
        assert (await world.ask(ListFeedbacks())).total == BACKLOG


async def at_least(world: World, count: int) -> bool:
    return len(world.executor.verdicts) >= count


async def test_what_is_old_goes_and_what_is_younger_stays(world: World) -> None:
    async with world.start_feedback() as chassis:
        old, young = a_case(), a_case()
        await world.judged(old)
        await world.judged(young)
        years = "update attempts set created_at = created_at - interval '3 years' where node_id = $1"
        await chassis.pool.execute(years, old.node_id)
        gone = await chassis.retention.prune(NEVER)
        assert gone["attempts"] == 1
        assert await world.feedbacks(old) == []
        assert len(await world.feedbacks(young)) == 1
