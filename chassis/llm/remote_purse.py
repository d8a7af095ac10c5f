"""The purse of services that own no budgets: they reserve and settle with the executor, over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID, uuid4

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.llm.spending import AGAIN_SECONDS, LONGEST_PAUSE, Estimate, OverBudget, Settlements
from chassis.unit_of_work import UnitOfWork
from contracts.budgets import Payer, Purchase, ReserveSpend, SettleSpend, Shortage, Took
from contracts.errors import Code, Rejection, RetryLater

log = structlog.get_logger(__name__)

MOST_OF_A_NOTE = 1_000  # characters
KIND = "settle"
ATTEMPTS = 100_000  # weeks of an executor that is away

Settle = Callable[[SettleSpend, Context], "asyncio.Task[None]"]


class RemotePurses:
    """One per process. What cannot be settled at once is a job: it is settled whoever dies, and however long it takes."""

    def __init__(self, bus: Bus, uow: UnitOfWork, jobs: Jobs) -> None:
        self._bus = bus
        self._uow = uow
        self._jobs = jobs
        self._settlements = Settlements()
        jobs.register(KIND, self._work, max_attempts=ATTEMPTS)

    def of(self, company: str, payer: Payer, context: Context, purchase: Purchase | None = None) -> RemotePurse:
        return RemotePurse(self._bus, self.settle, company, payer, context, purchase)

    def settle(self, request: SettleSpend, context: Context) -> asyncio.Task[None]:
        return self._settlements.begin(lambda: self._settle(request, context))

    async def _settle(self, request: SettleSpend, context: Context) -> None:
        try:
            await self._bus.ask(request, context)
        except Exception:  # whatever it was
            log.warning("spending.settled_by_a_job", exc_info=True)
            async with self._uow.begin(context) as tx:
                payload, ref = request.model_dump(mode="json"), str(request.reservation)
                await self._jobs.enqueue(tx, KIND, ref, payload, company=request.company, due_in=AGAIN_SECONDS)

    async def _work(self, job: Job) -> None:
        try:
            await self._bus.ask(SettleSpend.model_validate(job.payload), job.context)
        except (RetryLater, Rejection) as refusal:
            pause = AGAIN_SECONDS * 2.0 ** min(job.attempt, 20)
            raise RetryLater(min(LONGEST_PAUSE, pause), str(refusal)) from None
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {})

    async def drain(self) -> None:
        await self._settlements.drain()


class RemotePurse:
    """Raises RetryLater while the executor is away: a ceiling that cannot be asked about lets nothing through."""

    def __init__(
        self, bus: Bus, settle: Settle, company: str, payer: Payer, context: Context, purchase: Purchase | None
    ) -> None:
        self._bus = bus
        self._settle = settle
        self._company = company
        self._payer = payer
        self._context = context
        self._purchase = purchase
        self.took: Took | None = None  # of a purchase: what its settlement says

    async def reserve(self, estimate: Estimate) -> UUID | None:
        request = ReserveSpend(
            company=self._company,
            command_id=uuid4(),
            payer=self._payer,
            amount_usd=estimate.cost.amount,
            model=str(estimate.choice),
            note=estimate.cost.note[:MOST_OF_A_NOTE],
            for_s=estimate.lasts,
            purchase=self._purchase,
        )
        try:
            return (await self._bus.ask(request, self._context)).reservation
        except (RetryLater, asyncio.CancelledError):  # it may have been made all the same
            self.settle(request.command_id, Decimal(0))
            raise
        except Rejection as refusal:
            if refusal.failure.code is not Code.OVER_BUDGET:
                raise
            raise OverBudget(Shortage.model_validate(refusal.failure.details)) from None

    def settle(self, reservation: UUID, amount: Decimal | None) -> asyncio.Task[None]:
        request = SettleSpend(company=self._company, reservation=reservation, amount_usd=amount, took=self.took)
        return self._settle(request, self._context)
