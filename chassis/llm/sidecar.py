"""Writes the sidecar of a model call, answered or failed; one that is not valid says so itself, and is counted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.llm.call import Completion, Cost, ModelFailure, Prompt, Record, ToolRound, Usage
from chassis.llm.text import clean, clean_json
from contracts.sidecar import MAX_PROMPT, PROVIDERS, VERSION, check, shortened

log = structlog.get_logger(__name__)

INVALID = Counter("llm_invalid_sidecars_total", "Sidecars of model calls that do not follow their format: bugs of ours")


def sidecar_for(
    call: Completion[Any] | ModelFailure,
    prompt: Prompt,
    *,
    run_id: UUID,
    node_id: UUID,
    retry_index: int = 0,
    request_id: str | None = None,
    inputs: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    tooling: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """The document, in the strict form; should it not be, its `metadata.invalid` says why: the call is paid for."""
    record = call.record
    if record is None:
        raise ValueError("the failure carries no record: it did not come from Models.complete")
    document: dict[str, Any] = clean_json(
        {
            **_head(record),
            "prompts": _prompts(prompt),
            "timestamps": {"started_at": _time(record.started_at), "ended_at": _time(record.ended_at)},
            "run_id": str(run_id),
            "node_id": str(node_id),
            "retry": {"index": retry_index},
            "metadata": {**(metadata or {}), **_metadata(record)},
            **_optional(request_id=request_id, inputs=inputs, tooling=tooling, errors=_errors(call)),
            **_optional(warnings=_warnings(record)),
        }
    )
    if errors := check(document, strict=True).errors:
        document["metadata"] |= invalid(errors)
    return document


def invalid(reasons: Sequence[str]) -> dict[str, list[str]]:
    """Makes it known that a sidecar is not what it should be; for its metadata."""
    INVALID.inc()
    log.error("sidecar.invalid", reasons=reasons)
    return {"invalid": list(reasons)}


def truncated(text: str, limit: int = MAX_PROMPT) -> str:
    return shortened(clean(text), limit)


def _head(record: Record) -> dict[str, Any]:
    provider = record.choice.provider
    return {
        "version": VERSION,
        "provider": provider if provider in PROVIDERS else "other",
        "model": record.model_used,
        "model_used": record.model_used,
        "latency_ms": record.latency_ms,
        "usage": _usage(record.usage),
        "cost": _cost(record.cost),
    }


def _prompts(prompt: Prompt) -> dict[str, Any]:
    """Of the rounds with tools only the latest: those before are in the sidecars of the calls before."""
    messages = _round(prompt.rounds[-1]) if prompt.rounds else None
    return {
        "system": truncated(prompt.system),
        "user": truncated(prompt.user),
        **_optional(messages=messages),
    }


def _round(done: ToolRound) -> list[dict[str, Any]]:
    calls = [{"name": c.name, "arguments": truncated(json.dumps(c.arguments, ensure_ascii=False))} for c in done.calls]
    asked = {"role": "assistant", "content": truncated(done.text), "tool_calls": calls}
    results = zip(done.calls, done.results, strict=True)
    return [asked, *({"role": "tool", "name": c.name, "content": truncated(result)} for c, result in results)]


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _cost(cost: Cost) -> dict[str, Any]:
    amount = float(cost.amount or 0)
    return {"estimated": amount if math.isfinite(amount) else None, "known": cost.known}  # jsonb takes no NaN


def _metadata(record: Record) -> dict[str, Any]:
    """What the format has no field for: our provider's name and the model that was asked for."""
    return {
        "provider": record.choice.provider,
        "model_requested": record.choice.model,
        "simulated": record.simulated,
        "usage_estimated": record.usage.estimated,
        "cost_estimated": record.cost.estimated,
    }


def _warnings(record: Record) -> list[str]:
    price = [] if record.cost.known else [f"cost is unknown: {record.cost.note}"]
    price += [f"cost is an estimate: {record.cost.note}"] if record.cost.estimated else []
    return [*record.warnings, *price]


def _errors(call: Completion[Any] | ModelFailure) -> list[dict[str, Any]] | None:
    if isinstance(call, Completion):
        return None
    return [{"code": call.kind, "message": call.message, "retriable": call.retriable}]


def _optional(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _time(moment: datetime) -> str:
    return moment.isoformat()
