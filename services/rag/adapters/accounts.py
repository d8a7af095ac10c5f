"""What a call for a question's vector is written down as, in the books of the attempt that asks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chassis.llm.call import Completion, Cost, ModelChoice, ModelFailure, Prompt, Record, Usage, estimated_tokens
from chassis.llm.exchange import at_most
from chassis.llm.sidecar import sidecar_for
from contracts.budgets import Purchase, Took
from contracts.executor import Usage as Books
from contracts.knowledge import Embedder
from contracts.retrievals import SearchKnowledge
from contracts.tool import ToolContext

ROLE = "embedder"
LOST = "nobody said what became of the call: whoever made it is gone"
CUT_OFF = "the connection broke before the answer was complete"


def purchase_of(place: ToolContext, embedder: Embedder, texts: Sequence[str], most: Cost) -> Purchase:
    """Before the call leaves: should nobody ever say more of it, it may have cost so much."""
    usage = Usage(estimated_tokens(sum(map(len, texts))), estimated=True)
    return Purchase(context=place, at_most=took(place, embedder, texts, usage, at_most(most, LOST), 0, LOST))


def took(
    place: ToolContext,
    embedder: Embedder,
    texts: Sequence[str],
    usage: Usage,
    cost: Cost,
    latency_ms: int,
    trouble: str | None = None,
) -> Took:
    """Of a call that ends now. `trouble`: it brought no vector."""
    now = datetime.now(UTC)
    record = Record(
        choice=ModelChoice(embedder.provider, embedder.model),
        model_used=embedder.model,
        started_at=now - timedelta(milliseconds=latency_ms),
        ended_at=now,
        latency_ms=latency_ms,
        usage=usage,
        cost=cost,
        warnings=("tokens are estimated from what was sent",) if usage.estimated else (),
    )
    sidecar = sidecar_for(
        _call(record, trouble),
        Prompt("", "\n".join(texts)),
        run_id=place.run_id,
        node_id=place.node_id,
        retry_index=place.attempt - 1,
        metadata={"role": ROLE, "effect": place.effect},
        tooling=[{"name": SearchKnowledge.name()}],
    )
    amount = None if cost.amount is None else format(cost.amount.normalize() + 0, "f")
    counts = {"requests": 1, "estimated_calls": int(cost.estimated), "unpriced_calls": int(not cost.known)}
    return Took(usage=Books(prompt_tokens=usage.prompt_tokens, cost_usd=amount, **counts), sidecar=sidecar)


def _call(record: Record, trouble: str | None) -> Completion[None] | ModelFailure:
    if trouble is None:
        return Completion("", record)
    failure = ModelFailure("connection", trouble)
    failure.record = record
    return failure
