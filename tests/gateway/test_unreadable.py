"""Facts that cannot be read, or not now: what they hold up, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
from uuid import uuid4

import asyncpg
import pytest
from nats.js import JetStreamContext

from contracts.refs import BlobRef
from contracts.streams import TIMELINE
from services.gateway import timeline
from tests.gateway.conftest import StartGateway
from tests.gateway.proxy import proxied
from tests.gateway.telling import assert_gapless, claiming, has_told, publish, started, told, wire


async def test_poison_becomes_a_dead_letter_and_holds_up_nobody(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    subject, body, headers = wire(started(run_id, 1), 1)
    far = wire(started(run_id, 3), 1)
    async with start_gateway() as gateway:
        await publish(
            stream,
            [
                (subject, b"no headers at all", {}),
                ("evt.default.stranger.run.started.x", body, headers),
                (subject, body, headers | {"ce-id": str(uuid4()), "x-request-id": "Postgres refuses \0"}),
                (subject, far[1], far[2] | {"ce-sequence": "9" * 20}),
                (subject, body, headers | {"ce-id": str(uuid4()), "ce-sequence": "0"}),
                wire(started(run_id, 2), 2),
            ],
        )
        assert_gapless(await has_told(table, 2), {str(run_id): 2})
        first = (await gateway.client.get(f"/runs/{run_id}/events?limit=1")).json()["items"][0]
        assert "unreadable" in json.loads(first["message"])
        letters = (await gateway.client.get("/admin/dead-letters/gateway")).json()
        assert letters["total"] == 5
        assert all(letter["durable"] == TIMELINE.durable for letter in letters["items"])
        oldest = await gateway.client.get("/admin/dead-letters/gateway?order_by=created_at&limit=1")
        assert oldest.json()["items"] == letters["items"][-1:], "they come with the newest first when nobody asks"
        unknown = await gateway.client.get("/admin/dead-letters/gateway?order_by=body")
        assert (unknown.status_code, "created_at" in unknown.text) == (422, True)
        url = f"/admin/dead-letters/gateway/{letters['items'][-1]['id']}"
        assert (await gateway.client.get(url)).json()["body"] is not None
        replayed = await gateway.client.post(f"{url}/replay")
        assert replayed.status_code == 422, "it is still no fact"


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", b"[]", b'"text"', b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", b""],
    ids=["no json", "no text", "no object", "a string", "too deep", "empty"],
)
async def test_a_fact_that_cannot_be_read_keeps_its_place_and_what_comes_after_it_is_told(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection, body: bytes
) -> None:
    run_id = uuid4()
    subject, _, headers = wire(started(run_id, 1), 1)
    async with start_gateway() as gateway:
        await publish(stream, [(subject, body, headers), *(wire(started(run_id, n), n) for n in (2, 3))])
        assert_gapless(await has_told(table, 3), {str(run_id): 3})
        events = (await gateway.client.get(f"/runs/{run_id}/events")).json()["items"]
        assert ["unreadable" in json.loads(event["message"]) for event in events] == [True, False, False]
        assert events[0]["level"] == "RUN_STARTED", "what its subject says is known"
        assert (await gateway.client.get("/admin/dead-letters/gateway")).json()["total"] == 1
        assert await table.fetchval("select count(*) from gateway.parked_facts") == 0


async def test_a_fact_whose_large_body_is_gone_is_passed_over_and_told_in_its_place_once_it_is_there_again(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection, object_store: dict[str, str]
) -> None:
    run_id = uuid4()
    fact = started(run_id, 1)
    body = fact.model_dump_json().encode()
    digest = hashlib.sha256(body).hexdigest()
    claim = BlobRef(key=f"default/{digest}", sha256=digest, size=len(body), content_type="application/json")
    async with start_gateway() as gateway:
        await publish(stream, [claiming(fact, 1, claim), *(wire(started(run_id, n), n) for n in (2, 3))])
        assert_gapless(await has_told(table, 3), {str(run_id): 3})
        assert (await gateway.client.get(f"/runs/{run_id}/events")).json()["total"] == 3, "the run's own, all of them"
        letter = (await gateway.client.get("/admin/dead-letters/gateway")).json()["items"][0]["id"]
        replay = f"/admin/dead-letters/gateway/{letter}/replay"
        assert (await gateway.client.post(replay)).status_code == 404
        await gateway.parts.blobs.put(body, company="default", content_type="application/json")
        outcomes = [(await gateway.client.post(replay)).json()["outcome"] for _ in range(2)]
        assert outcomes == ["handled", "repeated"]
        first = (await gateway.client.get(f"/runs/{run_id}/events?limit=1")).json()["items"][0]
        assert json.loads(first["message"]) == json.loads(body)
        assert_gapless(await told(table), {str(run_id): 3})


async def test_an_object_store_that_hangs_delays_what_lies_in_it_and_nothing_else(
    start_gateway: StartGateway,
    stream: JetStreamContext,
    table: asyncpg.Connection,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeline, "FETCHING", 0.2)
    monkeypatch.setattr(timeline, "STORE_HANGS", 0.5)
    large, small = uuid4(), uuid4()
    async with proxied(object_store_settings["S3_ENDPOINT_URL"]) as store:
        for name, value in (object_store_settings | {"S3_ENDPOINT_URL": store.url}).items():
            monkeypatch.setenv(name, value)
        async with start_gateway() as gateway:
            facts = [started(large, n) for n in range(1, 21)]
            claims = [
                await gateway.parts.blobs.put(f.model_dump_json().encode(), company="default", content_type="x")
                for f in facts
            ]
            store.freeze()
            await publish(stream, [claiming(fact, n, claims[n - 1]) for n, fact in enumerate(facts, 1)])
            await publish(stream, [wire(started(small, n), n) for n in range(1, 4)])
            assert_gapless(await has_told(table, 3), {str(small): 3})
            monkeypatch.setattr(timeline, "FETCHING", 10.0)  # it is not the one that is slow any more
            store.thaw()
            found = await has_told(table, 23)
            assert [sequence for _, story, sequence in found if story == str(large)] == list(range(1, 21))
            assert (await gateway.client.get("/admin/dead-letters/gateway")).json()["total"] == 0
