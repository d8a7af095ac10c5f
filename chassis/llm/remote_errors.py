"""Turns what pydantic-ai and the SDKs raise into a ModelFailure that says what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)

from chassis.llm.call import FailureKind, ModelFailure
from chassis.llm.reset_times import reset_in
from chassis.llm.text import clean

#: What a call may end with; anything else is a bug and stays one. JSON and pydantic errors are ValueErrors.
EXPECTED = (ModelAPIError, UnexpectedModelBehavior, httpx2.TransportError, httpx2.InvalidURL, ValueError)

TOO_MANY_REQUESTS = 429

BY_STATUS: Mapping[int, FailureKind] = {
    401: "unauthorized",
    402: "quota_exceeded",
    403: "unauthorized",
    408: "timeout",
    409: "server_error",
    425: "server_error",
    TOO_MANY_REQUESTS: "rate_limited",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider is, and which variables say so."""

    provider: str
    endpoint: str
    url_variable: str
    key_variable: str | None


def failure_from(error: Exception, address: Address, model: str) -> ModelFailure:
    if isinstance(error, ContentFilterError):
        return ModelFailure(
            "filtered", f"{address.provider} filtered the answer: reword the prompt or use another model"
        )
    if isinstance(error, ModelHTTPError):
        return _from_status(error, address, model)
    if isinstance(error, ModelConnectionError):
        return _from_connection(error, address)
    if isinstance(error, httpx2.TransportError):
        return ModelFailure("connection", f"the connection to {_where(address)} broke: {_short(error)}")
    if isinstance(error, httpx2.InvalidURL):
        return ModelFailure("refused", f"{address.url_variable} is no usable URL: {_short(error)}")
    if isinstance(error, ModelAPIError) and not _undecodable(error):
        return _from_category(error, address)
    problem = f"the answer of {_where(address)} could not be read: {_short(error)}"
    return ModelFailure("malformed", problem, problems=(problem,))


def _from_status(error: ModelHTTPError, address: Address, model: str) -> ModelFailure:
    kind = _kind(error)
    message = f"{_where(address)} answered {error.status_code}: {_advice(error, kind, address, model)}"
    return ModelFailure(kind, message, retry_after=_retry_after(error), status=error.status_code)


def _retry_after(error: ModelHTTPError) -> float | None:
    """pydantic-ai reads whole seconds and dates; some servers send fractions, or only when their limits are reset."""
    if error.retry_after is not None:
        return max(error.retry_after, 0.0)
    headers = error.headers or {}
    if fraction := re.fullmatch(r"\d+\.\d+", headers.get("retry-after", "").strip()):
        return float(fraction[0])
    return reset_in(headers, datetime.now(UTC)) if error.status_code == TOO_MANY_REQUESTS else None


def _kind(error: ModelHTTPError) -> FailureKind:
    if isinstance(error, ModelQuotaExceededError):
        return "quota_exceeded"
    return "server_error" if error.status_code >= 500 else BY_STATUS.get(error.status_code, "refused")


def _advice(error: ModelHTTPError, kind: FailureKind, address: Address, model: str) -> str:
    if kind == "unauthorized":  # its text may quote the key
        return f"check {address.key_variable or address.url_variable}, and that it may use {model}"
    if isinstance(error, ModelContextWindowExceededError):
        return f"the prompt is too long for {model}: shorten it or choose a model with a larger context"
    if error.status_code == 404:
        pull = f" (`ollama pull {model}`)" if address.provider == "ollama" else ""
        return f"it has no model {model!r}{pull}, or {address.url_variable} is not its address"
    said = _said(error)
    if kind == "quota_exceeded":
        return f"the account has no credit left; top it up or use another provider ({said})"
    if kind == "rate_limited":
        return f"too many requests or tokens for now ({said})"
    return said if kind != "refused" else f"it does not accept the request for {model} ({said})"


def _from_connection(error: ModelConnectionError, address: Address) -> ModelFailure:
    if isinstance(error, ModelTimeoutError):
        # Only connecting has a timeout of the SDK's; the others are Patience's. Nothing was sent.
        return ModelFailure("connection", f"no connection to {_where(address)} in time: check {address.url_variable}")
    if error.phase == "connect":
        start = "start it with `ollama serve`, or " if address.provider == "ollama" else ""
        return ModelFailure("connection", f"nothing answers for {_where(address)}: {start}check {address.url_variable}")
    return ModelFailure("connection", f"the connection to {_where(address)} broke: {_short(error)}")


def _from_category(error: ModelAPIError, address: Address) -> ModelFailure:
    """An error inside an open stream has no HTTP status of its own."""
    if "finish_reason" in error.message:
        return ModelFailure("connection", f"the answer of {_where(address)} ended before it was complete")
    kind: FailureKind = "server_error"
    if isinstance(error, ModelRateLimitError):
        kind = "rate_limited"
    elif isinstance(error, ModelQuotaExceededError):
        kind = "quota_exceeded"
    elif isinstance(error, ModelRequestRejectedError):
        kind = "refused"
    return ModelFailure(kind, f"{_where(address)} failed: {_said(error)}", retry_after=error.retry_after)


def _undecodable(error: ModelAPIError) -> bool:
    return isinstance(error.__cause__, ValueError) or error.message.startswith("Expected a JSON response")


def _where(address: Address) -> str:
    return f"{address.provider} at {address.endpoint}"


def _said(error: ModelAPIError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return _short(body or error.message)


def _short(what: object) -> str:
    text = clean(" ".join(str(what).split()))
    return text if len(text) <= 300 else f"{text[:299]}…"
