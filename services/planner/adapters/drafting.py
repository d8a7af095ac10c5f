"""The supervisor: a language model that turns a brief into a plan, with one round to repair an unsound one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal

from chassis.llm.call import ModelChoice, ModelFailure, Prompt, Record
from chassis.llm.models import Models
from chassis.llm.spending import Purse
from chassis.llm.text import clean
from contracts.plan import PlanGraph
from services.planner.domain.drafted import MAX_ANSWER, Call, Draft, DraftedPlan, read, spent
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
- a step's answer is kept as a document by itself; only what it must hand over beside that is named in `deliverables`, and
  it is refused without it: a file by its path, or a `preview` when the task asks for something that opens in a browser
- write in the language of the task
"""
REPAIR_SHOWS = 20_000  # characters of the answer that is to be repaired


Keep = Callable[[Call], Awaitable[None]]


class Supervisor:
    def __init__(self, models: Models, timeout: float) -> None:
        self._models = models
        self._timeout = timeout

    async def draft(self, brief: Brief, choice: ModelChoice, purse: Purse, before: Sequence[Call], keep: Keep) -> Draft:
        """At most two calls; an unsound plan among those that were made `before` is repaired, and not asked for again.
        Whatever was paid for is kept. Raises ModelFailure when the model gives no answer."""
        made = list(before)
        unsound = next((call for call in made if call.answer is not None), None)
        if unsound is None:
            graph, unsound = await self._round(choice, asked(brief), purse, keep)
            made.append(unsound)
            if graph is not None:
                return Draft(graph, "supervisor", **spent(made))
            await keep(unsound)
        graph, last = await self._round(choice, asked(brief) + repair(unsound), purse, keep)
        answer = None if graph else (last.answer or "")[:MAX_ANSWER]
        return Draft(graph, "repaired", tuple(last.errors), answer, **spent([*made, last]))

    async def _round(self, choice: ModelChoice, user: str, purse: Purse, keep: Keep) -> tuple[PlanGraph | None, Call]:
        try:
            completion = await self._models.complete(
                choice, Prompt(system=SYSTEM, user=user), output=DraftedPlan, timeout=self._timeout, purse=purse
            )
        except ModelFailure as failure:
            if failure.kind == "malformed":
                problems = failure.problems or (failure.message,)
                return None, _call(failure.record, failure.raw, problems)
            if failure.record is not None and failure.record.cost.amount != 0:
                await keep(_call(failure.record))
            raise
        assert completion.output is not None, "an output type was asked for and no tool offered"
        graph, errors = read(completion.output)
        return graph, _call(completion.record, completion.text, errors)


def _call(record: Record | None, answer: str | None = None, errors: Sequence[str] = ()) -> Call:
    tokens, cost = (record.usage.total_tokens, record.cost.amount) if record else (0, Decimal(0))
    said = None if answer is None else clean(answer)
    return Call(tokens=tokens, cost_usd=cost, answer=said, errors=[clean(error) for error in errors])


def asked(brief: Brief) -> str:
    parts = [f"# Task\n{brief.title}"]
    if brief.description:
        parts.append(f"# Description\n{brief.description}")
    if brief.acceptance:
        parts.append(f"# Acceptance criteria\n{_bullets(brief.acceptance)}")
    if brief.params:
        parts.append(f"# Parameters\n{json.dumps(brief.params, ensure_ascii=False, indent=1)}")
    return "\n\n".join(parts)


def repair(failed: Call) -> str:
    return (
        f"\n\n# Your last answer\n{(failed.answer or '')[:REPAIR_SHOWS]}\n\n"
        f"# What is wrong with it\n{_bullets(failed.errors)}\n\n"
        "Answer with the whole plan again, with all of this put right."
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
