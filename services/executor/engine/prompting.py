"""What an attempt is told: its node, the results it stands on, and what was wrong with the attempt before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chassis.llm.call import Prompt
from chassis.postgres import Pool
from contracts.executor import RunNode
from contracts.review import Guidance
from services.executor.domain.graph import Plan
from services.executor.domain.prompt import Delivered, EarlierResult, system_prompt, user_prompt
from services.executor.domain.run import Run
from services.executor.engine import store
from services.executor.engine.patience import once_there
from services.executor.engine.reviews import store as reviews
from services.executor.spending import store as spending


class Assignment(NamedTuple):
    """`budgets` are those in force for the node: their ids by scope."""

    spec: RunNode
    budgets: Mapping[str, str]
    prompt: Prompt


async def assignment(pool: Pool, run: Run, node: Plan) -> Assignment:
    """Waits for a database that is away."""
    found, budgets, told = await once_there(lambda: spending.terms_of(pool, node.id))
    spec = RunNode.model_validate(found)
    guidance = Guidance.model_validate(told) if told else None
    before = await _before(pool, node, guidance)
    text = user_prompt(run.title, spec, await _earlier(pool, run, node), guidance, before)
    return Assignment(spec, budgets, Prompt(system_prompt(spec), text))


async def _earlier(pool: Pool, run: Run, node: Plan) -> list[EarlierResult]:
    if not node.deps:
        return []
    found = await once_there(lambda: store.outputs_of(pool, run.id, node.deps))
    return [EarlierResult(*record) for record in found]


async def _before(pool: Pool, node: Plan, guidance: Guidance | None) -> Delivered | None:
    """Only what something is said about: without a word on it, another attempt starts afresh."""
    if guidance is None or not (guidance.critique or guidance.instructions) or not guidance.of_attempt:
        return None
    attempt = guidance.of_attempt
    found = await once_there(lambda: reviews.delivered(pool, node.id, attempt))
    return Delivered(*found) if found else None
