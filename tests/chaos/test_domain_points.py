"""The points where services kill themselves: each is there, in the product as it stands today."""

from __future__ import annotations

import pytest

from tests.chaos.between import rounds
from tests.chaos.points import POINTS, Point, located, point


@pytest.mark.parametrize("each", POINTS, ids=lambda p: f"{p.service}: {p.name}")
def test_the_step_is_where_the_point_says(each: Point) -> None:
    owner, attribute = located(each.target)
    assert callable(getattr(owner, attribute))
    assert point(each.service, each.name) is each


def test_every_point_has_its_turn_and_no_service_two_in_one_round() -> None:
    planned = rounds(POINTS)
    assert sorted(p.name for round in planned for p in round) == sorted(p.name for p in POINTS)
    assert all(len({p.service for p in round}) == len(round) for round in planned)
