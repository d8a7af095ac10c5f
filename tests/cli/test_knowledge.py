"""Knowledge on the command line: what is sent, and what people read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fluidcrew import knowing
from fluidcrew.citing import citations, print_citations
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.render.knowledge import document_line
from fluidcrew.render.screen import console
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway

HANDBOOK, PAY = "aaaa1111-0000-4000-8000-000000000000", "bbbb2222-0000-4000-8000-000000000000"
TIDES = "cccc3333-0000-4000-8000-000000000000"


def a_space(id: str, name: str, **more: Any) -> dict[str, Any]:
    grants = [
        {"principal": "*", "right": "read", "deny": False},
        {"principal": "agent:ada", "right": "read", "deny": True},
    ]
    about = {"id": id, "name": name, "scope": "company", "scope_id": None, "language": "en", "grants": grants}
    return about | {"documents": 2, "chunks": 1200, "reindexing": False} | more


def a_document(**more: Any) -> dict[str, Any]:
    about = {"id": TIDES, "space_id": HANDBOOK, "title": "tides.md", "version": 1, "state": "ready", "chunks": 3}
    about |= {"pages": None, "size": 2048}
    return about | {"error": None, "progress": 1.0, "updated_at": "2025-03-01T12:00:00Z"} | more


FOUND = {
    "items": [
        {
            "document": {"id": TIDES, "external_id": None, "title": "tides.md", "version": 1},
            "text": "Spring tides\n  come twice a month.",
            "score": 0.914,
            "page": 3,
        }
    ],
    "receipt": {"spaces": [HANDBOOK], "chunks": 1200, "removed_by_acl": 4, "path": "exact", "took_ms": 12.4},
    "degraded": None,
}


@pytest.fixture
def api(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    monkeypatch.setenv("FLUIDCREW_URL", gateway.url)
    monkeypatch.setenv("COLUMNS", "160")
    spaces = [a_space(HANDBOOK, "Handbook", waits_for="no model answers"), a_space(PAY, "Pay", grants=[])]
    gateway.on("GET /knowledge/spaces", (200, {"items": spaces, "total": 2}))
    return gateway


async def test_files_are_sent_to_a_space_and_waited_for(api: FakeGateway, cli: Cli, tmp_path: Path) -> None:
    api.on("POST /knowledge/documents", (202, a_document(state="received")))
    made = a_document(state="needs_ocr", error="its pages hold no text; run it through text recognition")
    api.on(f"GET /knowledge/documents/{TIDES}", (200, a_document(state="embedding", progress=0.5)), (200, made))
    (tmp_path / "tides.md").write_text("# Tides")
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY}
    done = await cli("knowledge", "add", "tides.md", "--space", "handbook", "--tag", "sea", "--tag", "moon", **environ)
    assert (done.code, done.err) == (1, "")
    assert done.out == "tides.md is needs_ocr: its pages hold no text; run it through text recognition\n"
    (sent,) = api.requests("/knowledge/documents")
    about = {"space_id": [HANDBOOK], "title": ["tides.md"], "name": ["tides.md"], "tags": ["sea,moon"]}
    assert parse_qs(urlsplit(sent.path).query) == about
    assert (sent.body, sent.headers["content-type"]) == (b"# Tides", "text/markdown")
    for arguments, said in (
        (("add", "nowhere.md", "-s", "Pay"), "there is no file nowhere.md"),
        (("add", ".", "-s", "Pay"), ". is a folder: name its files"),
        (("add", "tides.md"), "which space? Give --space: Handbook, Pay"),
        (("add", "tides.md", "tides.md", "-s", "Pay", "--title", "x"), "--title is for one file"),
    ):
        done = await cli("knowledge", *arguments, **environ)
        assert (done.code, said in done.err) == (2, True), done.err


async def test_a_file_of_json_is_sent_as_a_file(api: FakeGateway, tmp_path: Path) -> None:
    api.on("POST /knowledge/documents", (202, a_document()))
    (tmp_path / "data.json").write_text("{}")
    await knowing.add([tmp_path / "data.json"], "Pay", title="", tags=[], waiting=False, as_json=False)
    (sent,) = api.requests("/knowledge/documents")
    assert sent.headers["content-type"] == "application/octet-stream"


async def test_what_is_found_says_where_it_stands_and_what_was_searched(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("POST /knowledge/search", (200, FOUND), (200, FOUND | {"items": [], "degraded": "there is no model"}))
    await knowing.search("spring tides?", "aaaa", limit=3, as_agent="bob", as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "[1] tides.md v1, page 3  0.91",
        "    Spring tides come twice a month.",
        "1,200 chunks in 1 space searched (exact) in 12 ms; 4 not for this agent",
    ]
    (asked,) = api.requests("/knowledge/search")
    about = {"query": "spring tides?", "limit": 3, "as_agent": "bob", "space_ids": [HANDBOOK]}
    assert json.loads(asked.body) == about
    await knowing.search("spring tides?", "", limit=3, as_agent=None, as_json=False)
    nothing, receipt = capsys.readouterr().out.splitlines()
    assert (nothing, receipt.endswith("; by words only: there is no model")) == ("nothing was found", True)
    assert "space_ids" not in json.loads(api.requests("/knowledge/search")[1].body)


async def test_an_agent_without_a_name_is_no_person(api: FakeGateway, cli: Cli) -> None:
    done = await cli("knowledge", "search", "spring tides?", "--as-agent", "", FLUIDCREW_URL=api.url, API_KEY=KEY)
    assert (done.code, "--as-agent is empty" in done.err) == (2, True)
    assert api.requests("/knowledge/search") == []


@pytest.mark.parametrize("command", ["rm", "drop"])
async def test_nothing_is_removed_by_a_name_that_is_empty(gateway: FakeGateway, cli: Cli, command: str) -> None:
    """A variable that was not set: every id begins with nothing, and who has a single document or space would lose it."""
    gateway.on("GET /knowledge/spaces", (200, {"items": [a_space(HANDBOOK, "Handbook")], "total": 1}))
    gateway.on("GET /knowledge/documents", (200, {"items": [a_document()], "total": 1}))
    gateway.on(f"DELETE /knowledge/documents/{TIDES}", (200, {"removed": a_document()}))
    gateway.on(f"DELETE /knowledge/spaces/{HANDBOOK}", (200, {"removed": a_space(HANDBOOK, "Handbook")}))
    done = await cli("knowledge", command, "", FLUIDCREW_URL=gateway.url, API_KEY=KEY)
    assert (done.code, "is empty" in done.err) == (2, True), done
    assert not [
        path for path in (f"/knowledge/documents/{TIDES}", f"/knowledge/spaces/{HANDBOOK}") if gateway.requests(path)
    ]


async def test_a_document_is_removed_by_its_id_however_many_are_newer(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET /knowledge/documents", (200, {"items": [], "total": 0}))
    api.on(f"GET /knowledge/documents/{TIDES}", (200, a_document()))
    api.on(f"DELETE /knowledge/documents/{TIDES}", (200, {"removed": a_document()}))
    assert await knowing.remove(TIDES, "", as_json=False) == Exit.OK
    assert capsys.readouterr().out == "tides.md is removed; it is found no more\n"


async def test_where_documents_are_of_several_spaces_each_says_of_which(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET /knowledge/documents", (200, {"items": [a_document(), a_document(space_id=PAY)], "total": 2}))
    await knowing.list_documents("", state=None, limit=3, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["space", "Handbook", "Pay"]


async def test_documents_and_spaces_are_listed_and_removed(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = a_document(id="dddd4444", title="b.pdf", state="failed", error="it has a password")
    wordy = a_document(id="eeee5555", title="c.pdf", waits_for="the budget does not allow it")
    api.on("GET /knowledge/documents", (200, {"items": [a_document(), failed, wordy], "total": 9}))
    await knowing.list_documents("", state=None, limit=3, as_json=False)
    _, tides, other, third, more = capsys.readouterr().out.splitlines()
    assert third.endswith("the budget does not allow it")
    assert document_line(wordy).plain.endswith("3 chunks; by words only: the budget does not allow it")
    assert tides.split()[:6] == ["tides.md", "v1", "ready", "3", "2.0", "KiB"]
    assert (other.split()[2], other.rstrip().endswith("it has a password")) == ("failed", True)
    assert more == "3 of 9; more with --limit"
    await knowing.list_spaces(as_json=False)
    _, handbook, waits, pay = capsys.readouterr().out.splitlines()
    assert "* reads, not agent:ada reads" in handbook
    assert waits.strip() == "waits: no model answers"
    assert "people only" in pay
    api.on(f"DELETE /knowledge/documents/{TIDES}", (200, {"removed": a_document()}))
    await knowing.remove("Tides.md", "", as_json=False)
    assert capsys.readouterr().out == "tides.md is removed; it is found no more\n"
    with pytest.raises(Halt, match="there is no document 'zzz'"):
        await knowing.remove("zzz", "", as_json=False)
    api.on(f"DELETE /knowledge/spaces/{PAY}", (200, {}))
    await knowing.drop("pay", force=True, as_json=False)
    assert parse_qs(urlsplit(api.requests(f"/knowledge/spaces/{PAY}")[0].path).query) == {"force": ["true"]}
    with pytest.raises(Halt, match="there is no space 'nowhere'"):
        await knowing.drop("nowhere", force=False, as_json=False)


async def test_a_space_is_made_for_those_it_is_for(api: FakeGateway) -> None:
    api.on("POST /knowledge/spaces", (201, a_space(PAY, "Site")))
    readers = ["role:writer", "agent:ada"]
    await knowing.new("Site", language="fr", project="website", agent="", readers=readers, as_json=False)
    (made,) = api.requests("/knowledge/spaces")
    grants = [{"principal": each} for each in readers]
    about = {"name": "Site", "scope": "project", "scope_id": "website", "language": "fr", "grants": grants}
    assert json.loads(made.body) == about
    with pytest.raises(Halt) as caught:
        await knowing.new("Site", language="fr", project="website", agent="ada", readers=None, as_json=False)
    assert caught.value.code is Exit.USAGE


async def test_a_run_shows_what_it_cites_and_is_shown_without_when_knowledge_is_away(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"/runs/{RUN_ID}/citations"
    cited = FOUND["items"][0] | {"node_key": "write", "n": 2}  # type: ignore[index]
    async with Gateway(api.url, KEY) as http:
        assert await citations(http, RUN_ID) == []
        api.on(f"GET {where}", (200, {"items": [cited], "unknown": 0}))
        assert await print_citations(http, RUN_ID, console()) == 1
        assert capsys.readouterr().out.splitlines() == ["Cites", "  write [2] tides.md v1, page 3"]
        api.on(f"GET {where}", (500, {}))
        assert await citations(http, RUN_ID) == []
