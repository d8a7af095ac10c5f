"""The envelope survives the trip through headers; headers of others are refused with a reason."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import run_facts
from contracts.envelope import Envelope
from contracts.errors import Rejection
from contracts.refs import BlobRef

ascii_ids = st.from_regex(r"[A-Za-z0-9_-]{0,40}", fullmatch=True)


@given(ascii_ids, ascii_ids, st.integers(min_value=0, max_value=2**40), st.booleans())
def test_headers_carry_the_whole_envelope(request_id: str, correlation: str, sequence: int, large: bool) -> None:
    fact = run_facts.RunCanceled(run_id=uuid4(), title="t")
    claim = BlobRef(key="default/x", sha256="0" * 64, size=70_000) if large else None
    sent = Envelope.of(
        fact,
        id=uuid4(),
        source="executor",
        sequence=sequence,
        request_id=request_id,
        correlation_id=correlation,
        claim=claim,
    )
    assert Envelope.from_headers(sent.headers()) == sent
    assert sent.headers()["Nats-Msg-Id"] == sent.headers()["ce-id"]


def test_header_names_are_read_whatever_their_case() -> None:
    sent = Envelope.of(run_facts.RunCanceled(run_id=uuid4(), title="t"), id=uuid4(), source="executor")
    assert Envelope.from_headers({k.upper(): v for k, v in sent.headers().items()}) == sent


@pytest.mark.parametrize("headers", [None, {}, {"ce-id": "7"}, {"ce-id": str(uuid4())}, {"x-claim": "{"}])
def test_headers_that_are_not_ours_are_refused(headers: dict[str, str] | None) -> None:
    with pytest.raises(Rejection, match="CloudEvents"):
        Envelope.from_headers(headers)
