"""The doorman of a turn in bad weather: who may start, with which model, who probes, and who has to wait until when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from chassis.llm.call import ModelChoice
from chassis.postgres import Connection
from services.executor.domain.weather import Breaker, Passage, Rules, claimed, looked_at_again, passage
from services.executor.engine.weather import store
from services.executor.engine.weather.routes import Route, Routes
from services.executor.engine.weather.station import Station
from services.executor.engine.weather.ticket import Ticket
from services.executor.engine.weather.view import View

RECHECK = timedelta(seconds=0.25)  # when somebody else is changing the circuit right now
MOST_PARKED = 500  # in one turn; more wait for the next


@dataclass(frozen=True, slots=True)
class Shut:
    """`on` is what the node asked for; until then none of its models is looked at again, unless the weather changes."""

    on: ModelChoice
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room right now; a call that ends makes some."""


FULL = Full()
Ruling = Ticket | Shut | Full | None


class Doorman:
    """Knows the routes of the runs that this process owns; lets nobody wait while the weather is fair."""

    def __init__(self, station: Station, routes: Routes) -> None:
        self._station = station
        self._view = station.view
        self._routes = routes
        self._known: dict[UUID, Mapping[str, Route]] = {}

    def gate(self, now: datetime, held: Container[UUID]) -> Gate | None:
        """None in fair weather."""
        if self._view.calm:
            self._known.clear()
            return None
        for run in [run for run in self._known if run not in held]:
            del self._known[run]
        return Gate(self._view, self._station.rules, self._known, self._routes, now)

    def on_change(self, hear: Callable[[], None]) -> None:
        self._view.on_change = hear

    def let_in(self, ticket: Ticket, work: asyncio.Task[None]) -> None:
        """Until the work is over, however it ends."""
        self._view.began(ticket.choice)
        work.add_done_callback(lambda _: self._over(ticket))

    def _over(self, ticket: Ticket) -> None:
        self._view.ended(ticket.choice)
        self._station.gone(ticket)


class Gate:
    """Of one turn. What it gives away counts from the commit on (`opened`)."""

    def __init__(
        self, view: View, rules: Rules, known: dict[UUID, Mapping[str, Route]], routes: Routes, now: datetime
    ) -> None:
        self._view = view
        self._rules = rules
        self._known = known
        self._routes = routes
        self._now = now
        self._fresh: dict[ModelChoice, Breaker] = {}  # read in this turn, with the probes that were claimed
        self._claims: dict[ModelChoice, tuple[Breaker, UUID]] = {}  # not given away yet, and what was before
        self._admitted: Counter[ModelChoice] = Counter()
        self._parked = 0
        self._changes = view.changes

    async def prepare(self, connection: Connection, runs: Mapping[UUID, Sequence[str]]) -> None:
        """Before `rule` is asked about these nodes of these runs."""
        if new := [run for run in runs if run not in self._known]:
            for run, waits in (await store.waits_of(connection, new)).items():
                self._known[run] = {w.key: self._routes.of(w) for w in waits}
        routes = (self._known[run].get(key, ()) for run, keys in runs.items() for key in keys)
        wanted = {choice for route in routes for choice in route}
        due = [c for c in wanted if self._look(c) is Passage.PROBE]
        if due:
            await self._claim(connection, due)

    async def _claim(self, connection: Connection, due: list[ModelChoice]) -> None:
        for choice, breaker in (await store.lock_idle(connection, due)).items():
            self._fresh[choice] = breaker
            if passage(breaker, self._now) is Passage.PROBE:
                token = uuid4()
                after = claimed(breaker, token, self._now, self._rules)
                await store.save(connection, choice, after)
                self._fresh[choice], self._claims[choice] = after, (breaker, token)

    def rule(self, run: UUID, key: str) -> Ruling:
        """None: its models are no concern of ours."""
        route = self._known.get(run, {}).get(key, ())
        looks: list[datetime] = []
        for choice in route:
            if choice in self._claims:
                return self._admit(choice, route[0], self._claims.pop(choice)[1])
            look = self._look(choice)
            if look is Passage.FREE:
                if self._view.room(choice) <= self._admitted[choice]:
                    return FULL
                return self._admit(choice, route[0], None)
            looks.append(self._again(choice))
        if not route:
            return None
        if self._parked >= MOST_PARKED:
            return FULL
        self._parked += 1
        breaker = self._breaker(route[0])
        return Shut(route[0], min(looks), (breaker.reason if breaker else None) or "the model is not to be had")

    async def settle(self, connection: Connection) -> None:
        """Claims that nobody took are as if they had not been made."""
        for choice, (before, _) in self._claims.items():
            await store.save(connection, choice, before)
            self._fresh[choice] = before
        self._claims.clear()

    def opened(self) -> None:
        """The turn is committed, and taken over."""
        for choice, breaker in self._fresh.items():
            self._view.note(choice, breaker)
        if self._view.changes != self._changes:
            self._view.on_change()  # whoever was parked in this turn has not heard of what came during it

    def _admit(self, choice: ModelChoice, requested: ModelChoice, probe: UUID | None) -> Ticket:
        self._admitted[choice] += 1
        return Ticket(choice, requested, probe)

    def _breaker(self, choice: ModelChoice) -> Breaker | None:
        return self._fresh.get(choice) or self._view.breakers.get(choice)

    def _look(self, choice: ModelChoice) -> Passage:
        return passage(self._breaker(choice), self._now)

    def _again(self, choice: ModelChoice) -> datetime:
        breaker = self._breaker(choice)
        look = looked_at_again(breaker) if breaker is not None else None
        return max(look or self._now, self._now + RECHECK)
