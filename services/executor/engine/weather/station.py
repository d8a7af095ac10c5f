"""How calls end, told to all executors: counts now and then, trouble at once, and what it makes of the circuits."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import UTC, datetime

import structlog

from chassis.bus import Bus
from chassis.llm.call import ModelChoice, ModelFailure
from chassis.llm.text import clean
from chassis.pausing import until_any
from chassis.postgres import Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.weather import CircuitState, ProviderClosed, ProviderOpened
from services.executor.domain.retry_budget import RetryBudget, called, retried
from services.executor.domain.weather import (
    OUTCOMES,
    Breaker,
    Outcome,
    Rules,
    Seen,
    Tally,
    is_lasting,
    is_rough,
    observed,
    withdrawn,
    works_for_others,
)
from services.executor.engine.store import TROUBLE
from services.executor.engine.weather import store
from services.executor.engine.weather.store import Count
from services.executor.engine.weather.ticket import Ticket, Verdict
from services.executor.engine.weather.view import View

log = structlog.get_logger(__name__)

MOST_OF_A_REASON = 300  # characters
PRUNE_SECONDS = 30.0
TELLING_SECONDS = 5.0
BLIND_WAIT = 1.0  # seconds until a repetition when the database is away, and with it all that others know


class Station:
    def __init__(self, pool: Pool, uow: UnitOfWork, bus: Bus, view: View, rules: Rules, *, poll: float) -> None:
        self._pool = pool
        self._uow = uow
        self._bus = bus
        self.view = view
        self.rules = rules
        self._poll = poll
        self._counts: dict[ModelChoice, Count] = {}  # ended, and not told yet
        self._in_a_row: Counter[ModelChoice] = Counter()  # failures of this process since its last success
        self._known: set[ModelChoice] = set()
        self._budgets: dict[str, RetryBudget] = {}
        self._telling = asyncio.Lock()  # what is read must not overwrite what was written since
        self._bell = asyncio.Event()
        self._withdrawing: set[asyncio.Task[None]] = set()
        self._pruned = 0.0

    # what calls tell

    def begun(self, choice: ModelChoice) -> None:
        self._budgets[choice.provider] = called(self._budgets.get(choice.provider) or RetryBudget())

    async def answered(self, ticket: Ticket) -> None:
        self._count(ticket.choice, failures=0)
        self._in_a_row.pop(ticket.choice, None)
        self.view.succeeded(ticket.choice)
        if ticket.probe is not None:
            await self.works(ticket)

    async def works(self, ticket: Ticket) -> None:
        """The first sign of life is enough for a probe: answers may take minutes."""
        if await self._tell(ticket, Seen(Outcome.ANSWERED, probe=ticket.probe)):
            ticket.probe = None

    async def failed(self, ticket: Ticket, failure: ModelFailure) -> Verdict:
        """What it means for the node, by what all executors have seen."""
        outcome = Outcome.ANSWERED if failure.at_work else OUTCOMES.get(failure.kind)
        if outcome is Outcome.ANSWERED:
            await self.answered(ticket)
        if outcome is None or outcome is Outcome.ANSWERED:
            return Verdict(wait=self._turn_of_retry(ticket.choice, failure) if failure.retriable else None)
        self._count(ticket.choice, failures=1)
        self._in_a_row[ticket.choice] += 1
        seen = Seen(outcome, clean(str(failure))[:MOST_OF_A_REASON], failure.retry_after, ticket.probe)
        if (known := await self._tell(ticket, seen)) is None:
            wait = max(failure.retry_after or 0.0, BLIND_WAIT)
            return Verdict(weather=outcome is Outcome.RATE_LIMITED or self.view.is_shut(ticket.choice), wait=wait)
        ticket.probe = None
        breaker, tally = known
        own = ticket.earlier + 1
        if breaker.state is not CircuitState.CLOSED:
            ends = works_for_others(tally, own) or is_lasting(breaker, seen, datetime.now(UTC), self.rules)
            return Verdict(weather=True, excuse_ends=ends)
        rough = is_rough(tally, own)  # an excuse, but no endless one: it works for some
        return Verdict(rough, excuse_ends=rough, wait=self._turn_of_retry(ticket.choice, failure))

    def gone(self, ticket: Ticket) -> None:
        """Its attempt is over, however it ended: a probe that has told nothing is given back."""
        if ticket.probe is not None:
            task = asyncio.create_task(self._withdraw(ticket))
            self._withdrawing.add(task)
            task.add_done_callback(self._withdrawing.discard)

    def _turn_of_retry(self, choice: ModelChoice, failure: ModelFailure) -> float:
        budget = self._budgets.get(choice.provider) or RetryBudget()
        self._budgets[choice.provider], wait = retried(budget, time.monotonic())
        return max(failure.retry_after or 0.0, wait)

    def _count(self, choice: ModelChoice, failures: int) -> None:
        calls, failed = self._counts.get(choice) or (0, 0)
        self._counts[choice] = Count(calls + 1, failed + failures)

    # what all executors share

    async def _tell(self, ticket: Ticket, seen: Seen) -> tuple[Breaker, Tally] | None:
        """The circuit afterwards; None when the database is away."""
        try:
            async with asyncio.timeout(TELLING_SECONDS), self._telling:
                after, tally = await self._observe(ticket, seen)
                news = self.view.note(ticket.choice, after)
        except TROUBLE as error:
            log.warning("weather.not_told", model=str(ticket.choice), error=repr(error))
            return None
        if news and after.state is CircuitState.CLOSED:
            await self._wake(ticket.choice)
        return after, tally

    async def _observe(self, ticket: Ticket, seen: Seen) -> tuple[Breaker, Tally]:
        choice, counts = ticket.choice, self._counts.pop(ticket.choice, Count())
        try:
            async with self._uow.begin(ticket.context) as tx:
                before, now = await store.lock(tx.conn, choice)
                if counts.calls:
                    await store.add(tx.conn, {choice: counts})
                tally = await store.tally(tx.conn, choice, before.since, self.rules.window)
                tally = tally._replace(in_a_row=max(tally.in_a_row, self._in_a_row[choice]))
                after = observed(before, seen, tally, now, random.random(), self.rules)
                if after != before:
                    await self._save(tx, choice, after)
                    tx.publish(_fact(ticket, after))
        except BaseException:
            self._put_back({choice: counts})
            raise
        return after, tally

    async def _withdraw(self, ticket: Ticket) -> None:
        assert ticket.probe is not None
        try:
            async with asyncio.timeout(TELLING_SECONDS), self._telling:
                async with self._uow.begin(ticket.context) as tx:
                    before, now = await store.lock(tx.conn, ticket.choice)
                    after = withdrawn(before, ticket.probe, now)
                    if after != before:
                        await self._save(tx, ticket.choice, after)
                self.view.note(ticket.choice, after)
        except TROUBLE as error:  # the claim expires
            log.warning("weather.probe_not_withdrawn", model=str(ticket.choice), error=repr(error))

    async def _save(self, tx: Tx, choice: ModelChoice, after: Breaker) -> None:
        await store.save(tx.conn, choice, after)
        tx.after_commit(lambda: self._bus.ring("weather", str(choice).encode()))

    async def _wake(self, choice: ModelChoice) -> None:
        try:
            await store.wake_parked(self._pool, choice)
        except TROUBLE as error:  # they wake when their time comes
            log.warning("weather.nobody_woken", model=str(choice), error=repr(error))

    # its life

    async def hear(self, _: bytes) -> None:
        """The bell of `sig.executor.weather`: a circuit has changed."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._bell.clear()
            try:
                await self.flush()
                await self.load()
                await self._prune()
            except TROUBLE as error:
                log.warning("weather.unknown", error=repr(error))
            await until_any(self._poll, stop, self._bell)

    async def load(self) -> None:
        async with self._telling:
            for choice, breaker in (await store.load(self._pool)).items():
                self.view.note(choice, breaker)
        self.view.look_up()

    async def flush(self) -> None:
        """Tell what has been counted since the last time."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            if new := set(counts) - self._known:
                await store.know(self._pool, new)
                self._known |= new
            await store.add(self._pool, counts)
        except BaseException:
            self._put_back(counts)
            raise

    async def drain(self) -> None:
        if self._withdrawing:
            await asyncio.wait(set(self._withdrawing), timeout=TELLING_SECONDS)
        await self.flush()

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned >= PRUNE_SECONDS:
            self._pruned = time.monotonic()
            await store.prune(self._pool)

    def _put_back(self, counts: dict[ModelChoice, Count]) -> None:
        for choice, (calls, failures) in counts.items():
            later = self._counts.get(choice) or Count()
            self._counts[choice] = Count(later.calls + calls, later.failures + failures)


def _fact(ticket: Ticket, after: Breaker) -> ProviderOpened | ProviderClosed:
    company, provider, model = ticket.company, ticket.choice.provider, ticket.choice.model
    if after.state is CircuitState.CLOSED:
        return ProviderClosed(company=company, provider=provider, model=model)
    assert after.until is not None
    return ProviderOpened(company=company, provider=provider, model=model, reason=after.reason or "", until=after.until)
