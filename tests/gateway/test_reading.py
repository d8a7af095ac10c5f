"""Messages of the bus as facts: what is read in them at once, what is left to the Envelope, and what is no fact."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.arrivals import Arrival
from chassis.wire import head_of, header_block
from contracts.envelope import Envelope
from contracts.errors import Rejection
from contracts.executor import Usage
from contracts.refs import BlobRef
from contracts.run_facts import NodeCompleted
from services.gateway.domain.facts import tombstone
from services.gateway.telling.reading import Stamp, place_of, read_fact


def test_a_message_becomes_the_fact_that_people_know() -> None:
    run_id, node_id = uuid4(), uuid4()
    completed = NodeCompleted(
        run_id=run_id,
        node_id=node_id,
        key="a",
        attempt=1,
        checksum=None,
        output_preview="ü",
        model=None,
        usage=Usage(),
        duration_ms=1,
    )
    envelope = Envelope.of(completed, id=uuid4(), source="executor", sequence=4, request_id="r")
    fact = read_fact(completed.subject, Stamp.of(envelope), completed.model_dump_json().encode())
    assert (fact.level, fact.run_id, fact.node_id, fact.task_id) == ("NODE_COMPLETED", run_id, node_id, None)
    assert (fact.owner, fact.story, fact.sequence, fact.request_id) == ("executor", str(run_id), 4, "r")
    assert '"output_preview":"ü"' in fact.message
    assert tombstone(fact, "why", UUID(int=1)).sequence == 4


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'"text"'])
def test_what_is_no_object_is_no_fact(body: bytes) -> None:
    envelope = Envelope(id=uuid4(), type="x", source="executor", story="s", sequence=1)
    with pytest.raises(Rejection):
        read_fact("evt.default.executor.node.done.s", Stamp.of(envelope), body)


def test_a_fact_without_sequence_or_with_a_strange_subject_is_refused() -> None:
    stamp = Stamp(uuid4(), 0, datetime.now(UTC), "")
    with pytest.raises(Rejection):
        read_fact("evt.default.executor.node.done.s", stamp, b"{}")
    with pytest.raises(Rejection):
        read_fact("evt.default.stranger.node.done.s", stamp._replace(sequence=1), b"{}")


def written(envelope: Envelope) -> bytes:
    """The header lines as our relay writes them."""
    head = head_of(envelope.headers())
    return header_block("EVENTS", envelope.id, None, envelope.story, envelope.sequence, head)


def an_envelope(**fields: Any) -> Envelope:
    return Envelope(id=uuid4(), type="x", source="executor", **({"story": "s", "sequence": 1} | fields))


@given(
    sequence=st.integers(1, 10**18 - 1),
    at=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-45))])),
    request_id=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip),
)
def test_a_stamp_read_at_once_says_what_the_envelope_says(sequence: int, at: datetime, request_id: str) -> None:
    envelope = an_envelope(sequence=sequence, time=at, request_id=request_id)
    read = Arrival("", "", written(envelope), b"").headers()
    assert Stamp.at_once(written(envelope)) == Stamp.of(Envelope.from_headers(read))


@pytest.mark.parametrize(
    "line",
    [
        b"ce-id: no uuid",
        b"ce-sequence: 0",
        b"ce-sequence: -1",
        b"ce-sequence: 99999999999999999999",
        b"ce-sequence: 1_0",
        b"ce-time: 2026-11-21T08:00:00",
        b"ce-time: yesterday",
        *(b"%b:" % name for name in (b"ce-id", b"ce-sequence", b"ce-time", b"ce-type", b"ce-source", b"ce-subject")),
    ],
    ids=bytes.decode,
)
def test_header_lines_with_an_oddity_are_left_to_the_envelope(line: bytes) -> None:
    plain, name = written(an_envelope()), line.partition(b":")[0]
    assert Stamp.at_once(plain) is not None
    odd = line + b"\r\n" if not line.endswith(b":") else b""
    assert Stamp.at_once(re.sub(name + rb": [^\r]*\r\n", odd, plain)) is None


def test_other_lines_than_our_relay_writes_are_left_to_the_envelope() -> None:
    claim = BlobRef(key="default/x", sha256="0" * 64, size=1, content_type="application/json")
    assert Stamp.at_once(written(an_envelope(claim=claim))) is None
    assert Stamp.at_once(written(an_envelope()).replace(b"\r\n\r\n", b"\r\nce-time: now\r\n\r\n")) is None
    by_name = (f"{name}: {value}\r\n" for name, value in an_envelope().headers().items())
    assert Stamp.at_once(b"NATS/1.0\r\n" + "".join(by_name).encode() + b"\r\n") is None


@pytest.mark.parametrize(
    ("subject", "run_id", "task_id"),
    [
        ("executor.node.failed", True, False),
        ("feedback.verdict.given", True, False),
        ("planner.plan.drafted", False, True),
        ("rag.document.ingested", False, False),
    ],
)
def test_the_place_of_an_unreadable_fact_is_in_the_story_that_its_subject_names(
    subject: str, run_id: bool, task_id: bool
) -> None:
    story = uuid4()
    envelope = Envelope(id=uuid4(), type="t", source="s", story="s", sequence=7, request_id="r\x00")
    place = place_of(f"evt.acme.{subject}.{story}", envelope.headers(), "\x00 \ud800 broken " + "x" * 9000, uuid4())
    assert place is not None
    named = (place.company_id, place.owner, place.story, place.sequence)
    assert named == ("acme", subject.partition(".")[0], str(story), 7)
    assert (place.run_id, place.task_id) == (story if run_id else None, story if task_id else None)
    assert (place.request_id, place.message.count("\\u"), len(place.message) < 600) == ("", 0, True), (
        "Postgres takes it"
    )


def test_what_does_not_say_where_it_belongs_has_no_place() -> None:
    headers = Envelope(id=uuid4(), type="t", source="s", story="s", sequence=1).headers()
    assert place_of("evt.acme.stranger.run.started.x", headers, "", uuid4()) is None
    assert place_of("evt.acme.executor.run.started.x", {}, "", uuid4()) is None
    assert place_of("evt.acme.executor.run.started.x", headers | {"ce-sequence": "0"}, "", uuid4()) is None
