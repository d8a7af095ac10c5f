"""The chaos program, `python -m tests.chaos --seed 7`: each scenario's faults, what was witnessed, and the verdict."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.check import judge, summary
from tests.chaos.history import History
from tests.chaos.program import ALL, play, playable
from tests.chaos.scenarios import Scenario
from tests.chaos.world import ChaosWorld

LONG = 2  # the column of amounts


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Kills everything, and proves that nothing is lost."
    )
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.randrange(10**6)))
    parser.add_argument("--long", action="store_true", help="the long column: hours")
    parser.add_argument("--quick", action="store_true", help="what `make test` plays")
    parser.add_argument("--only", nargs="*", default=[], help=f"some of {', '.join(s.name for s in ALL)}")
    parser.add_argument("--into", type=Path, default=Path(".fluidcrew/chaos"), help="where histories are kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """0 when every rule holds."""
    options = parsed(arguments)
    column = LONG if options.long else 0 if options.quick else 1
    wanted = [s for s in ALL if s.name in options.only] if options.only else [s for s in ALL if s.amount[column]]
    into, began = options.into / options.seed, time.monotonic()
    print(f"seed {options.seed}; histories in {into}", flush=True)
    if column == LONG:  # thousands of runs each: a stack of its own, that none may be slow by what others left
        failed = [name for s in wanted for name in _broken([s], column, options.seed, into, into / "logs" / s.name)]
    else:
        failed = _broken(wanted, column, options.seed, into, into / "logs")
    print(f"{len(wanted)} scenarios in {time.monotonic() - began:.0f} s, seed {options.seed}: ", end="")
    print(f"broken in {', '.join(failed)}" if failed else "every rule holds")
    return 1 if failed else 0


def _broken(scenarios: Sequence[Scenario], column: int, seed: str, into: Path, logs: Path) -> list[str]:
    """Played one after the other on one stack; the names of those in which a rule is broken."""
    world = ChaosWorld()
    try:
        world.start()
        return [s.name for s in scenarios if not _holds(world, s, column, seed, into)]
    finally:
        world.keep_logs(logs)
        world.stop()


def _holds(world: ChaosWorld, scenario: Scenario, column: int, seed: str, into: Path) -> bool:
    if not asyncio.run(playable(world, scenario)):
        print(f"– {scenario.name:<8} {scenario.title}: not played, the API has no {scenario.needs} yet", flush=True)
        return True
    amount, seeds = scenario.amount[column] or max(scenario.amount[:2]), scenario.seeds if column == LONG else 1
    named = [seed, *(f"{seed}.{n}" for n in range(2, seeds + 1))]
    verdicts = [_is_clean(world, scenario, amount, each, into / f"{scenario.name}-{each}.jsonl") for each in named]
    return all(verdicts)


def _is_clean(world: ChaosWorld, scenario: Scenario, amount: int, seed: str, file: Path) -> bool:
    began = time.monotonic()
    asyncio.run(play(world, scenario, amount, seed, file))
    history = History.read(file)
    violations = judge(history)
    print(f"{'✗' if violations else '✓'} {scenario.name:<8} {scenario.title} × {amount}")
    print(f"  {summary(history)}  {time.monotonic() - began:.1f} s", flush=True)
    for figure in history.all("figure"):
        print(f"  {figure['name']}: {figure['value']:.3g}")
    for violation in violations[:20]:
        print(f"  {violation}", flush=True)
    return not violations


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
