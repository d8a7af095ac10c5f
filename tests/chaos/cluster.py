"""`make cluster`: three NATS servers with R3 streams and several of each service; each server dies once under load."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from contracts.permissions import CLI, KEEPER, permissions
from contracts.subjects import SERVICES as OWNERS
from deploy.cluster.nats import NAMES, NatsCluster
from deploy.local.parts import Part
from tests.chaos.check import judge, summary
from tests.chaos.history import History
from tests.chaos.scenarios import COMPLETED, Load
from tests.chaos.stage import Stage, staged
from tests.chaos.world import ChaosWorld

RUNS = 50
DOWN = (2.0, 4.0)  # seconds


class ClusterWorld(ChaosWorld):
    """The bus is a cluster; everything else is as ever."""

    def __init__(self) -> None:
        super().__init__(NATS_REPLICAS=str(len(NAMES)))
        self.cluster = NatsCluster(self.home, {user: permissions(user) for user in (*OWNERS, CLI, KEEPER)})
        self.nats = self.cluster  # type: ignore[assignment]  # what asks it for a URL gets one that names all three
        self._children = {part.name: part.child for part in self._parts}

    @property
    def _parts(self) -> tuple[Part, ...]:
        nodes: tuple[Part, ...] = self.cluster.nodes if hasattr(self, "cluster") else (self.nats,)
        return *nodes, self.s3, self.postgres

    def start(self) -> None:
        super().start()
        self.launch("planner.2")

    async def _prepare(self) -> None:
        await self.cluster.elected()
        await super()._prepare()


async def each_server_dies(stage: Stage, world: ClusterWorld) -> None:
    await world.cluster.whole()
    async with Load(stage, least=RUNS):
        for name in stage.rng.sample(NAMES, len(NAMES)):
            await asyncio.sleep(stage.rng.uniform(1, 2))
            async with stage.fault(f"kill {name}"):
                world.kill(name)
                await asyncio.sleep(stage.rng.uniform(*DOWN))
                await world.revive(name)
            began = time.monotonic()
            await world.cluster.whole()
            stage.figure(f"seconds until {name} has caught up", time.monotonic() - began)


async def play(world: ClusterWorld, seed: str, file: Path) -> None:
    async with staged(world, file, "cluster", seed, **COMPLETED) as stage:
        await each_server_dies(stage, world)
        await stage.settled()
        await stage.collect()


def main(arguments: Sequence[str]) -> int:
    """0 when every rule holds."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.randrange(10**6)))
    parser.add_argument("--into", type=Path, default=Path(".fluidcrew/chaos"))
    options = parser.parse_args(arguments)
    file, world, began = options.into / options.seed / "cluster.jsonl", ClusterWorld(), time.monotonic()
    try:
        world.start()
        print(f"seed {options.seed}: {', '.join(NAMES)} with R3 streams, {time.monotonic() - began:.1f} s", flush=True)
        asyncio.run(play(world, options.seed, file))
    finally:
        world.keep_logs(file.parent / "logs")
        world.stop()
    history = History.read(file)
    violations = judge(history)
    print(f"{'✗' if violations else '✓'} {summary(history)}  {time.monotonic() - began:.1f} s; history in {file}")
    for figure in history.all("figure"):
        print(f"  {figure['name']}: {figure['value']:.1f}")
    for violation in violations[:20]:
        print(f"  {violation}")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
