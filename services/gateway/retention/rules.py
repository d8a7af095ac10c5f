"""How long the gateway keeps facts."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.postgres import Connection
from chassis.retention import DAY, Retention
from services.gateway.retention import store
from services.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class OldFacts:
    """How far each story was told stays: it is small, and by it a gap is recognised when the story goes on."""

    keep: float
    name: str = "timeline"

    async def step(self, connection: Connection, most: int) -> int:
        return await store.forget_facts(connection, self.keep, most)


def register(retention: Retention, settings: GatewaySettings) -> None:
    retention.add(OldFacts(settings.retention_timeline_days * DAY))
