"""Deliverables on the command line: what is sent, and what people read."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fluidcrew import delivering, demo_site, sharing
from fluidcrew.exits import Halt
from fluidcrew.packing import packed
from fluidcrew.progress import RunView
from fluidcrew.render.facts import fact_line
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, finished_run, node

TASK = "88aa1122-5b1d-4c3e-9a77-0c6f2b1d8e90"
PREVIEW = "11111111-5b1d-4c3e-9a77-0c6f2b1d8e90"
URL = "http://abc.localhost:8001/default/default/t/"


def a_preview(**more: Any) -> dict[str, Any]:
    marks = {"latest": True, "approved": False, "shared": False, "error": None, "entry": "index.html"}
    about = {"id": PREVIEW, "task_id": TASK, "version": 2, "state": "ready", "files": 3, "size": 2048}
    urls = {"url": URL.replace("abc", "abc--v2"), "latest_url": URL, "created_at": "2025-03-01T12:00:00Z"}
    return about | marks | urls | more


@pytest.fixture
def api(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    monkeypatch.setenv("FLUIDCREW_URL", gateway.url)
    monkeypatch.setenv("COLUMNS", "140")
    gateway.on(f"GET /tasks/{TASK}", (200, {"id": TASK, "title": "A site", "run_id": None}))
    return gateway


def a_site(folder: Path) -> Path:
    (folder / "assets").mkdir(parents=True)
    (folder / ".git").mkdir()
    for path, text in (("index.html", "<p>hi"), ("assets/app.js", "1"), (".env", "SECRET"), (".git/config", "x")):
        (folder / path).write_text(text)
    (folder / "elsewhere").symlink_to("/etc/hostname")
    return folder


async def test_a_folder_is_sent_as_a_zip_and_waited_for(api: FakeGateway, cli: Cli, tmp_path: Path) -> None:
    place = f"/tasks/{TASK}/previews/publish"
    api.on(f"POST {place}", (503, {}), (202, a_preview(state="received", url=None)))
    api.on(f"GET /previews/{PREVIEW}", (200, a_preview(state="publishing", url=None)), (200, a_preview()))
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY}
    done = await cli("publish", str(a_site(tmp_path / "dist")), "--task", TASK, "--entry", "index.html", **environ)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "left out, because hidden or a link: .env, .git, elsewhere",
        "version 2 is ready: 3 files, 2.0 KiB",
        URL,
    ]
    first, again = api.requests(place)
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert first.body == again.body, "the file is read anew"
    assert parse_qs(urlsplit(first.path).query) == {"name": ["dist.zip"], "entry": ["index.html"]}
    assert first.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(first.body)) as archive:
        assert sorted(archive.namelist()) == ["assets/app.js", "index.html"]


async def test_what_cannot_be_published_says_why(api: FakeGateway, cli: Cli, tmp_path: Path) -> None:
    failed = a_preview(state="failed", url=None, error="there is no HTML page in it; add 'index.html'")
    api.on(f"POST /tasks/{TASK}/previews/publish", (202, failed))
    api.on(f"GET /previews/{PREVIEW}", (200, failed))
    (tmp_path / "a.zip").write_bytes(b"PK")
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY}
    done = await cli("publish", "a.zip", "--task", TASK, **environ)
    assert (done.code, "version 2 was not published: there is no HTML page in it" in done.err) == (1, True), done.err
    for source, said in (("nowhere", "there is no nowhere"), ("empty", "there are no files")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        done = await cli("publish", source, "--task", TASK, **environ)
        assert (done.code, said in done.err) == (2, True), done.err


def test_the_same_folder_is_the_same_zip(tmp_path: Path) -> None:
    with packed(a_site(tmp_path / "one")) as one, packed(a_site(tmp_path / "two")) as two:
        assert one.path.read_bytes() == two.path.read_bytes()
        assert (one.files, one.left_out) == (2, (".env", ".git", "elsewhere"))
    assert not one.path.exists()


async def test_a_task_s_site_is_listed_opened_pinned_compared_and_shared(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"/tasks/{TASK}/previews"
    older = a_preview(version=1, latest=False, approved=True, url="http://abc--v1.localhost/", id="p1")
    api.on(f"GET {place}", (200, {"items": [a_preview(), older], "total": 2}))
    api.on(f"GET {place}/latest", (200, a_preview()))
    api.on(f"GET {place}/1", (200, older))
    api.on(f"POST /previews/{PREVIEW}/pin", (200, a_preview(approved=True)))
    changes = {"task_id": TASK, "from_version": 1, "to_version": 2, "added": ["a.html"], "removed": [], "same": 7}
    api.on(f"GET {place}/compare", (200, changes | {"changed": [{"path": "i.html", "before": 10, "after": 2048}]}))
    share = {"id": "s1", "url": "http://share-x.localhost/", "expires_at": "2025-03-08T12:00:00Z"}
    api.on(f"POST /previews/{PREVIEW}/shares", (201, share))

    await delivering.list_previews(TASK, last=False, limit=50, as_json=False)
    _, second, first = capsys.readouterr().out.splitlines()
    assert second.split()[:6] == ["v2", "ready", "latest", "3", "2.0", "KiB"]
    assert ("approved" in first, "http://abc--v1.localhost/" in first) == (True, True)
    await delivering.open_preview(TASK, "latest", last=False, printing=True, as_json=False)
    await delivering.open_preview(TASK, "v1", last=False, printing=True, as_json=False)
    assert capsys.readouterr().out.splitlines() == [URL, "http://abc--v1.localhost/"]
    await delivering.pin(TASK, "latest", last=False, as_json=False)
    assert capsys.readouterr().out == "version 2 is ready: 3 files, 2.0 KiB, approved\n"
    await delivering.compare(TASK, None, None, last=False, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "version 1 → 2: 1 added, 0 removed, 1 changed, 7 the same",
        "  + a.html",
        "  ~ i.html  10 B → 2.0 KiB",
    ]
    assert parse_qs(urlsplit(api.requests(f"{place}/compare")[0].path).query) == {"from": ["1"], "to": ["2"]}
    await sharing.share(TASK, "latest", 7, last=False, as_json=False)
    assert capsys.readouterr().out.startswith("http://share-x.localhost/\n")


async def test_open_links_are_listed_with_what_ends_them(api: FakeGateway, cli: Cli) -> None:
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY, "COLUMNS": "120"}
    place = f"/tasks/{TASK}/previews"
    api.on(f"GET {place}", (200, {"items": [a_preview()], "total": 1}))
    assert (await cli("previews", "shares", TASK, **environ)).out.startswith("no version is shared")
    api.on(f"GET {place}", (200, {"items": [a_preview(shared=True)], "total": 1}))
    link = {"id": "open", "made_by": "ada", "expires_at": "2025-03-08T12:00:00Z", "revoked_at": None}
    ended = link | {"id": "ended", "revoked_at": "2025-03-02T12:00:00Z"}
    api.on(f"GET /previews/{PREVIEW}/shares", (200, {"items": [link, ended], "total": 2}))
    _, line = (await cli("previews", "shares", TASK, **environ)).out.splitlines()
    assert [*line.split()[:2], line.split()[-1]] == ["v2", "ada", "open"]


async def test_a_version_that_cannot_be_meant_is_refused_with_those_that_can(
    api: FakeGateway, cli: Cli, tmp_path: Path
) -> None:
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY}
    done = await cli("open", TASK, "newest", **environ)
    assert (done.code, "there is no version 'newest': give latest, approved, or a number" in done.err) == (2, True)
    run = finished_run() | {"task_id": TASK}
    api.on("GET /runs", (200, {"items": [run], "total": 1}))
    api.on(f"GET /tasks/{TASK}/previews/3", (200, a_preview(version=3)))
    assert (await cli("open", "--last", "v3", "--print", **environ)).out == a_preview()["url"] + "\n"
    (tmp_path / "page.html").write_text("<p>")
    done = await cli("publish", "page.html", "--task", TASK, **environ)
    assert (done.code, "page.html is no ZIP archive: put it into a folder" in done.err) == (2, True)


async def test_without_a_name_all_sites_of_the_company_are_listed_with_their_tasks(api: FakeGateway, cli: Cli) -> None:
    of_a_run = a_preview(task_id=RUN_ID, id="p2", version=1, state="failed", url=None, error="no page", files=None)
    api.on("GET /previews", (200, {"items": [a_preview(), of_a_run], "total": 7}))
    api.on(f"GET /runs/{RUN_ID}", (200, finished_run()))
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY, "COLUMNS": "160"}
    done = await cli("previews", "ls", "--limit", "2", **environ)
    assert (done.code, done.err) == (0, "")
    _, first, second, more = done.out.splitlines()
    assert [first.split()[0], *first.split()[1:5]] == [TASK[:8], "A", "site", "v2", "ready"]
    assert second.startswith(f"{RUN_ID[:8]} A study")
    assert second.rstrip().endswith("no page")
    assert more == "2 of 7; more with --limit"
    assert parse_qs(urlsplit(api.requests("/previews")[0].path).query) == {"limit": ["2"]}
    api.on("GET /previews", (200, {"items": [], "total": 0}))
    assert (await cli("previews", "ls", **environ)).out.startswith("nothing was published yet: `fluidcrew publish")


async def test_artifacts_are_listed_and_a_sweep_says_what_goes(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = {"name": "tides.md", "kind": "document", "version": 3, "size": 120, "node_key": "guide", "made_by": None}
    artifact |= {"path": None, "url": None}
    items = [artifact | {"created_at": "2025-03-01T12:00:00Z", "id": "abcdef1234"}]
    api.on(f"GET /tasks/{TASK}/artifacts", (200, {"items": items, "total": 9}))
    await delivering.list_artifacts(TASK, last=False, kind=None, everything=False, limit=1, as_json=False)
    _, line, more = capsys.readouterr().out.splitlines()
    assert [*line.split()[:6], line.split()[-1]] == ["tides.md", "document", "v3", "120", "B", "guide", "abcdef12"]
    assert more == "1 of 9; more with --limit"
    gone = {"what": "preview", "id": "abcdef1234", "task_id": TASK, "version": 1, "size": 2048, "why": "beyond 10"}
    api.on("POST /deliverables/sweep", (200, {"dry_run": True, "items": [gone], "size": 2048, "more": True}))
    await delivering.sweep("", dry_run=True, as_json=False)
    said = capsys.readouterr().out
    assert "preview abcdef12" in said
    assert said.endswith("1 item would be removed, 2.0 KiB; there is more, call it again\n")


async def test_what_a_deleted_task_left_is_swept_by_its_whole_id(api: FakeGateway) -> None:
    gone, run = "99aa1122-5b1d-4c3e-9a77-0c6f2b1d8e90", "77aa1122-5b1d-4c3e-9a77-0c6f2b1d8e90"
    api.on(f"GET /runs/{run}", (200, {"id": run, "task_id": TASK}))
    api.on("POST /deliverables/sweep", (200, {"dry_run": True, "items": [], "size": 0, "more": False}))
    for named in (gone.upper(), run):
        await delivering.sweep(named, dry_run=True, as_json=True)
    assert [json.loads(each.body)["task_id"] for each in api.requests("/deliverables/sweep")] == [gone, TASK]


async def test_the_demo_does_not_show_a_site_that_does_not_open(api: FakeGateway) -> None:
    view = RunView.of(finished_run(), [node("a", status="completed")])
    api.on("GET /nodes/node-a/artifacts", (200, {"items": [], "total": 1}))
    api.on("GET /previews", (200, {"items": [], "total": 0}))
    async with delivering.Gateway(api.url, KEY) as http:
        assert await demo_site.opened_site(http, view) is None, "a model may see no need for one"
        api.on("GET /previews", (200, {"items": [a_preview()], "total": 1}))
        api.on(f"GET /previews/{PREVIEW}", (200, a_preview(latest_url=f"{api.url}/nothing")))
        with pytest.raises(Halt, match="does not open: it answered 401"):
            await demo_site.opened_site(http, view)
    assert parse_qs(urlsplit(api.requests("/previews")[0].path).query)["run_id"] == [RUN_ID]


def test_facts_of_deliverables_are_lines_that_say_what_and_where() -> None:
    made = {"name": "tides.md", "artifact_kind": "document", "version": 1, "size": 120, "run_id": "r"}
    assert fact_line(None, "", "artifact", "created", "", made).plain.split("created")[1].strip() == (
        "tides.md  v1 · document · 120 B"
    )
    ready = {"version": 2, "files": 4, "size": 2048, "url": URL}
    assert "v2 · 4 files · 2.0 KiB · " + URL in fact_line(None, "", "preview", "ready", "", ready).plain
