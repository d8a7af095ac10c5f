"""Writes the sidecar of a model call, answered or failed, and refuses to write one that is not valid."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.llm.call import Completion, Cost, ModelFailure, Prompt, Record, ToolRound, Usage
from chassis.llm.text import clean
from contracts.sidecar import MAX_PROMPT, PROVIDERS, VERSION, check

CUT = "…"


class InvalidSidecar(ValueError):
    """What we are about to write does not follow the format: a bug of ours."""


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
    """The document, in the strict form. Raises InvalidSidecar, also for a failure that carries no record."""
    record = call.record
    if record is None:
        raise InvalidSidecar("the failure carries no record: it did not come from Models.complete")
    document = {
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
    if errors := check(document, strict=True).errors:
        raise InvalidSidecar("; ".join(errors))
    return document


def truncated(text: str, limit: int = MAX_PROMPT) -> str:
    text = clean(text)
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def _head(record: Record) -> dict[str, Any]:
    provider = record.choice.provider
    return {
        "version": VERSION,
        "provider": provider if provider in PROVIDERS else "other",
        "model": clean(record.model_used),
        "model_used": clean(record.model_used),
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
    return {"estimated": float(cost.amount or 0), "known": cost.known}


def _metadata(record: Record) -> dict[str, Any]:
    """What the format has no field for: our provider's name and the model that was asked for."""
    return {
        "provider": record.choice.provider,
        "model_requested": record.choice.model,
        "simulated": record.simulated,
        "usage_estimated": record.usage.estimated,
    }


def _warnings(record: Record) -> list[str]:
    price = [] if record.cost.known else [f"cost is unknown: {record.cost.note}"]
    return [clean(warning) for warning in (*record.warnings, *price)]


def _errors(call: Completion[Any] | ModelFailure) -> list[dict[str, Any]] | None:
    if isinstance(call, Completion):
        return None
    return [{"code": call.kind, "message": clean(call.message), "retriable": call.retriable}]


def _optional(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _time(moment: datetime) -> str:
    return moment.isoformat()
