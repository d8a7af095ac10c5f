"""Three NATS servers on loopback that know each other: JetStream keeps what two of them have written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import nats
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from chassis.nats_address import NatsAddress
from contracts.permissions import KEEPER, Permissions
from contracts.streams import STREAMS
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.process import StartFailed

Predicate = Callable[[JetStreamContext], Awaitable[bool]]

NAMES = ("nats-1", "nats-2", "nats-3")
ELECTION_SECONDS = 30.0
LOOK = 0.1

CLUSTER = """\
cluster {{
  name: fluidcrew
  listen: "127.0.0.1:{port}"
  authorization {{ user: route, password: {password}, timeout: 2 }}
  routes: [ {routes} ]
}}
"""


class NatsCluster:
    """The servers, and the address that names all of them."""

    def __init__(self, home: Home, users: Mapping[str, Permissions]) -> None:
        ports = [home.port(f"{name}-route") for name in NAMES]
        password = home.secret("nats-route")
        routes = ", ".join(json.dumps(f"nats://route:{password}@127.0.0.1:{port}") for port in ports)
        self.nodes = tuple(
            Nats(home, users, name, CLUSTER.format(port=port, password=json.dumps(password), routes=routes))
            for name, port in zip(NAMES, ports, strict=True)
        )

    def url(self, user: str) -> str:
        return ",".join(node.url(user) for node in self.nodes)

    async def elected(self, patience: float = ELECTION_SECONDS) -> None:
        """The servers have agreed on who leads: only then streams can be made."""
        await self._until(_answers, patience, "JetStream has no leader")

    async def whole(self, patience: float = ELECTION_SECONDS) -> None:
        """Every stream is complete on all of them: another one may go."""
        await self._until(_is_whole, patience, "a stream is not complete on all servers")

    async def _until(self, holds: Predicate, patience: float, otherwise: str) -> None:
        deadline = time.monotonic() + patience
        address = NatsAddress.of(self.url(KEEPER))
        nc = await nats.connect(address.servers, **address.login, max_reconnect_attempts=-1, error_cb=_ignore)
        try:
            while not await holds(nc.jetstream(timeout=1)):
                if time.monotonic() > deadline:
                    raise StartFailed(f"{otherwise} after {patience:g} s; see the logs of {', '.join(NAMES)}")
                await asyncio.sleep(LOOK)
        finally:
            await nc.close()


async def _answers(js: JetStreamContext) -> bool:
    try:
        await js.account_info()
    except (NatsError, TimeoutError):
        return False
    return True


async def _is_whole(js: JetStreamContext) -> bool:
    try:
        infos = [await js.stream_info(spec.name) for spec in STREAMS]
    except (NatsError, TimeoutError):
        return False
    return all(_complete(info.cluster.replicas or ()) for info in infos if info.cluster is not None)


def _complete(replicas: Sequence[object]) -> bool:
    others = len(NAMES) - 1
    return sum(bool(getattr(r, "current", False)) and not getattr(r, "offline", False) for r in replicas) == others


async def _ignore(_: Exception) -> None:
    """A server that is away is what is waited for."""
