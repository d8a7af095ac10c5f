"""The supervisor: a language model that turns a brief into a plan, with one round to repair an unsound one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from chassis.llm.call import ModelChoice, ModelFailure, Prompt, Record
from chassis.llm.models import Models
from chassis.llm.spending import Purse
from contracts.plan import PlanGraph
from services.planner.domain.drafted import MAX_ANSWER, Draft, DraftedPlan, read
from services.planner.domain.source import Brief

SYSTEM = """\
You are the supervisor of a company of AI agents. You turn a task into a plan that other agents carry out.

Rules for the plan:
- 3 to 8 steps for most tasks, never more than 30; each step is the work of one agent in one answer
- a step names in `deps` the ids of exactly those steps whose results it needs; no cycles
- steps that do not need each other run in parallel: do not chain them
- the last step brings the results together into what the task asks for
- every step has instructions an agent can follow without seeing this conversation, the role of the agent that suits it,
  acceptance criteria that can be checked in its result, its risks, and what it takes for granted
- write in the language of the task
"""
REPAIR_SHOWS = 20_000  # characters of the answer that is to be repaired


@dataclass(frozen=True, slots=True)
class Round:
    """What one answer came to."""

    graph: PlanGraph | None
    errors: Sequence[str]
    answer: str
    record: Record | None


class Supervisor:
    def __init__(self, models: Models, timeout: float) -> None:
        self._models = models
        self._timeout = timeout

    async def draft(self, brief: Brief, choice: ModelChoice, purse: Purse) -> Draft:
        """At most two calls. Raises ModelFailure when the model gives no answer at all."""
        first = await self._round(choice, asked(brief), purse)
        if first.graph is not None:
            return _draft("supervisor", first)
        second = await self._round(choice, asked(brief) + repair(first), purse)
        return _draft("repaired", first, second)

    async def _round(self, choice: ModelChoice, user: str, purse: Purse) -> Round:
        prompt = Prompt(system=SYSTEM, user=user)
        try:
            completion = await self._models.complete(
                choice, prompt, output=DraftedPlan, timeout=self._timeout, purse=purse
            )
        except ModelFailure as failure:
            if failure.kind != "malformed":
                raise
            return Round(None, failure.problems or (failure.message,), failure.raw, failure.record)
        assert completion.output is not None, "an output type was asked for and no tool offered"
        graph, errors = read(completion.output)
        return Round(graph, errors, completion.text, completion.record)


def asked(brief: Brief) -> str:
    parts = [f"# Task\n{brief.title}"]
    if brief.description:
        parts.append(f"# Description\n{brief.description}")
    if brief.acceptance:
        parts.append(f"# Acceptance criteria\n{_bullets(brief.acceptance)}")
    if brief.params:
        parts.append(f"# Parameters\n{json.dumps(brief.params, ensure_ascii=False, indent=1)}")
    return "\n\n".join(parts)


def repair(failed: Round) -> str:
    return (
        f"\n\n# Your last answer\n{failed.answer[:REPAIR_SHOWS]}\n\n"
        f"# What is wrong with it\n{_bullets(failed.errors)}\n\n"
        "Answer with the whole plan again, with all of this put right."
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _draft(origin: str, *rounds: Round) -> Draft:
    last = rounds[-1]
    records = [r.record for r in rounds if r.record is not None]
    return Draft(
        graph=last.graph,
        origin=origin,
        errors=tuple(last.errors),
        answer=None if last.graph else last.answer[:MAX_ANSWER],
        tokens=sum(record.usage.total_tokens for record in records),
        cost_usd=_sum([record.cost.amount for record in records]),
    )


def _sum(amounts: Sequence[Decimal | None]) -> str | None:
    known = [amount for amount in amounts if amount is not None]
    return str(sum(known, Decimal(0))) if len(known) == len(amounts) else None
