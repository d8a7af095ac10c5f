"""What attempts wrote that has not been delivered: kept as long as it may be, and then forgotten."""

from __future__ import annotations

import pytest

from chassis.testing.eventually import eventually
from contracts.executor import NodeStatus
from contracts.review import GetReviewCase, ReviewCase
from services.publisher.domain.outputs import Document
from services.publisher.handlers import collecting
from tests.publisher.conftest import Agent, World, a_case

AT_ONCE = {"retention_every_s": 0.2, "retention_staged_days": 1e-9}


async def test_what_waits_for_a_person_is_delivered_however_long_that_takes(world: World) -> None:
    held, run_over = a_case(status=NodeStatus.PAUSED), a_case()
    superseded = a_case(current=False, status=NodeStatus.RUNNING)
    world.others.cases |= {(case.node_id, 1): case for case in (held, superseded)}
    async with world.start_publisher(**AT_ONCE):
        for case in (held, superseded, run_over):
            await Agent(world, case).write("report.md", "# Report")
        await eventually(lambda: _only_staged_is(world, held), what="the others to be forgotten")
        await eventually(lambda: _asked_twice_about(world, held), what="another look at what is held")
        assert await _only_staged_is(world, held)
        await world.complete(held)
        assert set(await world.collected(held, 2)) == {"guide.md", "report.md"}


async def _only_staged_is(world: World, case: ReviewCase) -> bool:
    return [row["node_id"] for row in await world.rows("select node_id from staged")] == [case.node_id]


def _asked_twice_about(world: World, case: ReviewCase) -> bool:
    return sum(isinstance(a, GetReviewCase) and a.node_id == case.node_id for a in world.others.asked) >= 2


async def test_what_nobody_can_say_anything_about_stays(world: World) -> None:
    case = a_case()
    world.others.is_away = True
    async with world.start_publisher(**AT_ONCE):
        await Agent(world, case).write("report.md", "# Report")
        await eventually(lambda: _asked_twice_about(world, case), what="two looks")
        assert await _only_staged_is(world, case)
        world.others.is_away = False
        await eventually(lambda: _nothing_staged(world), what="an answer")


async def test_what_has_just_completed_is_kept_until_that_was_heard_of(world: World) -> None:
    case = a_case(status=NodeStatus.COMPLETED)
    world.others.cases[(case.node_id, 1)] = case
    async with world.start_publisher(**AT_ONCE):
        await Agent(world, case).write("report.md", "# Report")
        await eventually(lambda: _asked_twice_about(world, case), what="two looks")
        assert await _only_staged_is(world, case)
        await world.complete(case)
        assert set(await world.collected(case, 2)) == {"guide.md", "report.md"}
        await Agent(world, case, effect=1).write("late.md", "written by a zombie")
        await eventually(lambda: _nothing_staged(world), what="what came too late to be forgotten")


async def _nothing_staged(world: World) -> bool:
    return not await world.rows("select 1 from staged")


async def test_a_result_that_cannot_be_collected_is_not_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has it, and nobody would miss it: it is collected by the release that can."""
    tried: list[str] = []

    def broken(*_: object) -> Document:
        tried.append("once more")
        raise ZeroDivisionError

    case = a_case()
    async with world.start_publisher():
        with monkeypatch.context() as patched:
            patched.setattr(collecting, "document", broken)
            await world.complete(case)
            await eventually(lambda: _tried(world, tried, 6), what="many attempts")
        await eventually(lambda: _is_collected(world, case), what="the collection")
        assert set(await world.collected(case)) == {"guide.md"}


async def _tried(world: World, tried: list[str], times: int) -> bool:
    await _hurry(world)
    return len(tried) >= times


async def _is_collected(world: World, case: ReviewCase) -> bool:
    await _hurry(world)
    return bool(await world.artifacts(node_id=case.node_id))


async def _hurry(world: World) -> None:
    """Without the pauses between attempts."""
    await world.rows("update jobs set due_at = now() where kind = 'collect' and state = 'queued'")
