"""The envelope of a message: CloudEvents attributes and correlation ids, as NATS headers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field, ValidationError

from contracts import subjects
from contracts.errors import Code, Failure, Rejection
from contracts.message import Message
from contracts.refs import BlobRef, Value

CLAIM_CHECK_BYTES = 64 * 1024  # a larger body travels as a BlobRef
MAX_WIRE_BYTES = 96 * 1024  # body and headers; the servers' limit of 1 MiB closes the connection
REPLY_LIMIT_BYTES = 512 * 1024

HEADERS = {
    "id": "ce-id",
    "type": "ce-type",
    "source": "ce-source",
    "time": "ce-time",
    "story": "ce-subject",
    "sequence": "ce-sequence",
    "correlation_id": "x-correlation-id",
    "causation_id": "x-causation-id",
    "request_id": "x-request-id",
    "replay_of": "x-replay-of",
    "traceparent": "traceparent",
}
TEXTS = {name: header for name, header in HEADERS.items() if name not in ("id", "time", "sequence")}


class Envelope(Value):
    """Who said it, when, about which story, and as which of the story's facts."""

    id: UUID
    type: str
    source: str  # the emitting service
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    story: str
    sequence: int = Field(default=0, ge=0, lt=2**63)  # counts every fact per owner and story, from 1; 0 for commands
    correlation_id: str = ""
    causation_id: str = ""
    request_id: str = ""
    replay_of: str = ""
    traceparent: str = ""
    claim: BlobRef | None = None  # where the body lies when it was too large to travel

    def headers(self) -> dict[str, str]:
        id = str(self.id)
        out = {"ce-id": id, "ce-time": self.time.isoformat(), "ce-sequence": str(self.sequence)}
        out |= {header: value for name, header in TEXTS.items() if (value := getattr(self, name))}
        out |= {"Nats-Msg-Id": id, "ce-specversion": "1.0", "content-type": "application/json"}
        if self.claim is not None:
            out["x-claim"] = self.claim.model_dump_json()
        return out

    @classmethod
    def from_headers(cls, headers: Mapping[str, str] | None) -> Envelope:
        """Raises Rejection(invalid) when the headers are not ours."""
        lowered = {k.lower(): v for k, v in (headers or {}).items()}
        fields: dict[str, Any] = {k: lowered[h] for k, h in HEADERS.items() if h in lowered}
        try:
            if "x-claim" in lowered:
                fields["claim"] = BlobRef.model_validate_json(lowered["x-claim"])
            return cls.model_validate(fields)
        except ValidationError as error:
            raise Rejection(Code.INVALID, f"the message's headers are not CloudEvents of ours: {error}") from error

    @classmethod
    def of(cls, message: Message, *, id: UUID, source: str, **rest: Any) -> Envelope:
        return cls(id=id, type=message.type_name(), source=source, story=message.story_id, **rest)


class Reply(Value):
    """What answers a request: exactly one of `answer` and `failure`. Large answers come as `claim`.

    `replayed` is true when the order had been carried out before, and this is what was answered then.
    """

    answer: Any = None
    failure: Failure | None = None
    claim: BlobRef | None = None
    replayed: bool | None = None


def owner_of(subject: str) -> str:
    return subjects.parse(subject).owner
