"""The life of a node, from prompt to report: everything that happens outside any transaction."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from chassis import telemetry
from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.llm.call import Completion, ModelFailure, Prompt
from chassis.llm.models import Models
from chassis.llm.sidecar import sidecar_for
from chassis.llm.spending import OverBudget, Purse
from chassis.llm.text import clean
from chassis.postgres import CONNECTION_LOST, Pool
from contracts.errors import FluidcrewError, RetryLater
from contracts.executor import RunNode
from contracts.scope import Scope
from services.executor.domain.facts import Failed, Output, Succeeded, Unfunded
from services.executor.domain.run import Opened, Run
from services.executor.engine.account import Account, Call, Sidecar
from services.executor.engine.claims import Brief
from services.executor.engine.conversation import Conversation, NoEnd, Talk
from services.executor.engine.inbox import Report
from services.executor.engine.late_books import LateBooks
from services.executor.engine.patience import once_there
from services.executor.engine.prompting import assignment
from services.executor.engine.tokens import TokenStream
from services.executor.engine.toolbox import OutOfTime, Place, Toolbox
from services.executor.engine.weather.calls import Calls
from services.executor.engine.weather.ticket import NO_VERDICT, Ticket
from services.executor.spending.purses import Attempt, Purses

log = structlog.get_logger(__name__)

INLINE_BYTES = 64 * 1024
STAGING_SECONDS = 30.0  # beyond the model's time: storing a large output
DOUBT_SECONDS = 0.05
MOST_OF_AN_ERROR = 2_000  # characters
CUT_OFF = "the text is cut off: its model had reached the limit of tokens (LLM_MAX_OUTPUT_TOKENS)"
OPENING_CHARACTERS = 16_000  # of a large output, kept beside its reference: previews and prompts need no more


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt at one node. `is_ours` says whether we are sure enough to own the run to pay for a call; `tell` takes
    what is learnt after the attempt was cut off. `ticket` says which model it got, when the weather is bad."""

    run: Run
    brief: Brief
    attempt: Opened
    is_ours: Callable[[], bool]
    tell: Callable[[Report], None]
    ticket: Ticket | None = None


class Runner:
    """Performs attempts. Whatever happens becomes a report; only cancellation passes, and closes the HTTP request."""

    def __init__(
        self,
        pool: Pool,
        models: Models,
        calls: Calls,
        blobs: Blobs,
        bus: Bus,
        toolbox: Toolbox,
        purses: Purses,
        late_books: LateBooks,
        *,
        node_timeout: float,
        rounds: int,
    ) -> None:
        self._pool = pool
        self._models = models
        self._blobs = blobs
        self._bus = bus
        self._conversation = Conversation(calls, toolbox, rounds)
        self._purses = purses
        self._late_books = late_books
        self._node_timeout = node_timeout

    async def perform(self, work: Work) -> Report:
        node, number = work.attempt.node, work.attempt.number
        account = Account(partial(_sidecar, work))
        with structlog.contextvars.bound_contextvars(run_id=str(work.run.id), node=node.key, attempt=number):
            try:
                return await self._in_time(work, account)
            except asyncio.CancelledError:
                account.cut_off()
                if account.sidecars:  # its attempt has ended: no turn would take a report
                    self._late_books.book(work.run.id, work.attempt, account.effort(), account.sidecars, work.tell)
                raise
            except OverBudget as failure:
                return _report(work, account, Unfunded(node.key, number, failure.shortage, account.effort()))
            except ModelFailure as failure:
                return _failed(work, account, failure)
            except (NoEnd, OutOfTime, RetryLater, TimeoutError, *CONNECTION_LOST) as error:
                return _failed(work, account, error)
            except (
                Exception
            ) as error:  # a bug, of ours or of a library: the node pays with an attempt, the process lives
                log.exception("node.broke")
                telemetry.report(error, run_id=str(work.run.id), node=node.key)
                return _failed(work, account, FluidcrewError(f"internal error: {type(error).__name__}"))

    async def _in_time(self, work: Work, account: Account) -> Report:
        spec, budgets, prompt = await assignment(self._pool, work.run, work.attempt.node)
        account.ticket = ticket = self._ticket(work, spec)
        timeout = spec.timeout_s or self._node_timeout
        await _sure(work)
        try:
            async with asyncio.timeout(timeout + STAGING_SECONDS) as limit:
                completion = await self._conversation.hold(
                    self._talk(work, ticket, prompt, timeout, account, self._purse(work, budgets))
                )
                return await self._answered(work, account, completion)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"its result was not stored within {timeout + STAGING_SECONDS:g} s") from None

    def _ticket(self, work: Work, spec: RunNode) -> Ticket:
        choice = self._models.choose(spec.llm_backend, spec.llm_model)
        ticket = work.ticket or Ticket(choice, choice)
        ticket.company, ticket.context = work.run.company, work.brief.context
        node = work.run.nodes[work.attempt.node.key]
        ticket.earlier = node.failures + node.waits
        return ticket

    def _purse(self, work: Work, budgets: Mapping[str, str]) -> Purse | None:
        run, opened = work.run, work.attempt
        accounts = [(scope, budgets[scope]) for scope in Scope if scope in budgets]
        return self._purses.of(
            Attempt(run.company, accounts, run.id, opened.node.id, opened.number, work.brief.context)
        )

    def _talk(
        self, work: Work, ticket: Ticket, prompt: Prompt, timeout: float, account: Account, purse: Purse | None
    ) -> Talk:
        run, node, number = work.run, work.attempt.node, work.attempt.number
        deadline = asyncio.get_running_loop().time() + timeout
        place = Place(run.company, run.id, node.id, number, work.brief.context, deadline)
        tokens = TokenStream(self._bus, run.company, run.id, node, number)
        return Talk(ticket, prompt, place, tokens, account, partial(_sure, work), purse)

    async def _answered(self, work: Work, account: Account, completion: Completion[Any]) -> Report:
        output = await self._output(work, completion.text)
        warnings = (CUT_OFF,) if completion.cut_off else ()
        fact = Succeeded(work.attempt.node.key, work.attempt.number, output, account.effort(), warnings)
        return _report(work, account, fact)

    async def _output(self, work: Work, text: str) -> Output:
        data = text.encode()
        checksum = hashlib.sha256(data).hexdigest()
        if len(data) <= INLINE_BYTES:
            return Output(text, None, len(data), checksum)
        # before the commit: a row must never point at what is not there
        kind = "text/plain; charset=utf-8"
        ref = await once_there(lambda: self._blobs.put(data, company=work.run.company, content_type=kind))
        return Output(text[:OPENING_CHARACTERS], ref, len(data), checksum)


async def _sure(work: Work) -> None:
    """Until we are sure to own the run: a beat renews the lease, or the run is taken and this task ends."""
    while not work.is_ours():  # noqa: ASYNC110
        await asyncio.sleep(DOUBT_SECONDS)


def _failed(work: Work, account: Account, error: Exception) -> Report:
    account.cut_off()
    failure = error if isinstance(error, ModelFailure) else None
    verdict = account.ticket.verdict if failure and account.ticket else NO_VERDICT
    fact = Failed(
        work.attempt.node.key,
        work.attempt.number,
        error=clean(str(error) or repr(error))[:MOST_OF_AN_ERROR],
        jitter=random.random(),
        # who does not come to an end would not the next time, at the price of as many calls
        retriable=failure.retriable if failure else not isinstance(error, NoEnd),
        weather=verdict.weather,
        excuse_ends=verdict.excuse_ends,
        retry_after=verdict.wait,
        effort=account.effort(),
    )
    return _report(work, account, fact)


def _report(work: Work, account: Account, fact: Succeeded | Failed | Unfunded) -> Report:
    return Report(work.run.id, fact, tuple(account.sidecars), work.attempt.node)


def _sidecar(work: Work, call: Call, prompt: Prompt, number: int) -> Sidecar:
    node = work.attempt.node
    asked_for = dict.fromkeys(c.name for c in call.tool_calls) if isinstance(call, Completion) else {}
    return sidecar_for(
        call,
        prompt,
        run_id=work.run.id,
        node_id=node.id,
        retry_index=work.attempt.number - 1,
        request_id=work.brief.context.request_id or None,
        metadata={"node": node.key, "role": node.role, "call": number, **_stood_in_for(work.ticket)},
        tooling=[{"name": name} for name in asked_for],
    )


def _stood_in_for(ticket: Ticket | None) -> dict[str, str]:
    return {"requested": str(ticket.requested)} if ticket and ticket.choice != ticket.requested else {}
