"""The fleet on one machine: three NATS servers, each stream on all of them, and one server too few is enough."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest

from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from contracts.permissions import KEEPER
from deploy.cluster.nats import NAMES
from deploy.cluster.stack import ClusterStack
from deploy.local.environment import BadEnvironment, replicas_of
from deploy.local.home import Home
from deploy.local.ports import free_port
from deploy.local.supervisor import running_stack


async def serves(keeper: Keeper) -> bool:
    """Asks for every stream and consumer, and would make what is not there."""
    return await keeper.apply() == []


def silent(source: str, line: str) -> None:
    """What the supervisor says is not looked at here."""


async def test_streams_have_three_replicas_and_outlive_any_one_server() -> None:
    with tempfile.TemporaryDirectory(prefix="fluidcrew-cluster-") as directory:
        os.chmod(directory, 0o755)
        environ = {**os.environ, "PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
        stack = running_stack(
            Path(directory) / "home",
            environ=environ,
            log=silent,
            services=(),
            wait_healthy=False,
            stack_of=ClusterStack,
        )
        async with stack as running:
            cluster = running.stack
            assert isinstance(cluster, ClusterStack)
            keeper = Keeper(cluster.nats_urls[KEEPER], replicas=len(NAMES))
            name = random.choice(NAMES)  # `make cluster` kills each of them
            child = cluster.parts[name].child
            killed = child.pid
            child.signal(signal.SIGKILL)
            await eventually(lambda: serves(keeper), what=f"the bus without {name}")
            await eventually(lambda: child.running and child.pid != killed, what=f"{name} started again")
            await cluster.servers.whole()
            assert await keeper.verify() == []
            await keeper.close()


def test_a_cluster_of_its_own_and_somebody_else_s_bus_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="unset it"):
        ClusterStack(Home(tmp_path), {"NATS_URL": "nats://elsewhere:4222"}, (), silent)


def test_the_number_of_replicas_is_one_that_can_have_a_majority() -> None:
    assert (replicas_of({}), replicas_of({"NATS_REPLICAS": "3"})) == (1, 3)
    with pytest.raises(BadEnvironment, match="NATS_REPLICAS='2'"):
        replicas_of({"NATS_REPLICAS": "2"})
