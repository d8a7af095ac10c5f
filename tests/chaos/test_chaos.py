"""A few minutes of `make chaos`: everything is killed, and outside witnesses say that nothing was lost or done twice.

One commit plays one half of the scenarios, the next one the other; CHAOS_HALF=0 or 1 says which, CHAOS_HALF=all both.
A commit draws its own faults: whoever checks it out plays the same ones. CHAOS_SEED plays others.
Of the control group there is one member here, the quickest to be found out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.check import judge, summary
from tests.chaos.control_group import MUTATIONS, found_out
from tests.chaos.history import History
from tests.chaos.program import ALL, play
from tests.chaos.scenarios import Scenario, share
from tests.chaos.world import ChaosWorld

SEED = os.environ["CHAOS_SEED"]  # tests/conftest.py has set it


def chosen() -> list[Scenario]:
    possible = [scenario for scenario in ALL if scenario.amount[0]]
    half = os.environ["CHAOS_HALF"]  # tests/conftest.py has set it
    if half not in ("0", "1", "all"):
        raise pytest.UsageError(f"CHAOS_HALF={half!r}: expected 0, 1 or all")
    return possible if half == "all" else share(possible, int(half))


@pytest.fixture(scope="module")
def world() -> Iterator[ChaosWorld]:
    world = ChaosWorld()
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", chosen(), ids=lambda s: f"{s.name} {s.title}")
def test_no_rule_is_broken_by(scenario: Scenario, world: ChaosWorld, tmp_path: Path) -> None:
    file = tmp_path / f"{scenario.name}.jsonl"
    asyncio.run(play(world, scenario, scenario.amount[0], SEED, file))
    history = History.read(file)
    broken = "\n".join(map(str, judge(history)))
    if broken:
        print(world.log_tails(15))
    assert not broken, f"{broken}\nCHAOS_SEED={SEED}: {summary(history)}; history in {file}"


@pytest.mark.timeout(240)
def test_a_stack_that_forgets_its_commands_is_found_out(world: ChaosWorld, tmp_path: Path) -> None:
    """The last to use the stack: nobody plays on it after this."""
    mutation = next(m for m in MUTATIONS if m.without == "no command memory")
    world.kill(*mutation.services)
    for service in mutation.services:
        world.compose(service, "tests.chaos.mutants", service, mutation.without)
    world.launch(*mutation.services)
    violations = asyncio.run(found_out(world, mutation, SEED, tmp_path / "history.jsonl"))
    assert "the_same_key_gets_the_same_answer" in {violation.rule for violation in violations}
