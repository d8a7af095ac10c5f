"""Knowledge over HTTP, with a real rag and a real object store behind the gateway; words find, as no model embeds."""

from __future__ import annotations

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
from contracts.executor import GetNode, GetRun
from contracts.page import Page
from contracts.planner import ListTasks, Task
from contracts.retrievals import GetRetrievals, Retrieval, Retrievals
from contracts.task_control import ListProjects
from services.gateway.routes import documents as documents_route
from services.rag.app import build
from services.rag.settings import RagSettings
from tests.gateway.builders import NOON, a_node_detail, of_the_planner
from tests.gateway.conftest import StartGateway, StartOwner

TIDES = "# Tides\n\nSpring tides come twice a month, when the sun and the moon pull in one line.\n"
HARBOUR = "# Harbour\n\nThe harbour master gives berths at six in the morning.\n"
MARKDOWN = {"Content-Type": "text/markdown"}
DOCUMENTS = "/knowledge/documents"
NO_MODEL = {"provider": "local", "model": "none"}  # there is none of this name


def of_planner() -> dict[type[Any], Any]:
    def tasks(request: ListTasks) -> Page[Task]:
        if request.project != "website":
            raise Rejection(Code.NOT_FOUND, f"there is no project {request.project!r}")
        return Page(items=[], total=0)

    def projects(request: ListProjects) -> Page[Any]:
        raise Rejection(Code.NOT_FOUND, f"there is no company {request.company!r}")

    return of_the_planner() | {ListTasks: tasks, ListProjects: projects}


@pytest.fixture
async def http(
    start_gateway: StartGateway,
    start_owner: StartOwner,
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[httpx.AsyncClient]:
    urls = {"nats_url": nats_server.url("rag"), "database_url": database.url_for("rag")}
    settings = RagSettings(
        **urls, drain_timeout=3.0, env="test", lease=2.0, unused_after=0.0, home=tmp_path_factory.getbasetemp()
    )
    async with (
        start_owner("planner", of_planner()),
        running("rag", settings, build),
        start_gateway() as gateway,
    ):
        yield gateway.client


async def a_space(http: httpx.AsyncClient, name: str = "Handbook", **fields: Any) -> str:
    made = await http.post("/knowledge/spaces", json={"name": name, "embedder": NO_MODEL} | fields)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def ended(http: httpx.AsyncClient, added: httpx.Response, state: str = "ready") -> dict[str, Any]:
    assert added.status_code == 202, added.text

    async def there() -> dict[str, Any] | None:
        found: dict[str, Any] = (await http.get(added.headers["Location"])).json()
        return found if found["state"] in ("ready", "failed", "needs_ocr") else None

    found = await eventually(there, what="the end of the ingestion")
    assert found["state"] == state, found
    return found


def a_form(space: str) -> dict[str, Any]:
    """A document as a browser sends it, from a machine with other paths than ours."""
    fields = {"space_id": space, "external_id": "tides-1", "tags": "sea, moon", "dated": "2026-03-01"}
    return {"data": fields, "files": {"file": ("C:\\notes\\tides été.md", TIDES.encode(), "text/markdown")}}


async def test_documents_are_added_as_files_and_text_and_listed(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = await a_space(http)
    once = {"Idempotency-Key": "first", "X-Actor": "ada"}
    tides = await ended(http, await http.post(DOCUMENTS, headers=once, **a_form(space)))
    assert (tides["title"], tides["tags"], tides["dated"]) == ("tides été.md", ["moon", "sea"], "2026-03-01")
    again = await http.post(DOCUMENTS, headers=once, **a_form(space))
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (tides["id"], "true")

    raw = f"/companies/default{DOCUMENTS}?space_id={space}&name=harbour.md&title=Harbour"
    await ended(http, await http.post(raw, content=HARBOUR.encode(), headers=MARKDOWN))
    text = {"space_id": space, "title": "Fees", "text": "A berth costs ten crowns a night."}
    await ended(http, await http.post(DOCUMENTS, json=text))
    monkeypatch.setattr(documents_route, "INLINE", 10)
    await ended(http, await http.post(DOCUMENTS, json=text | {"title": "Long", "text": "Ropes " * 100}))

    listed = (await http.get(f"{DOCUMENTS}?space_id={space}&order_by=title")).json()
    assert [each["title"] for each in listed["items"]] == ["Fees", "Harbour", "Long", "tides été.md"]
    assert (await http.get(f"{DOCUMENTS}?tag=moon&state=ready")).json()["total"] == 1
    stats = (await http.get("/knowledge/stats")).json()
    assert (stats["documents"]["ready"], stats["spaces"][0]["space_id"]) == (4, space)


async def test_a_document_is_found_with_where_in_it_until_it_is_removed(http: httpx.AsyncClient) -> None:
    space = await a_space(http)
    tides = await ended(http, await http.post(DOCUMENTS, **a_form(space)))
    asked = {"query": "when are spring tides?", "space_ids": [space], "limit": 3}
    found = (await http.post("/knowledge/search", json=asked, headers={"X-Role": "viewer"})).json()
    best = found["items"][0]
    of_tides = {"id": tides["id"], "external_id": "tides-1", "title": tides["title"], "version": 1}
    assert best["document"] == of_tides
    start, stop = best["offsets"]
    assert "Spring tides" in best["text"]
    assert stop - start == len(best["text"])
    assert {"score", "scores", "page", "header", "chunk_id"} <= set(best)
    assert (found["receipt"]["spaces"], found["receipt"]["removed_by_acl"]) == ([space], 0)
    assert "none" in found["degraded"]
    empty = (await http.post("/knowledge/search", json=asked | {"space_ids": []})).json()
    assert (empty["items"], empty["receipt"]["chunks"]) == ([], 0)

    assert (await http.delete(f"{DOCUMENTS}/{tides['id']}")).json()["removed"]["title"] == tides["title"]
    gone = (await http.post("/knowledge/search", json=asked)).json()
    assert tides["id"] not in [each["document"]["id"] for each in gone["items"]]
    assert (await http.get(f"{DOCUMENTS}/{tides['id']}")).status_code == 404


async def test_a_document_is_replaced_downloaded_and_indexed_again(http: httpx.AsyncClient) -> None:
    space = await a_space(http)
    tides = await ended(http, await http.post(DOCUMENTS, **a_form(space)))
    newer = TIDES.replace("twice", "two times")
    replaced = await http.post(
        f"{DOCUMENTS}?space_id={space}&name=tides.md&external_id=tides-1", content=newer, headers=MARKDOWN
    )
    assert (await ended(http, replaced))["version"] == 2
    place = f"{DOCUMENTS}/{tides['id']}"
    versions = (await http.get(f"{place}/versions")).json()["items"]
    assert sorted(each["version"] for each in versions) == [1, 2]
    whole = await http.get(f"{place}/download?version=1")
    assert (whole.text, "tides%20%C3%A9t%C3%A9.md" in whole.headers["Content-Disposition"]) == (TIDES, True)
    part = await http.get(f"{place}/download", headers={"Range": "bytes=2-6"})
    assert (part.status_code, part.text) == (206, "Tides")
    again = await http.post(f"{place}/reindex")
    assert (again.status_code, again.json()["version"]) == (202, 3)
    assert (await ended(http, replaced))["searchable"] == 3


async def test_spaces_are_made_granted_seen_as_an_agent_sees_them_and_removed(http: httpx.AsyncClient) -> None:
    place = "/knowledge/spaces"
    open_to_all = await a_space(http)
    closed = await a_space(http, "Salaries", language="fr", grants=[{"principal": "agent:ada"}])
    of_project = await a_space(http, "Website", scope="project", scope_id="website")
    for space in (open_to_all, closed):
        document = {"space_id": space, "title": "Payday", "text": f"Wages are paid on the {space[:2]}th."}
        await ended(http, await http.post("/knowledge/documents", json=document))

    async def seen(agent: object, **query: str) -> tuple[set[str], int]:
        body = {"query": "when are wages paid", "as_agent": agent}
        found = (await http.post("/knowledge/search", json=body, params=query)).json()
        return {each["space_id"] for each in found["items"]}, found["receipt"]["removed_by_acl"]

    assert await seen(None) == ({open_to_all, closed}, 0)
    assert await seen("ada") == ({open_to_all, closed}, 0)
    assert await seen("bob") == ({open_to_all}, 1)
    assert await seen("ada", as_agent="bob") == ({open_to_all}, 1)
    assert await seen({"agent_id": "bob", "role": "clerk"}) == ({open_to_all}, 1)
    granted = await http.put(f"{place}/{closed}/grants", json=[{"principal": "role:clerk"}])
    assert [each["principal"] for each in granted.json()["grants"]] == ["role:clerk"]
    assert await seen({"agent_id": "bob", "role": "clerk"}) == ({open_to_all, closed}, 0)
    assert await seen("") == ({open_to_all}, 1), "whoever has no name is not a person"
    as_editor = {"query": "wages", "as_agent": "ada"}
    refused = await http.post("/knowledge/search", json=as_editor, headers={"X-Role": "editor"})
    assert refused.status_code == 403

    changed = await http.patch(f"{place}/{closed}", json={"name": "Pay"})
    assert (changed.json()["name"], changed.json()["reindexing"]) == ("Pay", False)
    assert (await http.get(f"{place}/{of_project}")).json()["scope_id"] == "website"
    listed = (await http.get(f"{place}?scope=company&limit=1")).json()
    assert (listed["total"], listed["items"][0]["name"]) == (2, "Handbook")
    assert (await http.delete(f"{place}/{closed}")).status_code == 409
    assert (await http.delete(f"{place}/{closed}?force=true")).json()["removed"]["name"] == "Pay"
    assert (await http.get(f"{place}/{closed}")).status_code == 404


async def test_what_cannot_be_added_is_refused_with_what_to_do(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_route, "LARGEST_DOCUMENT", 100_000)
    space, place, plain = await a_space(http), "/knowledge/documents", {"Content-Type": "text/plain"}
    nowhere, here = uuid4(), f"?space_id={space}&name=a.txt"
    for where, status, said, options in (
        (f"?space_id={nowhere}&name=a", 404, "no space", {"content": b"x", "headers": plain}),
        ("?name=a", 422, "space_id", {"content": b"x", "headers": plain}),
        (f"?space_id={space}", 422, "title", {"content": b"x", "headers": plain}),
        (f"{here}&dated=soon", 422, "dated", {"content": b"x", "headers": plain}),
        (f"{here}&tags={'t' * 61}", 422, "tags", {"content": b"x", "headers": plain}),
        (here, 413, "limit of 100000 bytes", {"content": b"x" * 200_000, "headers": plain}),
        ("", 422, "no body", {}),
        ("", 422, "exactly one", {"json": {"space_id": space, "title": "Nothing"}}),
        ("", 404, "no space", {"json": {"space_id": str(nowhere), "title": "Lost", "text": "x"}}),
    ):
        answer = await http.post(f"{place}{where}", **options)  # type: ignore[arg-type]
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    empty = await http.post(f"{place}{here}", content=b"", headers=plain)
    assert "empty" in (await ended(http, empty, "failed"))["error"]
    taken = await http.post("/knowledge/spaces", json={"name": "handbook"})
    assert (taken.status_code, taken.json()["code"]) == (409, "title_taken")
    for body, status in (
        ({"name": "P", "scope": "project", "scope_id": "nowhere"}, 404),
        ({"name": "P", "scope": "project"}, 422),
        ({"name": "P", "grants": [{"principal": "everybody"}]}, 422),
    ):
        assert (await http.post("/knowledge/spaces", json=body)).status_code == status, body
    for path in ("/knowledge/spaces", "/knowledge/documents", "/knowledge/stats"):
        assert (await http.get(f"/companies/acme{path}")).status_code == 404, path
    assert (await http.post("/companies/acme/knowledge/search", json={"query": "x"})).status_code == 404
    assert (await http.post("/companies/acme/knowledge/spaces", json={"name": "x"})).status_code == 404
    assert (await http.get(f"/knowledge/documents?space_id={nowhere}")).status_code == 404


ODD = {
    "a name": b'Content-Disposition: form-data; name="file"; filename="a\x00b.txt"\r\nContent-Type: text/plain',
    "a title": b'Content-Disposition: form-data; name="title"\r\n\r\na\x00b\r\n--x\r\n'
    b'Content-Disposition: form-data; name="file"; filename="ab.txt"\r\nContent-Type: text/plain',
    "a tag": b'Content-Disposition: form-data; name="tags"\r\n\r\na\x00b\r\n--x\r\n'
    b'Content-Disposition: form-data; name="file"; filename="ab.txt"\r\nContent-Type: text/plain',
}


@pytest.mark.parametrize("what", list(ODD))
async def test_a_form_with_what_no_database_can_hold_is_refused_with_a_reason(
    http: httpx.AsyncClient, what: str
) -> None:
    body = b"--x\r\n" + ODD[what] + b"\r\n\r\ntext\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    space = await a_space(http, f"Space of {what}")
    answer = await http.post(f"/knowledge/documents?space_id={space}", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert any(word in answer.text for word in ("NUL", "pattern", "form"))


RUN, NODE, SHOWN = uuid4(), uuid4(), uuid4()


def a_retrieval(attempt: int, *numbers: int) -> Retrieval:
    document = {"id": uuid4(), "external_id": None, "title": "Tides", "version": 1}
    passage = {"document": document, "space_id": SHOWN, "chunk_id": uuid4(), "offsets": (0, 5), "page": 2, "score": 0.9}
    receipt = {
        "spaces": [SHOWN],
        "chunks": 3,
        "removed_by_acl": 1,
        "path": "exact",
        "languages": ["en"],
        "took_ms": 4.2,
    }
    return Retrieval.model_validate(
        {
            "run_id": RUN,
            "node_id": NODE,
            "attempt": attempt,
            "effect": numbers[0],
            "query": "tides",
            "passages": [passage | {"n": n, "text": f"passage {n} of attempt {attempt}"} for n in numbers],
            "receipt": receipt,
            "degraded": None,
            "created_at": NOON,
        }
    )


@pytest.mark.parametrize("at_once", [200, 1])
async def test_a_run_shows_what_the_latest_attempts_of_its_nodes_cite(
    start_gateway: StartGateway, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("services.gateway.citing.MOST_AT_ONCE", at_once)
    text = "Two a day [2], as the moon has it [4]. [9]"
    node = a_node_detail(id=NODE, run_id=RUN, key="write", attempt=2, output=text)

    def retrievals(request: GetRetrievals) -> Retrievals:
        found = [a_retrieval(1, 1, 2), a_retrieval(2, 1, 2), a_retrieval(2, 3, 4)] if request.run_id == RUN else []
        asked = [each for each in found if request.attempt in (None, each.attempt)]
        return Retrievals(items=asked[request.offset : request.offset + at_once])

    def run(request: GetRun) -> Any:
        raise Rejection(Code.NOT_FOUND, f"there is no run {request.run_id}")

    executor = {GetNode: lambda _: node, GetRun: run}
    async with (
        start_owner("executor", executor),
        start_owner("rag", {GetRetrievals: retrievals}),
        start_gateway() as it,
    ):
        cited = (await it.client.get(f"/runs/{RUN}/citations")).json()
        assert [(each["n"], each["text"]) for each in cited["items"]] == [
            (2, "passage 2 of attempt 2"),
            (4, "passage 4 of attempt 2"),
        ]
        assert (cited["items"][0]["node_key"], cited["items"][0]["page"], cited["unknown"]) == ("write", 2, 1)
        assert len((await it.client.get(f"/runs/{RUN}/retrievals")).json()["items"]) == min(3, at_once)
        shown = (await it.client.get(f"/nodes/{NODE}/retrievals?attempt=1")).json()
        assert [each["receipt"]["removed_by_acl"] for each in shown["items"]] == [1]
        for nothing in ("citations", "retrievals"):
            assert (await it.client.get(f"/runs/{UUID(int=7)}/{nothing}")).status_code == 404
