"""Files as they arrive: in pieces of any size, in forms of other people's making."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterable
from functools import partial

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from chassis.testing.clock import Clock
from contracts.errors import Code, Rejection, RetryLater
from services.gateway.bodies import Arriving
from services.gateway.multipart import base_name
from services.gateway.uploads import Upload, Uploads

LIMIT = 100_000


def arriving(pieces: Iterable[bytes], content_type: str, *, whole: bool = True) -> Request:
    """A request of which the server hears piece by piece."""
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b""} if whole else {"type": "http.disconnect"})
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting)

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}, receive)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


async def received(request: Request, uploads: Uploads | None = None) -> tuple[Upload, bytes]:
    async with (uploads or Uploads(None, 1)).receive(request, limit=LIMIT) as upload:  # type: ignore[arg-type]
        return upload, upload.file.read()


def refused(request: Request) -> Code | None:
    try:
        asyncio.run(received(request))
    except Rejection as refusal:
        return refusal.failure.code
    return None


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=5_000) | st.sampled_from([b"\r\n--x", b"--x--\r\n", b"\r\n" * 50]),
    sizes=st.lists(st.integers(0, 200), max_size=40),
    name=st.sampled_from(["site.zip", "été 旅.zip", 'quo"te.zip', "C:\\site\\a.zip"]),
)
def test_a_file_comes_out_of_a_form_as_it_was_sent(data: bytes, sizes: list[int], name: str) -> None:
    form = httpx.Request("POST", "http://x", data={"entry": "å.html"}, files={"file": (name, data, "application/zip")})
    request = arriving(cut(form.read(), sizes), form.headers["content-type"])
    upload, bytes_read = asyncio.run(received(request))
    assert bytes_read == data
    assert (upload.size, upload.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (upload.type, upload.fields) == ("application/zip", {"entry": "å.html"})
    assert upload.name == {'quo"te.zip': "quo%22te.zip", "C:\\site\\a.zip": "a.zip"}.get(name, name)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(0, 60), max_size=10))
def test_what_is_no_form_is_refused_and_nothing_else_happens(data: bytes, sizes: list[int]) -> None:
    request = arriving(cut(b"--x\r\n" + data, sizes), "multipart/form-data; boundary=x")
    assert refused(request) in (None, Code.INVALID)


@pytest.mark.parametrize("content_type", ["application/zip", "multipart/form-data; boundary=x"])
async def test_a_file_over_the_limit_is_refused_before_the_rest_is_read(content_type: str) -> None:
    opening = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def endless() -> Iterable[bytes]:
        yield opening
        for _ in range(10):
            yield b"\0" * 50_000
        raise AssertionError("nobody had to read so much")

    request = arriving([], content_type)
    pieces = iter(endless())

    async def receive() -> Message:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    request._receive = receive
    with pytest.raises(Rejection) as refusal:
        await received(request)
    assert refusal.value.failure.code is Code.TOO_LARGE


async def test_a_form_that_is_all_around_its_file_is_refused() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\nv\r\n'
    fields = b"".join(part % n for n in range(11))
    preamble = b"--x\r\nX-Long: " + b"a" * 4_000 + b"\r\n\r\n\r\n"
    for body in (fields, part % 1 * 2, part.replace(b"v", b"v" * 5_000) % 1, preamble * 30):
        with pytest.raises(Rejection) as refusal:
            await received(arriving([body, b"--x--\r\n"], "multipart/form-data; boundary=x"))
        assert refusal.value.failure.code is Code.INVALID


async def test_a_connection_that_ends_too_early_leaves_room_for_the_next() -> None:
    uploads = Uploads(None, 1)  # type: ignore[arg-type]
    with pytest.raises(Rejection, match="ended before the file did"):
        await received(arriving([b"PK"], "application/zip", whole=False), uploads)
    async with uploads.receive(arriving([b"PK"], "application/zip"), limit=LIMIT):
        with pytest.raises(RetryLater):
            await received(arriving([b"PK"], "application/zip"), uploads)
    assert uploads.under_way == 0


async def given_up(body: Arriving) -> str:
    """What its sender is told."""
    request, uploads = arriving([], "application/zip"), Uploads(None, 1)  # type: ignore[arg-type]
    request._receive = body
    with pytest.raises(Rejection) as refusal:
        await received(request, uploads)
    assert refusal.value.failure.code is Code.REQUEST_TIMEOUT
    assert uploads.under_way == 0
    return str(refusal.value)


async def test_a_body_that_pauses_is_said_to_pause_however_slow_this_machine_is_itself(clock: Clock) -> None:
    async def receive() -> Message:
        if taken:
            await asyncio.Event().wait()
        taken.append(b"x")
        clock.leap(60.0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    taken: list[bytes] = []
    body = Arriving(receive, 0.2)
    await body()
    clock.leap(60.0)
    assert "after 1 bytes, for nothing came for 0.2 s" in await given_up(body)


async def test_a_body_that_trickles_is_given_up_although_it_never_pauses(clock: Clock) -> None:
    async def receive() -> Message:
        clock.leap(1.0)
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    assert "after 81,000 bytes, for it comes slower than 4,096 bytes a second" in await given_up(Arriving(receive, 30))


async def test_a_body_that_comes_as_fast_as_is_asked_is_read_to_its_end(clock: Clock) -> None:
    pieces = [b"x" * 4_100] * 20

    async def receive() -> Message:
        clock.leap(1.0)
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    request = arriving([], "application/zip")
    request._receive = Arriving(receive, 0.5)
    upload, _ = await received(request)
    assert upload.size == 82_000


async def test_who_has_sent_all_of_it_may_listen_as_long_as_they_like() -> None:
    gone = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.05)
        gone.set()
        return {"type": "http.disconnect"}

    body = Arriving(receive, 0.01)
    assert (await body())["body"] == b"{}"
    assert (await body())["type"] == "http.disconnect"
    assert gone.is_set()


async def test_a_full_disk_is_no_bug_and_leaves_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "r+b", buffering=0))
    uploads = Uploads(None, 1)  # type: ignore[arg-type]
    with pytest.raises(RetryLater, match="no room for a file"):
        await received(arriving([b"PK"], "application/zip"), uploads)
    assert uploads.under_way == 0


def test_a_name_is_one_line_without_folders() -> None:
    assert [base_name(name) for name in ("../../etc/passwd", "a\r\nb.zip", "", "x" * 300)] == [
        *("passwd", "a b.zip", ""),
        "x" * 200,
    ]
