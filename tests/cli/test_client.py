"""Refusals, absences and broken streams of a real HTTP server, as the command line lives through them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from fluidcrew import delivering, knowing
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.sse import Message, messages
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import DIES, KEY, RUN_ID, FakeGateway, event

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def api(gateway: FakeGateway) -> AsyncIterator[Gateway]:
    """Of little patience, for what fails in the end; `patient` is for what succeeds, on any machine."""
    async with Gateway(gateway.url, KEY, patience=0.3) as api:
        yield api


@pytest.fixture
async def patient(gateway: FakeGateway) -> AsyncIterator[Gateway]:
    async with Gateway(gateway.url, KEY, patience=60) as api:
        yield api


async def refused(api: Gateway, path: str = "/runs") -> Halt:
    with pytest.raises(Halt) as halt:
        await api.get(path)
    return halt.value


async def test_a_key_that_is_refused_names_the_variable_to_set(gateway: FakeGateway) -> None:
    async with Gateway(gateway.url, "wrong") as api:
        halt = await refused(api)
    assert halt.code is Exit.REFUSED
    assert "set API_KEY" in str(halt)


async def test_an_api_that_is_not_there_says_how_to_start_it() -> None:
    async with Gateway("http://127.0.0.1:9", KEY) as api:
        halt = await refused(api)
    assert halt.code is Exit.UNREACHABLE
    assert "fluidcrew up" in str(halt)


async def test_something_else_on_the_port_is_recognised(gateway: FakeGateway, api: Gateway) -> None:
    for status in (200, 404, 501):
        gateway.on("GET /runs", (status, b"<html>"))
        assert "is no Fluidcrew" in str(await refused(api))
    gateway.on("GET /runs", (502, b"<html>"))
    assert "is no Fluidcrew" not in str(await refused(api)), "a proxy in front of ours says that, too"


async def test_the_servers_words_are_passed_on(gateway: FakeGateway, api: Gateway) -> None:
    gateway.on("GET /runs", (409, {"detail": "this task has a run already"}))
    halt = await refused(api)
    assert (halt.code, str(halt)) == (Exit.REFUSED, "this task has a run already")


async def test_several_wrong_fields_are_a_line_each_and_one_is_the_line(gateway: FakeGateway, api: Gateway) -> None:
    one = {"type": "missing", "loc": ["body", "task", "plan", 0, "title"], "msg": "Field required"}
    two = {"type": "value_error", "loc": [], "msg": "Value error, node 'b' depends on 'x'"}
    gateway.on("GET /runs", (422, {"detail": [one, two]}), (422, {"detail": [one]}))
    several = await refused(api)
    assert several.more == ("plan[0].title: Field required", "node 'b' depends on 'x'")
    assert str(await refused(api)) == "plan[0].title: Field required"


async def test_a_failure_of_the_server_names_the_request(gateway: FakeGateway, api: Gateway) -> None:
    gateway.on("GET /runs", (500, {"detail": "a bug on our side"}))
    halt = await refused(api)
    assert halt.code is Exit.UNREACHABLE
    assert "its log says why" in str(halt)


async def test_an_owner_that_is_away_for_a_moment_is_waited_for(
    gateway: FakeGateway, api: Gateway, patient: Gateway
) -> None:
    away: tuple[int, Any] = (503, {"detail": "the executor does not answer"})
    gateway.on("GET /runs", away, away, (200, {"items": []}))
    assert await patient.get("/runs") == {"items": []}
    gateway.on("GET /runs", away)
    halt = await refused(api)
    assert halt.code is Exit.UNREACHABLE
    assert "the executor does not answer" in str(halt)


async def test_what_takes_too_long_is_left_alone_with_the_way_to_look_at_it(
    gateway: FakeGateway, api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (delivering, knowing):
        monkeypatch.setattr(module, "PATIENCE", 0)
    gateway.on("GET /previews/p", (200, {"state": "publishing", "version": 2, "task_id": "0123456789"}))
    with pytest.raises(Halt, match=r"version 2 is still publishing .* `fluidcrew previews ls 01234567`") as halt:
        await delivering.published(api, "p")
    assert halt.value.code is Exit.UNREACHABLE
    gateway.on("GET /knowledge/documents/d", (200, {"state": "parsing", "title": "Tides"}))
    with pytest.raises(Halt, match=r"Tides is still parsing .* `fluidcrew knowledge ls`"):
        await knowing.made_searchable(api, "d")


async def test_every_attempt_of_a_post_carries_the_same_idempotency_key(gateway: FakeGateway, patient: Gateway) -> None:
    gateway.on("POST /tasks", (503, {"detail": "not now"}), (201, {"id": "t1"}))
    assert await patient.post("/tasks", {"title": "x"}) == {"id": "t1"}
    keys = {request.headers["idempotency-key"] for request in gateway.requests("/tasks")}
    assert len(gateway.requests("/tasks")) == 2
    assert len(keys) == 1


async def test_an_order_whose_answer_was_cut_off_is_given_again_under_the_same_key(
    gateway: FakeGateway, api: Gateway, patient: Gateway
) -> None:
    gateway.on("POST /tasks", (DIES, None), (DIES, None), (201, {"id": "t1"}))
    assert await patient.post("/tasks", {"title": "x"}) == {"id": "t1"}
    assert len({request.headers["idempotency-key"] for request in gateway.requests("/tasks")}) == 1
    gateway.on("POST /tasks", (DIES, None))
    with pytest.raises(Halt, match="no API answers"):
        await api.post("/tasks", {"title": "x"})


async def test_something_that_speaks_another_protocol_is_recognised() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail at your service\r\n\r\n")
        while await reader.read(1024):
            continue
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with Gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", KEY) as api:
        assert "is no Fluidcrew" in str(await refused(api))
    server.close()


async def test_every_command_takes_a_company_from_its_option_or_the_environment(gateway: FakeGateway, cli: Cli) -> None:
    page = {"items": [], "total": 0}
    gateway.on("GET /companies/acme/runs", (200, page))
    gateway.on("GET /companies/beta/runs", (200, page))
    gateway.on("GET /runs", (200, page))
    gateway.on("GET /providers", (200, {"items": []}))
    for arguments, environ, path in (
        (("runs", "--json"), {}, "/runs"),
        (("runs", "--json", "--company", "acme"), {}, "/companies/acme/runs"),
        (("runs", "--json"), {"FLUIDCREW_COMPANY": "beta"}, "/companies/beta/runs"),
        (("runs", "--json", "--company", "acme"), {"FLUIDCREW_COMPANY": "beta"}, "/companies/acme/runs"),
        (("providers", "--json"), {"FLUIDCREW_COMPANY": "acme"}, "/providers"),
    ):
        ended = await cli(*arguments, FLUIDCREW_URL=gateway.url, **environ)
        assert ended.code == Exit.OK, ended.err
        assert gateway.asked[-1].path.split("?")[0] == path


async def test_streams_and_hints_name_the_company_too(gateway: FakeGateway, cli: Cli) -> None:
    gateway.on("POST /companies/acme/tasks", (202, {"run_id": RUN_ID, "status": "accepted"}))
    ended = await cli("run", "Say hello", "--company", "acme", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.OK, ended.err
    assert f"FLUIDCREW_COMPANY=acme .venv/bin/fluidcrew show {RUN_ID[:8]}" in ended.out
    async with Gateway(gateway.url, KEY, company="acme", patience=0.3) as api:
        with pytest.raises(Halt):
            await anext(api.events("/events/stream", run_id=RUN_ID))
    assert gateway.asked[-1].path.startswith("/companies/acme/events/stream?")


async def test_what_cannot_be_a_company_is_refused_before_anybody_is_asked(gateway: FakeGateway, cli: Cli) -> None:
    ended = await cli("runs", "--company", "../admin", FLUIDCREW_URL=gateway.url)
    assert (ended.code, gateway.asked) == (Exit.SETTINGS, [])
    assert "'../admin' is no id of a company" in ended.err


async def test_a_proxy_is_not_asked_for_loopback(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    gateway.on("GET /runs", (200, {"items": []}))
    async with Gateway(gateway.url, KEY) as api:
        assert await api.get("/runs") == {"items": []}


async def heard(api: Gateway, number: int) -> list[Message]:
    found: list[Message] = []
    async with aclosing(api.events("/events/stream", run_id=RUN_ID)) as stream:
        async with asyncio.timeout(60):
            async for message in stream:
                found.append(message)
                if len(found) == number:
                    break
    return found


async def test_a_stream_that_breaks_in_the_middle_of_an_event_goes_on_without_gap_or_repeat(
    gateway: FakeGateway, patient: Gateway
) -> None:
    gateway.facts = [event("NODE_STARTED", n, key=f"n{n}") for n in range(1, 8)]
    gateway.break_after = 2
    found = await heard(patient, 7)
    assert [message.id for message in found] == [f"aaaaaaaa.{n}" for n in range(1, 8)]
    resumed = [request.headers.get("last-event-id") for request in gateway.requests("/events/stream")]
    assert resumed == [None, "aaaaaaaa.2", "aaaaaaaa.4", "aaaaaaaa.6"]


async def test_line_separators_inside_a_text_do_not_cut_an_event(gateway: FakeGateway, patient: Gateway) -> None:
    gateway.facts = [event("NODE_COMPLETED", 1, key="a") | {"message": "one\u2028two\u0085three\x0bfour"}]
    (message,) = await heard(patient, 1)
    assert "one\u2028two\u0085three" in message.data


async def test_a_stream_whose_server_stays_away_ends_with_a_line(gateway: FakeGateway) -> None:
    async with Gateway("http://127.0.0.1:9", KEY, patience=0.3) as api:
        with pytest.raises(Halt, match="no API answers"):
            await heard(api, 1)


async def test_a_stream_that_is_refused_is_not_asked_for_again(gateway: FakeGateway) -> None:
    async with Gateway(gateway.url, "wrong") as api:
        with pytest.raises(Halt, match="refuses the key"):
            await heard(api, 1)
    assert len(gateway.requests("/events/stream")) == 1


async def parsed(*pieces: bytes) -> list[Message]:
    async def given() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [message async for message in messages(given())]


async def test_events_are_read_as_the_standard_says() -> None:
    whole = b": hi\n\nid: 1\nevent: reset\ndata: a\ndata:b\n\nretry: 2000\n\nid:\ndata: x\n\ndata: cut off\n"
    expected = [Message("reset", "a\nb", "1"), Message(retry=2000), Message("message", "x", "")]
    assert await parsed(whole) == expected
    assert await parsed(*(whole[n : n + 1] for n in range(len(whole)))) == expected
    assert await parsed(whole.replace(b"\n", b"\r\n")) == expected
