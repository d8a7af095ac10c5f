"""Sidecars as files: exported under safe names, checked whatever lies there, and older ones read without touching them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidcrew import app, surroundings
from fluidcrew.exits import Exit
from fluidcrew.exporting import folder_names
from fluidcrew.sidecar_files import MOST_BYTES, Unusable, found_in
from tests.cli.conftest import Cli, Ended
from tests.cli.fake_gateway import RUN_ID, FakeGateway, finished_run, node
from tests.contracts.sidecar_example import EXAMPLE

RUN = EXAMPLE["run_id"]
LATER = "7f3c1d52-8f0e-4b7a-9a51-3d2c6f1e0b11"
AT_NINE, AT_ELEVEN = (
    {"started_at": f"2024-05-21T{h}:00:00Z", "ended_at": f"2024-05-21T{h}:00:01Z"} for h in ("09", "11")
)
OLD = {name: value for name, value in EXAMPLE.items() if name != "version"}


def put(top: Path, document: Any, name: str = "a", run: str = RUN, node: str = "draft") -> Path:
    path = top / run / "nodes" / node / f"{name}.llm.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


Said = Callable[..., Ended]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command that asks nobody says, in this process and a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNS_ROOT", raising=False)
    monkeypatch.setattr(surroundings, "load_environment", lambda: None)

    def run(*arguments: str) -> Ended:
        code = app.run(arguments)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where commands look by themselves."""
    return tmp_path / ".runs"


def test_nothing_to_check_is_no_failure(said: Said) -> None:
    ended = said("validate")
    assert ended.code == Exit.OK
    assert ended.out.splitlines()[0] == "OK 0 KO 0 SKIP 0"
    assert "export --last" in ended.out


def test_each_mistake_is_told_with_file_and_json_path(said: Said, runs: Path) -> None:
    put(runs, EXAMPLE | {"colour": "red"})
    bad = put(runs, EXAMPLE | {"usage": {"prompt_tokens": "10"}}, "b")
    ended = said("validate")
    assert ended.code == Exit.FAILED
    shown = bad.relative_to(runs.parent)
    assert ended.out.splitlines() == [
        "OK 1 KO 1 SKIP 0",
        f"KO {shown}: $.usage.prompt_tokens: Input should be a valid integer",
        f"KO {shown}: $.usage.completion_tokens: Field required",
        f"warning: $.colour: unknown field ({shown.with_name('a.llm.json')})",
    ]


def test_older_ones_and_foreign_runs_are_skipped_unless_asked_for(said: Said, runs: Path) -> None:
    put(runs, EXAMPLE)
    put(runs, OLD, "old")
    put(runs, EXAMPLE, run="run-42")
    plain = said("validate", "--strict")
    assert (plain.code, plain.out.splitlines()[0]) == (Exit.OK, "OK 1 KO 0 SKIP 2")
    assert "--all" in plain.out
    assert "--non-uuid" in plain.out
    everything = said("validate", "--all", "--non-uuid")
    assert (everything.code, everything.out.splitlines()[0]) == (Exit.FAILED, "OK 2 KO 1 SKIP 0")
    assert "old.llm.json: $.version: Field required" in everything.out


def test_what_is_tolerated_is_refused_in_strict(said: Said, runs: Path) -> None:
    put(runs, EXAMPLE | {"raw": {"id": 1}}, "raw")
    put(runs, EXAMPLE | {"model_used": "gpt-4o-mini"}, "used")
    tolerant, strict = said("validate"), said("validate", "--strict")
    assert (tolerant.code, tolerant.out.splitlines()[0]) == (Exit.OK, "OK 2 KO 0 SKIP 0")
    assert "warning: $.raw: deprecated" in tolerant.out
    assert (strict.code, strict.out.splitlines()[0]) == (Exit.FAILED, "OK 0 KO 2 SKIP 0")
    assert "raw.llm.json: $.raw: deprecated" in strict.out
    assert "used.llm.json: $.model_used: 'gpt-4o-mini' differs from model 'gpt-4o'" in strict.out


@pytest.mark.parametrize(
    ("since", "summary"),
    [
        (RUN, "OK 2 KO 0 SKIP 0"),
        (LATER, "OK 1 KO 0 SKIP 1"),
        (LATER[:8], "OK 1 KO 0 SKIP 1"),
        ("2024-05-21T10:00:00Z", "OK 1 KO 0 SKIP 1"),
        ("2024-05-21T12:00:00+02:00", "OK 1 KO 0 SKIP 1"),
        ("1h30m", "OK 0 KO 0 SKIP 2"),
    ],
)
def test_since_a_run_a_time_or_a_duration(said: Said, runs: Path, since: str, summary: str) -> None:
    put(runs, EXAMPLE | {"timestamps": AT_NINE})
    put(runs, EXAMPLE | {"timestamps": AT_ELEVEN}, run=LATER)
    ended = said("validate", "--since", since)
    assert (ended.code, ended.out.splitlines()[0]) == (Exit.OK, summary)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--since", "3f2a91c0-5b1d-4c3e-9a77-0c6f2b1d8e90"], "there is no such run in .runs"),
        (["--since", "yesterday"], "give a run that lies there, a time"),
        (["--since", "4711"], "give a run that lies there, a time"),
        (["--since", "123e"], "2 runs in .runs begin with it"),
        (["elsewhere"], "there is no elsewhere: give a directory with sidecars"),
    ],
)
def test_what_is_not_there_is_one_line_and_code_2(said: Said, runs: Path, arguments: list[str], hint: str) -> None:
    put(runs, EXAMPLE)
    put(runs, EXAMPLE, run=RUN[:-1] + "9")
    ended = said("validate", *arguments)
    assert (ended.code, len(ended.err.splitlines())) == (Exit.USAGE, 1)
    assert hint in ended.err


def test_whatever_lies_there_is_judged_with_a_reason_and_never_breaks_the_check(said: Said, runs: Path) -> None:
    wrong = {
        "binary": (b"\x80\x81\x00", "is no JSON: not UTF-8 at byte 0"),
        "empty": (b" \n", "is empty"),
        "list": (b"[]", "must be a JSON object"),
        "cut": (b'{"version": "1.0",', "is no JSON: Expecting property name"),
        "nan": (b'{"version": NaN}', "is no JSON: NaN"),
        "infinite": (b'{"version": 1e999}', "is no JSON: 1e999"),
        "deep": (b"[" * 300 + b"]" * 300, "is nested deeper than 100 levels"),
        "abyss": (b"[" * 200_000, "is nested deeper than 100 levels"),
        "digits": (b'{"version": ' + b"9" * 5000 + b"}", "a number has too many digits"),
        "half": (b'{"version": "\\ud800"}', "half of a surrogate pair"),
        "huge": (b" " * (MOST_BYTES + 1), "bytes, and a sidecar 4,194,304 at most"),
        "many": (json.dumps(EXAMPLE | {"warnings": [1] * 500}).encode(), "and 480 more"),
    }
    for name, (data, _) in wrong.items():
        put(runs, "", name).write_bytes(data)
    good = put(runs, EXAMPLE, "good")
    put(runs, "", "bom").write_bytes(b"\xef\xbb\xbf" + good.read_bytes())
    odd = good.with_name("line\nbreak\x1b[31m.llm.json")
    odd.write_text("{}x")
    good.with_name("link.llm.json").symlink_to(good)
    good.with_name("nowhere.llm.json").symlink_to("nowhere")
    good.with_name("folder.llm.json").mkdir()
    (runs / "circle").symlink_to(runs, target_is_directory=True)
    os.mkfifo(good.with_name("pipe.llm.json"))

    ended = said("validate")

    assert (ended.code, ended.err) == (Exit.FAILED, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"OK 2 KO {len(wrong) + 1} SKIP 5"
    for name, (_, reason) in wrong.items():
        assert any(f"/{name}.llm.json: " in line and reason in line for line in lines), name
    assert "\x1b" not in ended.out
    assert all(line.startswith(("OK ", "KO ", "SKIP ")) for line in lines), "no name breaks its line"
    for reason in ("a symbolic link: not followed", "to a directory: not followed", "a directory", "no regular file"):
        assert any(line.startswith("SKIP ") and reason in line for line in lines), reason


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory everybody may enter, while we have no more rights than anybody."""
    path = Path(tempfile.mkdtemp(prefix="fluidcrew-sidecars-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_what_may_not_be_read_is_told_and_the_rest_is_read(nobodys: Path) -> None:
    put(nobodys, EXAMPLE, "closed").chmod(0)
    put(nobodys, EXAMPLE, "open")
    closed = put(nobodys, EXAMPLE, run=LATER).parent
    closed.chmod(0)
    us = os.geteuid()
    if us == 0:
        os.seteuid(65534)
    try:
        told = {}
        for found in found_in(nobodys):
            try:
                told[found.path.name] = found.read() == EXAMPLE
            except Unusable as why:
                told[found.path.name] = (str(why), why.passed)
    finally:
        os.seteuid(us)
        closed.chmod(0o755)
    assert told == {
        "closed.llm.json": ("cannot be read: Permission denied", False),
        "open.llm.json": True,
        "draft": ("cannot be looked into: Permission denied", False),
    }


def accounted(key: str, attempt: int = 1, call: int = 1) -> dict[str, Any]:
    return EXAMPLE | {"metadata": {"node": key, "attempt": attempt, "call": call}}


def a_run_with(gateway: FakeGateway, *documents: dict[str, Any], keys: tuple[str, ...] = ("draft", "review")) -> None:
    gateway.on(f"GET /runs/{RUN_ID}", (200, finished_run(*(node(key) for key in keys))))
    pages = [documents[at : at + 2] for at in range(0, len(documents), 2)]
    gateway.on(
        f"GET /runs/{RUN_ID}/sidecars", *((200, {"items": list(page), "total": len(documents)}) for page in pages)
    )


def identities(runs: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in runs.rglob("*") if path.is_file()]
    nodes = runs / RUN_ID / "nodes"
    return {str(path.relative_to(nodes)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


async def test_a_run_is_exported_to_where_it_is_looked_for_and_twice_is_once(
    cli: Cli, gateway: FakeGateway, runs: Path
) -> None:
    documents = [accounted("draft"), accounted("draft", attempt=2, call=11), accounted("review")]
    a_run_with(gateway, *documents)
    first = await cli("export", RUN_ID, FLUIDCREW_URL=gateway.url)
    assert (first.code, first.err) == (Exit.OK, "")
    assert f"3 sidecars in .runs/{RUN_ID}, 3 of them new" in first.out
    before = identities(runs)
    assert sorted(before) == [
        "draft/attempt-001-call-001.llm.json",
        "draft/attempt-002-call-011.llm.json",
        "review/attempt-001-call-001.llm.json",
    ]
    a_run_with(gateway, *documents)
    again = await cli("export", RUN_ID, FLUIDCREW_URL=gateway.url)
    assert f"3 sidecars in .runs/{RUN_ID}, 0 of them new" in again.out
    assert identities(runs) == before, "what lies there already is not written again"
    assert (await cli("validate", "--strict")).out == "OK 3 KO 0 SKIP 0\n"
    offsets = [request.path.split("offset=")[1] for request in gateway.requests(f"/runs/{RUN_ID}/sidecars")]
    assert offsets == ["0", "2", "0", "2"]


async def test_another_place_is_named_by_the_option_or_the_environment(
    cli: Cli, gateway: FakeGateway, tmp_path: Path
) -> None:
    for arguments, environ in ((["--to", "there"], {}), ([], {"RUNS_ROOT": "there"})):
        a_run_with(gateway, accounted("draft"))
        ended = await cli("export", RUN_ID, *arguments, FLUIDCREW_URL=gateway.url, **environ)
        assert ended.code == Exit.OK
        assert (tmp_path / "there" / RUN_ID / "nodes" / "draft").is_dir()
    checked = await cli("validate", RUNS_ROOT="there")
    assert checked.out == "OK 1 KO 0 SKIP 0\n"


async def test_where_nothing_can_be_written_is_one_line(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    a_run_with(gateway, accounted("draft"))
    ended = await cli("export", RUN_ID, "--to", "file", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.USAGE
    assert "cannot write file/" in ended.err


async def test_no_link_leads_an_export_somewhere_else(
    cli: Cli, gateway: FakeGateway, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (runs / RUN_ID).mkdir(parents=True)
    (runs / RUN_ID / "nodes").symlink_to(tmp_path / "outside", target_is_directory=True)
    a_run_with(gateway, accounted("draft"))
    ended = await cli("export", RUN_ID, FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.USAGE
    assert "remove the link" in ended.err
    assert list((tmp_path / "outside").iterdir()) == []


def test_names_of_directories_are_safe_and_no_two_nodes_share_one() -> None:
    keys = ["draft", "Review", "review", "../../etc", ".", "a/b", "a b", "x" * 300, "Résumé", ""]
    names = folder_names(keys)
    assert names["draft"] == "draft"
    assert len({name.casefold() for name in names.values()}) == len(keys)
    for name in names.values():
        assert not name.startswith(".")
        assert "/" not in name
        assert 0 < len(name.encode()) <= 64
    assert folder_names(list(reversed(keys))) == names


def test_older_ones_are_written_as_those_of_today_and_left_as_they_are(said: Said, runs: Path, tmp_path: Path) -> None:
    old = put(runs, {"usage": {"prompt_tokens": "10"}, "prompt": "Bonjour"}, run=LATER)
    put(runs, "{", "broken")
    as_it_was = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    ended = said("normalise", ".runs", "--to", "today")
    assert (ended.code, ended.out.splitlines()[0]) == (Exit.FAILED, "OK 1 KO 1 SKIP 0")
    assert 'usage.prompt_tokens was "10"' in ended.out
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == as_it_was
    read = json.loads((tmp_path / "today" / old.relative_to(runs)).read_text())
    assert (read["usage"]["prompt_tokens"], read["run_id"]) == (10, LATER)
    assert said("validate", "--strict", "today").out.startswith("OK 1 KO 0 SKIP 0\n")


def test_originals_are_never_written_over(said: Said, runs: Path, tmp_path: Path) -> None:
    file = put(runs, OLD)
    as_it_was = file.read_bytes()
    for what, place in ((".runs", ".runs"), (".runs", ".runs/today"), (str(file), str(file.parent))):
        ended = said("normalise", what, "--to", place)
        assert ended.code == Exit.USAGE
        assert "originals are not touched" in ended.err
    (tmp_path / "today").mkdir()
    (tmp_path / "today" / RUN).symlink_to(runs / RUN, target_is_directory=True)
    assert "remove the link" in said("normalise", ".runs", "--to", "today").err
    assert file.read_bytes() == as_it_was
    assert said("normalise", str(file), "--to", "elsewhere").code == Exit.OK
