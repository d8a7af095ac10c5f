"""Artifacts and previews over HTTP, with a real publisher and a real object store behind the gateway."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from chassis.keeper import Keeper
from chassis.service import running
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from contracts.errors import Code, Rejection
from contracts.executor import GetRun
from contracts.page import Page
from contracts.planner import GetTask, ListTasks, Task
from deploy.local.ports import free_port
from services.gateway.routes import previews as previews_route
from services.publisher.app import build
from services.publisher.settings import PublisherSettings
from tests.gateway.builders import a_run, a_run_detail, a_task, of_the_planner
from tests.gateway.conftest import KEY, Gateway, StartGateway, StartOwner

TASK = uuid4()
EVIL = """# Tides

Two *high* waters. <script>alert(1)</script> <img src=x onerror=alert(2)> [safe](https://example.com)
[bad](javascript:alert(3)) <a href="https://e.example" onclick="alert(4)">link</a> <iframe src="//e.example"></iframe>

| a | b |
|---|---|
| 1 | 2 |
"""


def of_planner() -> dict[type[Any], Any]:
    def task(request: GetTask) -> Task:
        if request.task_id != TASK:
            raise Rejection(Code.NOT_FOUND, f"there is no task {request.task_id}")
        return a_task(id=TASK, project_id="website")

    def tasks(request: ListTasks) -> Page[Task]:
        if request.project != "website":
            raise Rejection(Code.NOT_FOUND, f"there is no project {request.project!r}")
        return Page(items=[], total=0)

    return of_the_planner() | {GetTask: task, ListTasks: tasks}


def a_zip(files: dict[str, str]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return into.getvalue()


SITE = a_zip({"index.html": "<!doctype html><title>one</title>", "assets/app.js": "export const n = 1"})
NEXT = a_zip({"index.html": "<!doctype html><title>two</title>", "about.html": "<p>about</p>"})


@pytest.fixture
async def http(
    start_gateway: StartGateway,
    start_owner: StartOwner,
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
) -> AsyncIterator[httpx.AsyncClient]:
    settings = PublisherSettings(
        nats_url=nats_server.url("publisher"),
        database_url=database.url_for("publisher"),
        drain_timeout=3.0,
        env="test",
        preview_port=0,
    )
    runs = {GetRun: lambda r: a_run_detail(a_run(id=r.run_id), [])}
    async with (
        start_owner("planner", of_planner()),
        start_owner("executor", runs),
        running("publisher", settings, build),
        start_gateway() as gateway,
    ):
        yield gateway.client


@pytest.fixture
async def gateway_of_one_upload(start_gateway: StartGateway) -> AsyncIterator[Gateway]:
    async with start_gateway(uploads=1) as gateway:
        yield gateway


async def ended(http: httpx.AsyncClient, where: str, state: str = "ready") -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        found: dict[str, Any] = (await http.get(where)).json()
        return found if found["state"] in ("ready", "failed") else None

    found = await eventually(there, what="the end of the publication")
    assert found["state"] == state, found
    return found


async def test_a_zip_is_published_listed_pinned_compared_shared_and_swept(http: httpx.AsyncClient) -> None:
    place = f"/tasks/{TASK}/previews"
    form = {"file": ("site été.zip", SITE, "application/zip")}
    once = {"Idempotency-Key": "first", "X-Actor": "ada"}
    sent = await http.post(f"/companies/default/projects/website{place}/publish", files=form, headers=once)
    assert (sent.status_code, sent.json()["version"], sent.json()["url"]) == (202, 1, None), sent.text
    again = await http.post(f"{place}/publish", files=form, headers=once)
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (sent.json()["id"], "true")
    first = await ended(http, sent.headers["Location"])
    assert (first["files"], first["latest"], "--v1." in first["url"]) == (2, True, True)
    async with httpx.AsyncClient(timeout=60) as browser:
        shown = await browser.get(first["latest_url"].replace(httpx.URL(first["latest_url"]).host, "127.0.0.1"))
        assert "<title>one</title>" in shown.text

    raw = await http.post(f"{place}/publish?name=two.zip", content=NEXT, headers={"Content-Type": "application/zip"})
    second = await ended(http, raw.headers["Location"])
    changes = (await http.get(f"{place}/compare?from=1&to=2")).json()
    assert (changes["added"], changes["removed"]) == (["about.html"], ["assets/app.js"])
    assert [each["path"] for each in changes["changed"]] == ["index.html"]

    assert (await http.get(f"{place}/approved")).status_code == 404
    assert (await http.post(f"/previews/{first['id']}/pin")).json()["approved"] is True
    assert (await http.get(f"{place}/approved")).json()["version"] == 1
    assert (await http.get(f"{place}/latest")).json()["version"] == 2
    listed = (await http.get(f"/companies/default/projects/website{place}")).json()
    assert [(each["version"], each["approved"]) for each in listed["items"]] == [(2, False), (1, True)]
    assert {"id", "version", "state", "url", "error"} <= set(listed["items"][0])
    assert (await http.post(f"/previews/{first['id']}/unpin")).json()["approved"] is False

    share = await http.post(f"/previews/{second['id']}/shares", json={"expires_in_days": 1})
    assert (share.status_code, "//share-" in share.json()["url"]) == (201, True)
    (kept,) = (await http.get(f"/previews/{second['id']}/shares")).json()["items"]
    assert kept["url"] is None, "it is shown once"
    assert (await http.delete(f"/shares/{kept['id']}")).json()["revoked_at"] is not None

    artifacts = (await http.get(f"/tasks/{TASK}/artifacts?kind=preview")).json()
    assert [each["name"] for each in artifacts["items"]] == ["two.zip", "site été.zip"]
    of_artifact = await http.post(f"{place}/publish", json={"artifact_id": artifacts["items"][0]["id"]})
    assert (await ended(http, of_artifact.headers["Location"]))["version"] == 3
    report = (await http.post("/deliverables/sweep", json={"dry_run": True})).json()
    assert (report["dry_run"], report["items"]) == (True, [])
    assert (await http.get("/deliverables/removals")).json()["total"] == 0
    assert (await http.post("/deliverables/sweep", headers={"X-Role": "editor"})).status_code == 403


async def test_files_and_links_are_added_to_a_task_read_and_downloaded(http: httpx.AsyncClient) -> None:
    place = f"/tasks/{TASK}/artifacts"
    added = await http.post(
        place, files={"file": ("C:\\notes\\tides.md", EVIL.encode())}, data={"visibility": "public"}
    )
    assert (added.status_code, added.json()["name"], added.json()["visibility"]) == (201, "tides.md", "public"), (
        added.text
    )
    here = added.headers["Location"]
    found = (await http.get(here)).json()
    assert {"id", "node_id", "type", "path", "content", "summary", "created_at", "preview"} <= set(found)
    assert (found["type"], found["content"], found["download"]) == ("document", EVIL, f"{here}/download")

    page = await http.get(f"{here}?render=html")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert "<h1>Tides</h1>" in page.text
    assert "<td>1</td>" in page.text
    assert 'href="https://example.com"' in page.text
    for harm in ("<script", "onerror", "onclick", '="javascript:', "<iframe", "<img"):
        assert harm not in page.text, harm

    whole = await http.get(f"{here}/download")
    assert (whole.content, whole.headers["Content-Type"]) == (EVIL.encode(), "text/markdown; charset=utf-8")
    assert whole.headers["Content-Disposition"] == "attachment; filename=\"tides.md\"; filename*=UTF-8''tides.md"
    part = await http.get(f"{here}/download", headers={"Range": "bytes=2-6"})
    assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "Tides", f"bytes 2-6/{len(EVIL)}")
    assert (await http.get(f"{here}/download", headers={"Range": "bytes=9999-"})).status_code == 416
    known = await http.get(f"{here}/download", headers={"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")

    raw = await http.post(
        f"{place}?name=données.bin", content=b"\0" * 10, headers={"Content-Type": "application/x-thing"}
    )
    assert (raw.status_code, raw.json()["type"], raw.json()["size"]) == (201, "file", 10)
    named = (await http.get(f"{raw.headers['Location']}/download")).headers["Content-Disposition"]
    assert named == "attachment; filename=\"donn_es.bin\"; filename*=UTF-8''donn%C3%A9es.bin"
    assert (await http.get(f"{raw.headers['Location']}?render=html")).status_code == 415

    link = await http.post(place, json={"url": "https://example.com/board", "name": "The board"})
    assert (link.status_code, link.json()["url"], link.json()["download"]) == (201, "https://example.com/board", None)
    refused = await http.get(f"{link.headers['Location']}/download")
    assert (refused.status_code, "https://example.com/board" in refused.json()["detail"]) == (409, True)

    everything = (await http.get("/companies/default/projects/website/artifacts?order_by=name")).json()
    assert [each["name"] for each in everything["items"]] == ["données.bin", "The board", "tides.md"]
    assert (await http.get("/artifacts?kind=link&name_contains=BOARD")).json()["total"] == 1
    assert (await http.get("/companies/default/projects/nowhere/artifacts")).status_code == 404
    changed = await http.patch(here, json={"visibility": "private"})
    assert changed.json()["visibility"] == "private"
    assert (await http.delete(here)).json()["removed"]["name"] == "tides.md"
    assert (await http.get(here)).status_code == 404


async def test_bad_uploads_are_refused_with_what_to_do(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews_route, "LARGEST_ARCHIVE", 100_000)
    place, zipped = f"/tasks/{TASK}/previews/publish", {"Content-Type": "application/zip"}
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    two = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nA\r\n' * 2 + b"--x--\r\n"
    unended = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nA'
    no_file = b'--x\r\nContent-Disposition: form-data; name="entry"\r\n\r\nindex.html\r\n--x--\r\n'
    entry = b'--x\r\nContent-Disposition: form-data; name="entry"\r\n\r\n../up.html\r\n' + two[: len(two) // 2]

    async def much() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"\0" * 100_000

    for content, headers, status, said in (
        (b"", zipped, 422, "empty"),
        (b"", {}, 422, "no body"),
        (b"abc", {"Content-Type": "text/plain"}, 415, "application/zip"),
        (b"{}", {"Content-Type": "application/json"}, 422, "artifact_id"),
        (b"\0" * 300_000, zipped, 413, "limit of 100000 bytes"),
        (much(), zipped, 413, "limit of 100000 bytes"),
        (two, form, 422, "several files"),
        (unended, form, 422, "last boundary"),
        (no_file, form, 422, "no file"),
        (entry + b"--x--\r\n", form, 422, "entry"),
        (b"nothing of the kind", form, 422, "cannot be read"),
        (b"x", {"Content-Type": "multipart/form-data"}, 422, "boundary"),
    ):
        answer = await http.post(place, content=content, headers=headers)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    for nowhere in (
        f"/tasks/{uuid4()}",
        f"/companies/default/projects/other/tasks/{TASK}",
        f"/companies/acme/tasks/{uuid4()}",
    ):
        unknown = await http.post(f"{nowhere}/previews/publish", content=SITE, headers=zipped)
        assert unknown.status_code == 404, nowhere
    lie = await http.post(place, content=b"this is no ZIP", headers=zipped)
    failed = await ended(http, lie.headers["Location"], "failed")
    assert "ZIP" in failed["error"]
    assert failed["url"] is None
    assert (await http.get(f"/tasks/{TASK}/previews/latest")).status_code == 404
    assert (await http.get(f"/tasks/{TASK}/previews/oldest")).status_code == 422
    reversed_bounds = "created_from=2026-02-01T00:00:00Z&created_to=2026-01-01T00:00:00Z"
    assert (await http.get(f"/artifacts?{reversed_bounds}")).status_code == 400


async def test_what_a_run_delivered_is_counted_and_shown_with_it(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    run = UUID(int=7)
    async with (
        start_owner("executor", {GetRun: lambda r: a_run_detail(a_run(id=r.run_id), [])}),
        start_gateway() as gateway,
    ):
        summary = (await gateway.client.get(f"/runs/{run}/summary")).json()
        assert (summary["artifacts_total"], summary["degraded"]) == (None, ["artifacts_total"])
        for path in ("/artifacts", f"/runs/{run}/artifacts", f"/tasks/{TASK}/previews", f"/previews/{run}"):
            answer = await gateway.client.get(path)
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), path


async def test_only_so_many_files_are_received_at_once(http: httpx.AsyncClient, gateway_of_one_upload: Gateway) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield SITE[:10]
        begun.set()
        await go_on.wait()
        yield SITE[10:]

    place, headers = f"/tasks/{TASK}/previews/publish", {"Content-Type": "application/zip"}
    client = gateway_of_one_upload.client
    async with asyncio.TaskGroup() as group:
        first = group.create_task(client.post(place, content=slow(), headers=headers))
        await begun.wait()
        await eventually(lambda: gateway_of_one_upload.parts.uploads.under_way == 1)
        refused = await client.post(place, content=SITE, headers=headers)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        go_on.set()
    assert (await first).status_code == 202


async def test_a_file_for_an_object_store_that_is_away_is_not_lost_in_silence(
    http: httpx.AsyncClient, start_gateway: StartGateway
) -> None:
    place, headers = f"/tasks/{TASK}/previews/publish", {"Content-Type": "application/zip"}
    async with start_gateway(s3_endpoint_url=f"http://127.0.0.1:{free_port()}") as gateway:
        refused = await gateway.client.post(place, content=SITE, headers=headers)
        assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (503, True)
        assert refused.json()["code"] == "unavailable"
        assert "object store" in refused.json()["detail"]
        assert gateway.parts.uploads.under_way == 0
    assert (await http.get(f"/tasks/{TASK}/previews")).json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "content_type"),
    [(f"/tasks/{TASK}/previews/publish", "application/zip"), ("/tasks", "application/json")],
    ids=["a file", "JSON"],
)
async def test_who_stops_sending_is_told_so_and_takes_up_no_place(
    http: httpx.AsyncClient, start_gateway: StartGateway, path: str, content_type: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: {content_type}\r\n"
    async with start_gateway(body_idle=0.2) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.url).port)
        writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        answer = (await reader.read()).decode()  # to the end: the connection is closed
        writer.close()
        assert answer.startswith("HTTP/1.1 408 Request Timeout"), answer
        problem = json.loads(answer.partition("\r\n\r\n")[2])
        assert problem["code"] == "request_timeout"
        assert "after 1 bytes, for nothing came for 0.2 s; send it again" in problem["detail"]
        assert gateway.parts.uploads.under_way == 0
