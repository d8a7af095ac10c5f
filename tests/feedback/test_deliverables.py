"""A node that owes deliverables is held against what publisher knows of them."""

from __future__ import annotations

from chassis.context import Context
from chassis.service import Chassis
from contracts.artifacts import Delivered, GetDelivered
from tests.feedback.conftest import World, a_case, next_attempt

NOTHING = Delivered(files={}, kinds={}, links=[], preview=None)


class Publisher:
    """Knows what the attempts have delivered."""

    def __init__(self, *delivered: Delivered) -> None:
        self._delivered = delivered

    async def build(self, chassis: Chassis) -> None:
        chassis.bus.serve(GetDelivered, self.answer)

    async def answer(self, request: GetDelivered, _: Context) -> Delivered:
        return self._delivered[request.attempt - 1]


async def test_what_is_missing_fails_the_result_and_is_told_to_the_next_attempt(live: World) -> None:
    there = Delivered(files={"report.md": 9}, kinds={"report.md": "document"}, links=[], preview=None)
    case = a_case(deliverables=["report.md"])
    async with live.start_publisher(Publisher(NOTHING, there).build):
        verdict = await live.judged(case)
        assert verdict.score < 60
        assert "report.md was not delivered" in (verdict.critique or "")
        (found,) = await live.feedbacks(case)
        assert found.evaluation["failed_criteria"] == ["deliverable report.md"]
        assert (await live.judged(next_attempt(case))).score == 100


async def test_while_publisher_is_away_the_rest_is_judged_and_nothing_is_claimed(live: World) -> None:
    case = a_case(deliverables=["report.md"])
    assert (await live.judged(case)).score == 100
    (found,) = await live.feedbacks(case)
    assert found.evaluation["not_checked"] == ["deliverables report.md: what was delivered could not be asked for"]
