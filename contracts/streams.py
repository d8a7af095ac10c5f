"""Which streams exist, who reads them, and how: our own frozen models, applied by the keeper, verified by services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from contracts import feedback, planner, run_facts
from contracts.message import Message
from contracts.refs import Value
from contracts.subjects import Kind, story_filter

StreamName = Literal["COMMANDS", "EVENTS", "DLQ"]

MIB = 1024 * 1024
DAY = 86_400


class StreamSpec(Value):
    """File storage, limits retention, `discard=new`: a full stream refuses, and the outbox holds what it refused.

    `soft_age` and `soft_bytes` are the keeper's: beyond them it purges what every durable consumer has passed.
    Times in seconds, sizes in bytes.
    """

    name: StreamName
    subjects: tuple[str, ...]
    max_bytes: int
    soft_bytes: int
    soft_age: int
    max_msg_size: int = 128 * 1024
    duplicate_window: int = 600


class ConsumerSpec(Value):
    """A durable pull consumer. `max_deliver` is endless: attempts are counted in the database, not in JetStream.

    `ack_wait` is how long the facts in the hands of a dead process are kept from the next one; handlers take milliseconds,
    and the inbox absorbs a redelivery to one that is slow.
    """

    stream: StreamName
    durable: str  # `<service>-<what>`
    filter_subjects: tuple[str, ...]
    ack_wait: int = 10
    max_ack_pending: int = 64

    @property
    def service(self) -> str:
        return self.durable.split("-", 1)[0]


STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(name="COMMANDS", subjects=("cmd.>",), max_bytes=512 * MIB, soft_bytes=128 * MIB, soft_age=7 * DAY),
    StreamSpec(name="EVENTS", subjects=("evt.>",), max_bytes=1024 * MIB, soft_bytes=256 * MIB, soft_age=7 * DAY),
    StreamSpec(name="DLQ", subjects=("dlq.>",), max_bytes=128 * MIB, soft_bytes=64 * MIB, soft_age=30 * DAY),
)


def _facts(*facts: type[Message]) -> tuple[str, ...]:
    return tuple(fact.pattern() for fact in facts)


TIMELINE = ConsumerSpec(
    stream="EVENTS", durable="gateway-timeline", filter_subjects=("evt.>",), max_ack_pending=4096, ack_wait=5
)
PLANNER_RUNS = ConsumerSpec(
    stream="EVENTS",
    durable="planner-runs",
    filter_subjects=_facts(
        run_facts.RunStarted,
        run_facts.RunPaused,
        run_facts.RunResumed,
        run_facts.RunCompleted,
        run_facts.RunFailed,
        run_facts.RunCanceled,
    ),
)

FEEDBACK_RESULTS = ConsumerSpec(
    stream="EVENTS", durable="feedback-results", filter_subjects=_facts(run_facts.NodeReviewing), max_ack_pending=256
)
EXECUTOR_VERDICTS = ConsumerSpec(
    stream="EVENTS", durable="executor-verdicts", filter_subjects=_facts(feedback.VerdictGiven), max_ack_pending=256
)
PUBLISHER_RESULTS = ConsumerSpec(
    stream="EVENTS",
    durable="publisher-results",
    filter_subjects=_facts(run_facts.NodeCompleted, run_facts.NodeReused),
    max_ack_pending=256,
)
PUBLISHER_TASKS = ConsumerSpec(
    stream="EVENTS", durable="publisher-tasks", filter_subjects=_facts(planner.TaskWasDeleted)
)

CONSUMERS: tuple[ConsumerSpec, ...] = (
    *(TIMELINE, PLANNER_RUNS, FEEDBACK_RESULTS, EXECUTOR_VERDICTS),
    *(PUBLISHER_RESULTS, PUBLISHER_TASKS),
)


STREAM_OF: Mapping[Kind, StreamName] = {Kind.COMMAND: "COMMANDS", Kind.EVENT: "EVENTS", Kind.DEAD_LETTER: "DLQ"}


def stream_of(kind: Kind) -> StreamName:
    return STREAM_OF[kind]


def owned_facts(owner: str) -> str:
    return story_filter(Kind.EVENT, owner=owner)
