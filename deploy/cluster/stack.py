"""What the services stand on when the bus is a cluster: three NATS servers, and the other parts as ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.permissions import CLI, KEEPER, permissions
from contracts.subjects import SERVICES
from deploy.cluster.nats import NAMES, NatsCluster
from deploy.local.environment import BadEnvironment, value_of
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.parts import Part
from deploy.local.stack import Log, Stack


class ClusterStack(Stack):
    """Every stream has a replica on each of the servers; any one of them may die."""

    def __init__(self, home: Home, environ: Mapping[str, str], services: Sequence[str], log: Log) -> None:
        if value_of(environ, "NATS_URL"):
            raise BadEnvironment("NATS_URL is set: unset it to try the cluster that this command starts")
        super().__init__(home, environ, services, log)
        home.prepare()
        self.servers = NatsCluster(home, {user: permissions(user) for user in (*SERVICES, CLI, KEEPER)})

    @property
    def replicas(self) -> int:
        return len(NAMES)

    async def start(self) -> None:
        await super().start()
        await self.servers.elected()

    def _embedded(self) -> list[Part]:
        others = [part for part in super()._embedded() if not isinstance(part, Nats)]
        return [*self.servers.nodes, *others]

    def _connect_bus(self) -> None:
        self.nats_urls = {user: self.servers.url(user) for user in (*self.services, CLI, KEEPER)}
