"""The program: every fault it is to know is played under its own name, and a seed draws the same ones again."""

from __future__ import annotations

from random import Random

from tests.chaos import faults
from tests.chaos.program import ALL
from tests.chaos.scenarios import drawn, share

#: as the test programme of the design numbers them
PROMISED = {f"F{n}" for n in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 18)}
GATED = {f"G{n}" for n in range(1, 6)}
EVERY = [fault for kind in faults.ALL.values() for fault in kind]


def names(column: int) -> set[str]:
    return {scenario.name.rstrip("abcde") for scenario in ALL if scenario.amount[column]}


def test_every_promised_fault_is_played_by_make_chaos_and_for_hours() -> None:
    assert names(1) >= PROMISED | GATED
    assert names(2) >= PROMISED | GATED


def test_make_test_can_play_all_but_what_takes_too_long() -> None:
    assert names(0) >= PROMISED - {"F12"}
    assert names(0) & GATED, "one with the gate on"


def test_two_commits_in_a_row_play_every_scenario_of_make_test_once() -> None:
    possible = [scenario for scenario in ALL if scenario.amount[0]]
    one, next_one = share(possible, 41), share(possible, 42)
    assert {s.name for s in one} | {s.name for s in next_one} == {s.name for s in possible}
    assert len(one) + len(next_one) == len(possible)
    assert share(possible, 43) == one


def test_a_seed_draws_the_same_faults_again_and_none_twice_before_all_have_been() -> None:
    once, again, other = (drawn(EVERY, 2 * len(EVERY), Random(seed)) for seed in (7, 7, 8))
    assert once == again != other
    assert set(once[: len(EVERY)]) == set(once[len(EVERY) :]) == set(EVERY)
    assert len(set(drawn(EVERY, 4, Random(7)))) == 4
