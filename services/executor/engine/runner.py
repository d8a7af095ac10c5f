"""The life of a node, from prompt to report: everything that happens outside any transaction."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from chassis import telemetry
from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.llm.call import Completion, Cost, ModelChoice, ModelFailure, Prompt, Record, Usage, estimated_tokens
from chassis.llm.models import Models
from chassis.llm.sidecar import sidecar_for
from chassis.llm.text import clean
from chassis.postgres import CONNECTION_LOST, Pool
from contracts.errors import RetryLater
from contracts.executor import RunNode
from services.executor.domain.facts import NO_EFFORT, Effort, Failed, Output, Spend, Succeeded
from services.executor.domain.prompt import EarlierResult, system_prompt, user_prompt
from services.executor.domain.run import AttemptStatus, Closed, Opened, Run
from services.executor.engine import store
from services.executor.engine.claims import Brief
from services.executor.engine.inbox import Report
from services.executor.engine.tokens import TokenStream

log = structlog.get_logger(__name__)

T = TypeVar("T")

INLINE_BYTES = 64 * 1024
STAGING_SECONDS = 30.0  # beyond the model's time: storing a large output
DOUBT_SECONDS = 0.05
AWAY_SECONDS = 0.3  # between looks whether a server is back
MOST_OF_AN_ERROR = 2_000  # characters
OPENING_CHARACTERS = 16_000  # of a large output, kept beside its reference: previews and prompts need no more


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt at one node. `is_ours` says whether we are sure enough to own the run to pay for a call."""

    run: Run
    brief: Brief
    attempt: Opened
    is_ours: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Began:
    """A call that is under way."""

    choice: ModelChoice
    at: datetime
    clock: float

    def cut_off(self, prompt: Prompt, characters: int) -> ModelFailure:
        """As the model layer would tell it, had it not been the one that was canceled."""
        record = Record(
            choice=self.choice,
            model_used=self.choice.model,
            started_at=self.at,
            ended_at=datetime.now(UTC),
            latency_ms=round((time.perf_counter() - self.clock) * 1000),
            usage=Usage(estimated_tokens(prompt.size), estimated_tokens(characters), estimated=True),
            cost=Cost(None, "the call was canceled, and with it the account of what it cost"),
            warnings=("tokens are estimated from what was sent and received",),
        )
        failure = ModelFailure("canceled", "the call was canceled before its answer was complete")
        failure.record = record
        return failure


class Runner:
    """Calls models. Whatever happens becomes a report; only cancellation passes through, and closes the HTTP request."""

    def __init__(self, pool: Pool, models: Models, blobs: Blobs, bus: Bus, *, node_timeout: float) -> None:
        self._pool = pool
        self._models = models
        self._blobs = blobs
        self._bus = bus
        self._node_timeout = node_timeout
        self._late: set[asyncio.Task[None]] = set()

    async def perform(self, work: Work) -> Report:
        node, number = work.attempt.node, work.attempt.number
        with structlog.contextvars.bound_contextvars(run_id=str(work.run.id), node=node.key, attempt=number):
            try:
                return await self._in_time(work)
            except (RetryLater, TimeoutError, *CONNECTION_LOST) as error:
                return self._failed(work, str(error) or repr(error))
            except (
                Exception
            ) as error:  # a bug, of ours or of a library: the node pays with an attempt, the process lives
                log.exception("node.broke")
                telemetry.report(error, run_id=str(work.run.id), node=node.key)
                return self._failed(work, f"internal error: {type(error).__name__}")

    async def _in_time(self, work: Work) -> Report:
        spec = RunNode.model_validate(await _once_there(lambda: store.spec_of(self._pool, work.attempt.node.id)))
        prompt = Prompt(system_prompt(spec), user_prompt(work.run.title, spec, await self._earlier(work)))
        timeout = spec.timeout_s or self._node_timeout
        while not work.is_ours():  # noqa: ASYNC110  # a beat renews the lease, or the run is taken and this task ends
            await asyncio.sleep(DOUBT_SECONDS)
        try:
            async with asyncio.timeout(timeout + STAGING_SECONDS) as limit:
                return await self._call(work, spec, prompt, timeout)
        except TimeoutError:
            if not limit.expired():
                raise
            return self._failed(work, f"its result was not stored within {timeout + STAGING_SECONDS:g} s")

    async def _call(self, work: Work, spec: RunNode, prompt: Prompt, timeout: float) -> Report:
        tokens = TokenStream(self._bus, work.run.company, work.run.id, work.attempt.node, work.attempt.number)
        try:
            choice = self._models.choose(spec.llm_backend, spec.llm_model)
            began = _Began(choice, datetime.now(UTC), time.perf_counter())
            completion: Completion[Any] = await self._models.complete(
                choice, prompt, on_token=tokens.feed, timeout=timeout
            )
        except ModelFailure as failure:
            return self._refused(work, prompt, failure)
        except asyncio.CancelledError:
            self._remember(work, prompt, began.cut_off(prompt, tokens.characters))
            raise
        await tokens.flush()
        return await self._answered(work, prompt, completion)

    def _remember(self, work: Work, prompt: Prompt, failure: ModelFailure) -> None:
        """A call that was canceled was paid for all the same. Its attempt has ended: no turn would take a report."""
        report = self._refused(work, prompt, failure)
        task = asyncio.create_task(self._account(work, report))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _account(self, work: Work, report: Report) -> None:
        assert isinstance(report.fact, Failed)
        closed = Closed(work.attempt.node, work.attempt.number, AttemptStatus.CANCELED, effort=report.fact.effort)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await store.save_efforts(connection, [closed])
                if report.sidecar is not None:
                    place = (work.run.id, work.attempt.node.id, work.attempt.number)
                    await store.save_sidecars(connection, [(*place, report.sidecar)])
        except store.TROUBLE as error:
            log.warning("node.cost_not_noted", node_id=str(work.attempt.node.id), error=repr(error))

    async def drain(self) -> None:
        """Wait until what canceled calls took is noted."""
        if self._late:
            await asyncio.wait(set(self._late), timeout=5.0)

    async def _earlier(self, work: Work) -> list[EarlierResult]:
        if not work.attempt.node.deps:
            return []
        found = await _once_there(lambda: store.outputs_of(self._pool, work.run.id, work.attempt.node.deps))
        return [EarlierResult(*record) for record in found]

    async def _answered(self, work: Work, prompt: Prompt, completion: Completion[Any]) -> Report:
        output = await self._output(work, completion.text)
        fact = Succeeded(work.attempt.node.key, work.attempt.number, output, _effort(completion.record))
        return Report(work.run.id, fact, self._sidecar(work, prompt, completion))

    async def _output(self, work: Work, text: str) -> Output:
        data = text.encode()
        checksum = hashlib.sha256(data).hexdigest()
        if len(data) <= INLINE_BYTES:
            return Output(text, None, len(data), checksum)
        # before the commit: a row must never point at what is not there
        kind = "text/plain; charset=utf-8"
        ref = await _once_there(lambda: self._blobs.put(data, company=work.run.company, content_type=kind))
        return Output(text[:OPENING_CHARACTERS], ref, len(data), checksum)

    def _refused(self, work: Work, prompt: Prompt, failure: ModelFailure) -> Report:
        effort = _effort(failure.record) if failure.record else NO_EFFORT
        fact = Failed(
            work.attempt.node.key,
            work.attempt.number,
            error=clean(str(failure))[:MOST_OF_AN_ERROR],
            jitter=random.random(),
            retriable=failure.retriable,
            rate_limited=failure.kind == "rate_limited",
            retry_after=failure.retry_after,
            effort=effort,
        )
        return Report(work.run.id, fact, self._sidecar(work, prompt, failure) if failure.record else None)

    def _failed(self, work: Work, error: str) -> Report:
        message = clean(error)[:MOST_OF_AN_ERROR]
        return Report(work.run.id, Failed(work.attempt.node.key, work.attempt.number, message, random.random()))

    def _sidecar(self, work: Work, prompt: Prompt, call: Completion[Any] | ModelFailure) -> dict[str, Any]:
        return sidecar_for(
            call,
            prompt,
            run_id=work.run.id,
            node_id=work.attempt.node.id,
            retry_index=work.attempt.number - 1,
            request_id=work.brief.context.request_id or None,
            metadata={"node": work.attempt.node.key, "role": work.attempt.node.role},
        )


def _effort(record: Record) -> Effort:
    usage = record.usage
    spend = Spend(usage.prompt_tokens, usage.completion_tokens, 1, record.cost.amount)
    return Effort(spend, record.latency_ms, record.model_used)


async def _once_there(ask: Callable[[], Awaitable[T]]) -> T:
    """What the database or the object store answers, once it is there: that it is away is no failure of the node."""
    while True:
        try:
            return await ask()
        except (RetryLater, *CONNECTION_LOST) as error:
            log.warning("node.waits", error=str(error) or repr(error))
            await asyncio.sleep(AWAY_SECONDS)
