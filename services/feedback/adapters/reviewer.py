"""The reviewing model: asked once, within a time; whatever keeps it from answering is said, and costs nobody a review."""

from __future__ import annotations

import time
from uuid import UUID

import structlog
from pydantic import BaseModel

from chassis import telemetry
from chassis.context import Context
from chassis.llm.call import Completion, Cost, ModelChoice, ModelFailure, Prompt, Record
from chassis.llm.models import Models
from chassis.llm.remote_purse import RemotePurses
from chassis.llm.settings import LlmSettings
from chassis.llm.sidecar import invalid, sidecar_for
from chassis.llm.spending import Purse
from contracts.budgets import Payer
from contracts.errors import Rejection, RetryLater
from contracts.executor import Usage
from contracts.review import ReviewCase
from services.feedback.domain.opinion import Opinion
from services.feedback.domain.prompt import SYSTEM, user_prompt
from services.feedback.domain.reviewers import ADVICE, choose
from services.feedback.settings import NOBODY

log = structlog.get_logger(__name__)

#: nothing was sent: there is nothing to account for
UNSENT = frozenset({"over_budget", "not_configured", "unknown_provider"})
Call = Completion[Opinion] | ModelFailure
SWITCHED_OFF = "no model reviews here: FEEDBACK_REVIEWER=none"


class Heard(BaseModel):
    """What a reviewing model said, or why it said nothing. `sidecar` and `usage` are set when it was called."""

    reviewer: str | None = None  # provider/model
    opinion: Opinion | None = None
    unavailable: str | None = None
    simulated: bool = False
    duration_ms: int | None = None
    usage: Usage | None = None
    sidecar: dict[str, object] | None = None

    def without_opinion(self, reason: str) -> Heard:
        """What the call took is told all the same."""
        return self.model_copy(update={"opinion": None, "simulated": False, "unavailable": reason[:1000]})


class Text(BaseModel):
    """A result under review. `left_out` are the characters of it that could not be read."""

    output: str
    left_out: int = 0


def candidates(models: Models, llm: LlmSettings, preferred: str | None) -> list[str]:
    """Who may review, the first choice first. Ollama needs no key: only a named one is known to run somewhere."""
    named = [preferred] if preferred else []
    named += [f"{ref.provider}/{ref.model}" for ref in llm.llm_fallbacks]
    named.append(str(models.choose(None, None)))
    if llm.llm_default_provider == "demo":
        return [*named, "demo/demo-reviewer"]
    ready = [p.name for p in models.describe().providers if p.configured and p.name in ("openai", "anthropic")]
    return named + [str(models.choose(name, None)) for name in ready]


class Reviewer:
    """`names` are the candidates in order; `preferred` is what FEEDBACK_REVIEWER says."""

    def __init__(
        self, models: Models, purses: RemotePurses, llm: LlmSettings, preferred: str | None, max_tokens: int
    ) -> None:
        self._models = models
        self._purses = purses
        self._off = preferred == NOBODY
        self._names = candidates(models, llm, None if self._off else preferred)
        self._max_tokens = max_tokens

    async def review(
        self, company: str, case: ReviewCase, text: Text, context: Context, *, job_id: UUID, timeout: float
    ) -> Heard:
        """Raises RetryLater while it cannot be asked whether a budget bears the call, or Rejection when that fails.

        Nothing else once a model may have been called: what goes wrong from then on must not make another call of it.
        """
        if self._off:
            return Heard(unavailable=SWITCHED_OFF)
        name = choose(case.author, self._names)
        if name is None:
            return Heard(unavailable=f"no model but the author's own ({case.author}) is configured: {ADVICE}")
        if timeout <= 0:
            return Heard(reviewer=name, unavailable="the time for the review was over before the model could be asked")
        provider, _, model = name.partition("/")
        prompt = Prompt(SYSTEM, user_prompt(case.run_title, case.spec, text.output, text.left_out))
        began, called = time.perf_counter(), None
        try:
            purse = self._purse(company, case, context)
            called = await self._called(ModelChoice(provider, model), prompt, purse, timeout)
            took = round((time.perf_counter() - began) * 1000)
            return _heard(name, called, took, _sidecar(called, prompt, case, job_id, context))
        except (RetryLater, Rejection):
            raise
        except Exception as bug:
            log.exception("review.call_in_vain", node_id=str(case.node_id), attempt=case.attempt)
            telemetry.report(bug, node_id=str(case.node_id))
            return _in_vain(name, called, bug)

    def _purse(self, company: str, case: ReviewCase, context: Context) -> Purse:
        payer = Payer(project=case.project_id, task_id=case.task_id, agent_id=case.spec.agent_id)
        return self._purses.of(company, payer, context)

    async def _called(self, choice: ModelChoice, prompt: Prompt, purse: Purse, timeout: float) -> Call:
        try:
            return await self._models.complete(
                choice, prompt, output=Opinion, timeout=timeout, max_tokens=self._max_tokens, purse=purse
            )
        except ModelFailure as failure:
            return failure


def _heard(name: str, called: Call, took: int, sidecar: dict[str, object] | None) -> Heard:
    record = called.record if sidecar is not None else None
    spent = {"sidecar": sidecar, "usage": _usage(record) if record else None, "duration_ms": took}
    if isinstance(called, ModelFailure):
        return Heard(reviewer=name, unavailable=f"{called.message} ({called.kind})"[:1000], **spent)
    return Heard(reviewer=name, opinion=called.output, simulated=called.record.simulated, **spent)


def _in_vain(name: str, called: Call | None, bug: Exception) -> Heard:
    """After a mistake of ours. The sidecar says that it is not what it should be."""
    reason = f"what came of the call could not be used: {surprise(bug)}"
    heard = Heard(reviewer=name).without_opinion(reason)
    if called is None or called.record is None:
        return heard
    return heard.model_copy(update={"usage": _usage(called.record), "sidecar": {"metadata": invalid([reason])}})


def surprise(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _sidecar(
    called: Call, prompt: Prompt, case: ReviewCase, job_id: UUID, context: Context
) -> dict[str, object] | None:
    if called.record is None or (isinstance(called, ModelFailure) and called.kind in UNSENT):
        return None
    return sidecar_for(
        called,
        prompt,
        run_id=case.run_id,
        node_id=case.node_id,
        retry_index=case.attempt - 1,
        request_id=context.request_id or None,
        metadata={"node": case.spec.key, "role": "reviewer", "attempt": case.attempt, "review": str(job_id)},
    )


def _usage(record: Record) -> Usage:
    tokens = record.usage
    return Usage(
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
        requests=1,
        cost_usd=_money(record.cost),
        estimated_calls=int(record.cost.estimated),
        unpriced_calls=int(not record.cost.known),
    )


def _money(cost: Cost) -> str | None:
    return None if cost.amount is None else format(cost.amount, "f")
