"""Provider weather: which models can be had right now, as all executors see it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime

from contracts.executor import ProviderInfo
from contracts.message import Event, Request
from contracts.refs import Value


class CircuitState(StrEnum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # none does before `until`
    HALF_OPEN = "half_open"  # one at a time tries whether it works again


class Circuit(Value):
    """One provider and model. `calls` and `failures` are those of the last 30 seconds, of all executors."""

    provider: str
    model: str
    state: CircuitState
    reason: str | None
    since: AwareDatetime
    until: AwareDatetime | None
    calls: int
    failures: int
    parked_nodes: int


class ProviderWeather(ProviderInfo):
    """A provider and the circuits of its models that have been used; one that was never used has none."""

    circuits: list[Circuit]


class Weather(Value):
    items: list[ProviderWeather]


class ListProviders(Request[Weather], owner="executor", entity="provider", verb="list"): ...


class ProviderFact(Event):
    """Belongs to every company, and is told in the one whose call brought it about."""

    provider: str
    model: str


class ProviderOpened(ProviderFact, owner="executor", entity="provider", verb="opened", story="provider"):
    """No call before `until`; nodes that need it are parked or use a fallback."""

    reason: str
    until: AwareDatetime


class ProviderClosed(ProviderFact, owner="executor", entity="provider", verb="closed", story="provider"):
    """A probe succeeded."""
