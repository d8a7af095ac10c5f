"""Who asks, and in which story: the ids that travel in headers and are bound to every log line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from opentelemetry import propagate

from contracts.envelope import Envelope

HEADER = {
    "request_id": "x-request-id",
    "actor": "x-actor",
    "role": "x-actor-role",
    "correlation_id": "x-correlation-id",
    "causation_id": "x-causation-id",
    "traceparent": "traceparent",
}


def current_traceparent() -> str:
    """The W3C header of the span this code runs in, or an empty string outside any."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


@dataclass(frozen=True, slots=True)
class Context:
    """All fields may be empty. `actor` is an id, never a secret."""

    request_id: str = ""
    actor: str = ""
    role: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""

    def headers(self) -> dict[str, str]:
        values = asdict(self)
        values["traceparent"] = current_traceparent() or self.traceparent
        return {HEADER[k]: v for k, v in values.items() if v}

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Context:
        """From a row that another release may have written: what this one does not know is left out."""
        return cls(**{k: v for k, v in stored.items() if k in HEADER})

    @classmethod
    def from_headers(cls, headers: Mapping[str, str] | None) -> Context:
        lowered = {k.lower(): v for k, v in (headers or {}).items()}
        return cls(**{k: lowered[h] for k, h in HEADER.items() if h in lowered})

    @classmethod
    def from_envelope(cls, envelope: Envelope) -> Context:
        """The context of what a handled message causes."""
        return cls(
            request_id=envelope.request_id,
            correlation_id=envelope.correlation_id or str(envelope.id),
            causation_id=str(envelope.id),
            traceparent=envelope.traceparent,
        )
