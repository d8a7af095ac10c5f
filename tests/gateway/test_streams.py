"""What a watcher sees: everything once and in order, wherever it resumes, and a clear word when a stream ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts.errors import Code, Rejection
from contracts.executor import GetRun
from contracts.run_facts import NodeToken, RunCompleted, RunStarted
from tests.gateway.builders import a_run, a_run_detail
from tests.gateway.conftest import KEY, Owner, StartGateway, StartOwner
from tests.gateway.sse import Reader, watch


def step(run_id: UUID, n: int) -> RunStarted:
    return RunStarted(run_id=run_id, title=str(n))


def titles(reader: Reader) -> list[str]:
    return [json.loads(json.loads(frame.data)["message"])["title"] for frame in reader.messages]


@pytest.fixture
async def executor(start_owner: StartOwner) -> AsyncIterator[Owner]:
    known: set[UUID] = set()

    def get(request: GetRun) -> object:
        if request.run_id.int == 0:
            raise Rejection(Code.NOT_FOUND, "there is no such run")
        known.add(request.run_id)
        return a_run_detail(a_run(id=request.run_id))

    async with start_owner("executor", {GetRun: get}) as owner:
        yield owner


async def test_a_stream_tells_the_run_from_its_beginning_and_goes_on_live(
    start_gateway: StartGateway, executor: Owner
) -> None:
    run_id, other = uuid4(), uuid4()
    async with start_gateway() as gateway:
        await executor.tell(step(run_id, 1), step(other, 1), request_id="who-asked")
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            assert reader.response.headers["content-type"].startswith("text/event-stream")
            assert reader.response.headers["x-accel-buffering"] == "no"
            await reader.until(lambda r: len(r.messages) == 1)
            await executor.tell(step(run_id, 2), step(other, 2))
            await executor.tell(step(run_id, 3))
            await reader.until(lambda r: len(r.messages) == 3)
            assert titles(reader) == ["1", "2", "3"]
            event = json.loads(reader.messages[0].data)
            assert (event["level"], event["run_id"], event["request_id"]) == ("RUN_STARTED", str(run_id), "who-asked")
            assert event["cursor"] == reader.messages[0].id


async def test_whoever_resumes_at_either_gateway_misses_nothing_and_sees_nothing_twice(
    start_gateway: StartGateway, executor: Owner
) -> None:
    run_id = uuid4()
    async with start_gateway() as one, start_gateway() as two:
        seen: list[str] = []
        last = ""
        for part in range(6):
            await executor.tell(*(step(run_id, part * 10 + n) for n in range(5)))
            async with watch((one, two)[part % 2].client, f"/runs/{run_id}/stream", last) as reader:
                await executor.tell(*(step(run_id, part * 10 + n) for n in range(5, 10)))
                await reader.until(lambda r: len(r.messages) >= 7)
                read = reader.messages[:7]
                seen += [json.loads(json.loads(frame.data)["message"])["title"] for frame in read]
                last = read[-1].id or ""
        async with watch(two.client, f"/runs/{run_id}/stream?last_event_id={last}") as reader:
            await reader.until(lambda r: len(r.messages) == 60 - len(seen))
            seen += titles(reader)
        assert seen == [str(n) for n in range(60)]


async def test_an_unknown_id_resets_the_client_and_tells_the_run_from_its_beginning(
    start_gateway: StartGateway, executor: Owner
) -> None:
    run_id = uuid4()
    async with start_gateway() as gateway:
        await executor.tell(step(run_id, 1), step(run_id, 2))
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until(lambda r: len(r.messages) == 2)
            epoch = (reader.messages[0].id or "").split(".")[0]
        for strange in ("garbage", "ffffffff.1", f"{epoch}.999999", "1"):
            async with watch(gateway.client, f"/events/stream?run_id={run_id}", strange) as reader:
                await reader.until(lambda r: len(r.messages) == 2)
                assert reader.events() == ["reset", "message", "message"], strange
                reload = json.loads(reader.frames[0].data)["reload"]
                assert (await gateway.client.get(reload)).json()["events"][1]["level"] == "RUN_STARTED"


async def test_a_rebuilt_feed_sends_its_watchers_away_to_begin_anew(
    start_gateway: StartGateway, executor: Owner, database: Database
) -> None:
    run_id = uuid4()
    async with start_gateway() as gateway:
        await executor.tell(step(run_id, 1))
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until(lambda r: len(r.messages) == 1)
            connection = await asyncpg.connect(database.url)
            await connection.execute("update gateway.feeds set epoch = 'ffffffff'")
            await connection.close()
            await reader.until_end()
            assert reader.events() == ["message", "reconnect"]
        async with watch(gateway.client, f"/events/stream?run_id={run_id}", reader.messages[0].id or "") as again:
            await again.until(lambda r: len(r.messages) == 1)
            assert again.events() == ["reset", "message"]


async def test_a_gateway_that_stops_says_bye(start_gateway: StartGateway, executor: Owner) -> None:
    run_id = uuid4()
    async with start_gateway() as gateway:
        stopping = watch(gateway.client, f"/events/stream?run_id={run_id}")
        reader = await stopping.__aenter__()
        await gateway.app.drain()
        await reader.until_end()
        assert reader.events() == ["bye"]
        refused = await gateway.client.get(f"/events/stream?run_id={run_id}")
        assert refused.status_code == 503
        assert (await gateway.client.get("/readyz")).status_code == 503
        await stopping.__aexit__(None, None, None)


async def test_a_stream_of_which_nothing_comes_beats(start_gateway: StartGateway, executor: Owner) -> None:
    async with (
        start_gateway(sse_heartbeat=0.05) as gateway,
        watch(gateway.client, f"/events/stream?run_id={uuid4()}") as reader,
    ):
        await reader.until(lambda r: r.comments >= 3)
        assert reader.events() == []


async def test_a_stream_that_has_lived_its_time_asks_to_reconnect(start_gateway: StartGateway, executor: Owner) -> None:
    async with (
        start_gateway(sse_life=0.2) as gateway,
        watch(gateway.client, f"/events/stream?run_id={uuid4()}") as reader,
    ):
        await reader.until_end()
        assert reader.events() == ["reconnect"]


async def test_a_watcher_that_falls_behind_is_cut_off_and_can_resume(
    start_gateway: StartGateway, executor: Owner
) -> None:
    run_id = uuid4()
    async with start_gateway(sse_queue=3) as gateway, start_gateway() as roomy:
        await executor.tell(step(run_id, 0))
        seen: list[str] = []
        last = ""
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until(lambda r: len(r.messages) == 1)
            await executor.tell(*(step(run_id, n) for n in range(1, 101)))
            await reader.until_end()
            assert reader.events()[-1] == "reconnect"
            seen, last = titles(reader), reader.messages[-1].id or ""
        async with watch(roomy.client, f"/events/stream?run_id={run_id}", last) as reader:
            await reader.until(lambda r: len(r.messages) == 101 - len(seen))
            seen += titles(reader)
        assert seen == [str(n) for n in range(101)]


async def test_no_more_streams_than_allowed(start_gateway: StartGateway, executor: Owner) -> None:
    async with start_gateway(sse_streams=1) as gateway:
        url = f"/events/stream?run_id={uuid4()}"
        async with watch(gateway.client, url):
            refused = await gateway.client.get(url)
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)


async def test_the_stream_of_an_unknown_run_is_a_404_and_a_known_one_needs_no_executor(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def refuse(_: GetRun) -> object:
        raise Rejection(Code.NOT_FOUND, "there is no such run")

    run_id = uuid4()
    async with start_gateway() as gateway:
        async with start_owner("executor", {GetRun: refuse}) as owner:
            for path in ("/events/stream?run_id={}", "/runs/{}/stream", "/runs/{}/tokens", "/runs/{}/events"):
                assert (await gateway.client.get(path.format(uuid4()))).status_code == 404, path
            await owner.tell(RunStarted(run_id=run_id, title="known"))
            await eventually(lambda: gateway.parts.feed.knows("default", run_id))
        async with watch(gateway.client, f"/runs/{run_id}/stream") as reader:
            await reader.until(lambda r: len(r.messages) == 1)
        assert (await gateway.client.get(f"/runs/{run_id}/events")).json()["total"] == 1
        assert (await gateway.client.get(f"/runs/{uuid4()}/stream")).status_code == 503


async def test_an_event_source_that_can_set_no_header_gets_in_by_its_url(
    start_gateway: StartGateway, executor: Owner
) -> None:
    run_id = uuid4()
    async with start_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=60) as browser:
        await executor.tell(step(run_id, 1))
        async with watch(browser, f"/events/stream?run_id={run_id}&api_key={KEY}") as reader:
            await reader.until(lambda r: len(r.messages) == 1)


async def test_tokens_are_streamed_as_they_come(start_gateway: StartGateway, executor: Owner) -> None:
    run_id, node_id = uuid4(), uuid4()
    async with start_gateway() as gateway, watch(gateway.client, f"/runs/{run_id}/tokens") as reader:
        index = 0
        while not reader.frames:  # nothing is stored: what was said before the subscription stood is gone
            await executor.chassis.bus.live(
                NodeToken(run_id=run_id, node_id=node_id, key="a", attempt=1, index=index, text=f"line\n{index}")
            )
            index += 1
            await gateway.client.get("/livez")
        token = json.loads(reader.frames[0].data)
        assert reader.frames[0].event == "token"
        assert token["text"].startswith("line\n")
        assert token["node_id"] == str(node_id)


async def test_pages_of_events_can_be_filtered_and_ordered(start_gateway: StartGateway, executor: Owner) -> None:
    run_id = uuid4()
    done = RunCompleted(run_id=run_id, title="50% Über", nodes_completed=1, nodes_skipped=0, cost_usd="0", tokens=1)
    async with start_gateway() as gateway:
        await executor.tell(step(run_id, 1), step(uuid4(), 1), request_id="first")
        await executor.tell(done, request_id="second")
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until(lambda r: len(r.messages) == 2)
        for query, total in (
            ("", 3),
            (f"run_id={run_id}", 2),
            ("level=run_completed", 1),
            ("q=50%25 über", 1),
            ("q=%25", 1),
            ("request_id=first", 2),
            (f"node_id={uuid4()}", 0),
            ("ts_from=2020-01-01T00:00:00Z", 3),
            ("ts_to=2020-01-01T00:00:00Z", 0),
        ):
            page = (await gateway.client.get(f"/events?{query}")).json()
            assert (page["total"], len(page["items"])) == (total, total), query
        newest = (await gateway.client.get("/events?order_by=-timestamp&limit=1")).json()["items"][0]
        assert (newest["level"], json.loads(newest["message"])["tokens"]) == ("RUN_COMPLETED", 1)
        beyond = (await gateway.client.get("/events?offset=100")).json()
        assert (beyond["total"], beyond["items"]) == (3, [])
        of_run = (await gateway.client.get(f"/runs/{run_id}/events?level=RUN_STARTED")).json()
        assert of_run["total"] == 1
