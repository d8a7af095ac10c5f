"""The points where services kill themselves: each is there, in the product as it stands today."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.chaos.between import DYING, planned
from tests.chaos.points import POINTS, Point, located, point


@pytest.mark.parametrize("each", POINTS, ids=lambda p: f"{p.service}: {p.name}")
def test_the_step_is_where_the_point_says(each: Point) -> None:
    owner, attribute = located(each.target)
    assert callable(getattr(owner, attribute))
    assert point(each.service, each.name) is each


def test_every_point_has_its_turn_and_no_service_two_in_one_round() -> None:
    once, some, twice = (planned(Random(7), amount) for amount in (len(POINTS), 4, 2 * len(POINTS)))
    assert sorted(p.name for round in once for p in round) == sorted(p.name for p in POINTS)
    assert all(len({p.service for p in round}) == len(round) for round in once)
    assert {p.service for p in some[0]} == set(DYING), "each service dies in a round as soon as four do"
    assert len(some) == 1
    assert Counter(p for round in twice for p in round) == dict.fromkeys(POINTS, 2)
