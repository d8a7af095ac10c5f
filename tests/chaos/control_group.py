"""The control: stacks with one protection taken out must be found out, or the judge proves nothing.

`python -m tests.chaos.control_group --seed 7 [--all]`: each on a stack of its own, two drawn by the seed or all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.process import StartFailed
from tests.chaos import faults
from tests.chaos.check import Violation, judge
from tests.chaos.control import storm
from tests.chaos.delivery import delivered_again
from tests.chaos.echoes import told_again
from tests.chaos.history import History
from tests.chaos.money import rounds
from tests.chaos.reviews import overtaken
from tests.chaos.scenarios import COMPLETED, Play, stormy
from tests.chaos.stage import staged
from tests.chaos.streams import dropped_lines
from tests.chaos.world import SERVICES, ChaosWorld

PATIENCE = 12.0  # seconds for what, without its protection, may never come


@dataclass(frozen=True, slots=True)
class Mutation:
    """`without` names it in tests.chaos.mutants; `sql` takes the database's own repetition of the protection away.

    `by` are the rules of which one must be broken: a busy machine that breaks another one has found nothing out.
    """

    without: str
    services: tuple[str, ...]
    play: Play
    amount: int
    by: tuple[str, ...]
    sql: tuple[str, ...] = ()
    expect: str = "completed"

    def gives_away(self, violation: Violation) -> bool:
        return violation.rule in self.by


FORGET_THE_LAW = (
    "drop trigger a_run_moves_legally on executor.runs",
    "drop trigger a_node_moves_legally on executor.nodes",
)
NO_BOOKS = (
    "drop trigger a_reservation_fits_its_budget on executor.budgets",
    "alter table executor.budgets drop constraint budget_sums_are_sound",
)
ANY_NUMBER = ("drop index executor.one_active_run_per_task",)
MUTATIONS = (
    Mutation("no inbox", ("planner",), delivered_again, 3, ("the_state_does_not_depend_on_delivery",)),
    Mutation(
        "no command memory",
        ("planner",),
        stormy("s3", pause=(0.5, 1), runs=6),
        2,
        ("the_same_key_gets_the_same_answer",),
    ),
    Mutation(
        "no fence",
        ("executor",),
        stormy("frozen", pause=(0.3, 0.5), runs=4),
        4,
        ("nothing_finished_is_repeated", "only_legal_moves"),
        FORGET_THE_LAW,
    ),
    Mutation(
        "no repair",
        ("planner", "executor"),
        stormy("broker", pause=(0.5, 1), runs=4),
        2,
        ("every_run_ends", "the_timeline_has_no_gap"),
    ),
    Mutation(
        "no sweeper",
        ("planner", "executor"),
        stormy("nats", pause=(0.3, 0.8), runs=4),
        4,
        ("every_run_ends", "the_timeline_has_no_gap"),
    ),
    Mutation(
        "default ack policy",
        ("planner",),
        stormy("woken", pause=(0.3, 0.8), runs=6),
        3,
        ("accepted_is_kept",),
    ),
    Mutation(
        "no signals",
        ("executor",),
        storm,
        30,
        ("only_legal_moves", "orders_take_effect", "the_timeline_has_no_gap"),
        expect="",
    ),
    Mutation("no parking", ("gateway",), delivered_again, 3, ("the_state_does_not_depend_on_delivery",)),
    Mutation("sloppy resume", ("gateway",), dropped_lines, 5, ("no_watcher_misses_anything",)),
    Mutation("naive budget", ("executor",), rounds, 2, ("no_budget_is_exceeded",), NO_BOOKS),
    Mutation(
        "no record of reviews",
        ("feedback",),
        told_again,
        4,
        ("each_result_is_judged_once",),
        ("drop index feedback.one_review_per_attempt",),
    ),
    Mutation("any attempt's verdict", ("executor",), overtaken, 8, ("nothing_counts_without_its_verdict",)),
    Mutation(
        "any version of a verdict",
        ("executor",),
        told_again,
        4,
        ("the_state_does_not_depend_on_delivery", "the_verdict_in_force_is_obeyed"),
    ),
    Mutation(
        "no gate",
        ("executor",),
        overtaken,
        3,
        ("nothing_counts_without_its_verdict",),
    ),
    Mutation("no unique run", (), storm, 40, ("one_active_run_per_task",), ANY_NUMBER, expect=""),
)


#: built as they are, without anything taken out: what is found out there would be found out anywhere
NOTHING = Mutation(
    "none", ("planner", "executor", "feedback", "gateway"), stormy(*faults.ALL, pause=(0.3, 0.8), runs=3), 6, ()
)


async def found_out(world: ChaosWorld, mutation: Mutation, seed: str, file: Path) -> list[Violation]:
    """What the judge has to say about a stack without this protection."""
    about = COMPLETED if mutation.expect else {}
    async with staged(world, file, mutation.without, seed, **about) as stage:
        stage.ending = PATIENCE
        try:
            await mutation.play(stage, mutation.amount)
            if not stage.collected:
                await stage.settled()
        except (AssertionError, StartFailed) as error:  # it may be so broken that it cannot even be played with
            stage.recorder.note("late", what=f"the end of the scenario ({str(error)[:200]})")
        if not stage.collected:
            await stage.collect()
    return judge(History.read(file))


def prepared(mutation: Mutation) -> ChaosWorld:
    """A stack whose services lack the protection."""
    world = ChaosWorld()
    try:
        for name in SERVICES:
            if name.split(".")[0] in mutation.services:
                world.compose(name, "tests.chaos.mutants", name.split(".")[0], mutation.without)
        world.start()
        for statement in mutation.sql:
            asyncio.run(world.rows(statement))
    except BaseException:
        world.stop()
        raise
    return world


def violations_of(mutation: Mutation, seed: str, into: Path) -> list[Violation]:
    file = into / f"without-{mutation.without.replace(' ', '-')}.jsonl"
    world = prepared(mutation)
    try:
        return asyncio.run(found_out(world, mutation, seed, file))
    finally:
        world.stop()


def is_as_expected(mutation: Mutation, seed: str, into: Path) -> bool:
    """Whether it was found out by what its protection is for; or, with every protection in place, by nothing."""
    began = time.monotonic()
    violations = violations_of(mutation, seed, into)
    found = any(map(mutation.gives_away, violations)) if mutation.by else not violations
    rules = sorted({violation.rule.replace("_", " ") for violation in violations})
    verdict = f"{len(violations)} violations: {', '.join(rules)}" if violations else "nobody noticed anything"
    print(f"{'✓' if found else '✗'} {mutation.without}  {verdict}  {time.monotonic() - began:.1f} s", flush=True)
    return found


def main(arguments: Sequence[str]) -> int:
    """0 when each was found out."""
    parser = argparse.ArgumentParser(prog="tests.chaos.control_group", description=__doc__)
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.randrange(10**6)))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--into", type=Path, default=Path(".fluidcrew/chaos"))
    options = parser.parse_args(arguments)
    drawn = (NOTHING, *MUTATIONS) if options.all else random.Random(options.seed).sample(MUTATIONS, 2)
    wanted = [m for m in (NOTHING, *MUTATIONS) if m.without in options.only] or drawn
    print(f"seed {options.seed}: stacks without one of their protections must be found out", flush=True)
    wrong = [m.without for m in wanted if not is_as_expected(m, options.seed, options.into / options.seed)]
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
