"""Answers who judges results: the case, the books, attempts compared, what waits for a person; and takes verdicts in."""

from __future__ import annotations

import asyncio

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.feedback import VerdictGiven
from contracts.page import Page
from contracts.review import (
    Attempts,
    BookReview,
    GetReviewCase,
    HeldNode,
    ListAttempts,
    ListHeld,
    ReviewBooked,
    ReviewCase,
)
from contracts.streams import EXECUTOR_VERDICTS
from contracts.verdict import Verdict
from services.executor.domain.comparing import compared
from services.executor.domain.facts import Judged
from services.executor.reviewing import store
from services.executor.steering.store import leave

log = structlog.get_logger(__name__)


class Reviewing:
    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus

    async def review_case(self, request: GetReviewCase, _: Context) -> ReviewCase:
        """Raises Rejection(not_found)."""
        found = await store.case(self._pool, request)
        if found is None:
            raise Rejection(Code.NOT_FOUND, _no_case(request))
        return found

    async def book(self, request: BookReview, context: Context) -> ReviewBooked:
        """Raises Rejection(not_found)."""
        async with self._uow.order(request, context) as tx:
            call = await store.book(tx.conn, request)
            if call is None:
                raise Rejection(Code.NOT_FOUND, f"node {request.node_id} has no attempt {request.attempt}")
            return tx.answer(ReviewBooked(call=call))

    async def attempts(self, request: ListAttempts, _: Context) -> Attempts:
        """Raises Rejection(not_found)."""
        found = await store.attempts(self._pool, request.company, request.node_id)
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"there is no node {request.node_id}")
        items = await asyncio.to_thread(compared, found.items)
        return found.model_copy(update={"items": items})

    async def held(self, request: ListHeld, _: Context) -> Page[HeldNode]:
        items, total = await store.held(self._pool, request)
        return Page(items=items, total=total)

    async def on_verdict(self, fact: VerdictGiven, envelope: Envelope) -> None:
        """Left for the owner of the run, which is the only one to know what still comes of it."""
        async with self._uow.handling(envelope, EXECUTOR_VERDICTS.durable) as tx:
            key = await store.lock_run_of(tx.conn, fact.company, fact.run_id, fact.node_id)
            if key is None:
                log.info("verdict.of_no_run", run_id=str(fact.run_id), node_id=str(fact.node_id))
                return
            await leave(tx.conn, fact.run_id, Judged(key, _verdict(fact, envelope)))
            tx.after_commit(lambda: self._bus.ring("run", str(fact.run_id).encode()))


def _verdict(fact: VerdictGiven, envelope: Envelope) -> Verdict:
    shared = (
        "feedback_id",
        "attempt",
        "version",
        "effect",
        "decision",
        "critical",
        "score",
        "threshold",
        "source",
        "reviewer",
        "critique",
    )
    return Verdict(at=envelope.time, **{name: getattr(fact, name) for name in shared})


def _no_case(request: GetReviewCase) -> str:
    where = f" in run {request.run_id}" if request.run_id is not None else ""
    which = f" with an attempt {request.attempt}" if request.attempt is not None else ""
    return f"there is no node {request.node_id}{where}{which}"
