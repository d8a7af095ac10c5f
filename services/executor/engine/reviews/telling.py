"""Completes facts about results of earlier turns, and about the costs of a run: nobody keeps those in memory."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from chassis.postgres import Connection
from contracts.run_facts import NodeCompleted, NodeReviewing, RunCompleted
from services.executor.domain.facts import NOTHING, Spend, known
from services.executor.engine.change import Change
from services.executor.engine.reviews import store


async def complete(connection: Connection, changes: Collection[Change]) -> None:
    """Before anything of the turn is written."""
    left_open = [change for change in changes if change.draft.incomplete]
    if not left_open:
        return
    facts = [change.draft.messages[at] for change in left_open for at in change.draft.incomplete]
    told = [fact for fact in facts if isinstance(fact, NodeCompleted | NodeReviewing)]
    old, new = [f.node_id for f in told if not _is_new(f)], [f.node_id for f in told if _is_new(f)]
    results = await store.results(connection, old) if old else {}
    bought = await store.bought(connection, new) if new else {}
    ended = [fact.run_id for fact in facts if isinstance(fact, RunCompleted)]
    costs = await store.spent(connection, ended) if ended else {}
    for change in left_open:
        for at in change.draft.incomplete:
            fact = change.draft.messages[at]
            if isinstance(fact, RunCompleted):
                change.draft.messages[at] = _with_costs(fact, costs[fact.run_id] + _of_this_turn(change))
            elif isinstance(fact, NodeCompleted | NodeReviewing) and _is_new(fact):
                change.draft.messages[at] = _with_purchases(fact, bought.get((fact.node_id, fact.attempt), NOTHING))
            elif isinstance(fact, NodeCompleted):
                change.draft.messages[at] = _with_result(fact, results[fact.node_id])
            else:
                raise TypeError(f"nothing is known that completes a {type(fact).__name__}")


def _is_new(fact: NodeCompleted | NodeReviewing) -> bool:
    """Its result came in with this turn, and not with an earlier one: it is known how long that took."""
    return fact.duration_ms is not None


def _with_costs(fact: RunCompleted, spend: Spend) -> RunCompleted:
    counts = {"estimated_calls": spend.estimated, "unpriced_calls": spend.unpriced}
    return fact.model_copy(update={"cost_usd": known(spend.cost, spend.unpriced), "tokens": spend.tokens, **counts})


def _with_purchases(fact: NodeCompleted | NodeReviewing, bought: Spend) -> NodeCompleted | NodeReviewing:
    return fact.model_copy(update={"usage": (Spend.told(fact.usage) + bought).usage()})


def _with_result(fact: NodeCompleted, row: asyncpg.Record) -> NodeCompleted:
    told = {name: row[name] for name in ("checksum", "output_preview", "model", "duration_ms", "requested")}
    warnings = [*row["warnings"], *fact.warnings]
    return fact.model_copy(update=told | {"usage": Spend.of(row).usage(), "warnings": warnings})


def _of_this_turn(change: Change) -> Spend:
    """It is not written yet."""
    return sum((closed.effort.spend for closed in [*change.draft.closed, *change.late]), start=NOTHING)
