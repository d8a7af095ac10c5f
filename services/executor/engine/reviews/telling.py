"""Completes facts about results of earlier turns, and about the costs of a run: nobody keeps those in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import asyncpg

from chassis.postgres import Connection
from contracts.message import Event
from contracts.run_facts import NodeCompleted, RunCompleted
from services.executor.domain.facts import NOTHING, Spend, known
from services.executor.engine.change import Change
from services.executor.engine.reviews import store


async def complete(connection: Connection, changes: Collection[Change]) -> None:
    """Before anything of the turn is written."""
    left_open = [change for change in changes if change.draft.incomplete]
    if not left_open:
        return
    facts = [change.draft.messages[at] for change in left_open for at in change.draft.incomplete]
    results = await store.results(connection, [fact.node_id for fact in facts if isinstance(fact, NodeCompleted)])
    costs = await store.spent(connection, [fact.run_id for fact in facts if isinstance(fact, RunCompleted)])
    for change in left_open:
        for at in change.draft.incomplete:
            change.draft.messages[at] = _completed(change.draft.messages[at], results, costs, _of_this_turn(change))


def _completed(fact: Event, results: Mapping[UUID, asyncpg.Record], costs: Mapping[UUID, Spend], now: Spend) -> Event:
    if isinstance(fact, NodeCompleted):
        return _with_result(fact, results[fact.node_id])
    if isinstance(fact, RunCompleted):
        spend = costs[fact.run_id] + now
        counts = {"estimated_calls": spend.estimated, "unpriced_calls": spend.unpriced}
        return fact.model_copy(update={"cost_usd": known(spend.cost, spend.unpriced), "tokens": spend.tokens, **counts})
    raise TypeError(f"nothing is known that completes a {type(fact).__name__}")


def _with_result(fact: NodeCompleted, row: asyncpg.Record) -> NodeCompleted:
    told = {name: row[name] for name in ("checksum", "output_preview", "model", "duration_ms", "requested")}
    warnings = [*row["warnings"], *fact.warnings]
    return fact.model_copy(update=told | {"usage": Spend.of(row).usage(), "warnings": warnings})


def _of_this_turn(change: Change) -> Spend:
    """It is not written yet."""
    return sum((closed.effort.spend for closed in [*change.draft.closed, *change.late]), start=NOTHING)
