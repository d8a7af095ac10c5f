"""Reading documents in the process of its own: what comes out of good ones, and what is said of bad ones."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from chassis.confined import WorkerDied
from chassis.confined_worker import Limit
from chassis.testing.eventually import eventually
from contracts.errors import FluidcrewError
from services.rag.adapters import parser
from services.rag.adapters.parser import COMMAND, Parser
from services.rag.domain.kinds import LONGEST, SAMPLE, Kind, NeedsOcr, Unreadable, kind_of
from services.rag.domain.parsed import Parsed
from tests.rag.files import archive, docx, entity_bomb, pdf

Instead = Callable[[str], None]

PAGE = "\n".join(["The harbour opens at six in the morning.", "Ships (and boats) wait outside until then."] * 5)
HTML = """<!doctype html><html><head><title>Tides</title><script>var x = "no";</script></head><body><nav>Home</nav>
<main><h1>Tides</h1><p>Two high waters<br>a&nbsp;day.</p><ul><li>Spring</li><li>Neap</li></ul>
<table><tr><th>Day</th><th>Height</th></tr><tr><td>1</td><td>4.2 m</td></tr></table>
<h2>Code</h2><pre>a = 1
  b = 2</pre></main><footer>Imprint</footer></body></html>"""


async def read(data: bytes, tmp_path: Path, name: str = "", content_type: str = "") -> Parsed:
    file = tmp_path / "document"
    file.write_bytes(data)
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    text = (await Parser().parse(file, kind_of(data[:SAMPLE], name, content_type), room)).text
    return text if isinstance(text, Parsed) else Parsed.of_json(text.read_bytes())


async def complaint(data: bytes, tmp_path: Path, name: str = "") -> str:
    with pytest.raises(Unreadable) as caught:
        await read(data, tmp_path, name)
    return str(caught.value)


async def test_a_pdf_gives_its_text_by_page_and_its_bookmarks_as_headings(tmp_path: Path) -> None:
    data = pdf([f"Opening hours\n{PAGE}", f"Fees\n{PAGE}"], bookmarks=[("Opening hours", 0), ("Fees", 1)])
    parsed = await read(data, tmp_path)
    assert "Ships (and boats) wait outside until then." in parsed.text
    assert [parsed.page_at(parsed.text.index(word)) for word in ("Opening", "Fees")] == [1, 2]
    assert [(one.level, one.title, parsed.text[one.start : one.stop]) for one in parsed.headings] == [
        (1, "Opening hours", "Opening hours"),
        (1, "Fees", "Fees"),
    ]


async def test_a_word_document_keeps_its_headings(tmp_path: Path) -> None:
    parsed = await read(docx(["Rules", "Rest for an hour.", "É à <b>"], headings=["Rules"]), tmp_path, "rules.docx")
    assert parsed.text == "# Rules\n\nRest for an hour.\n\nÉ à <b>"
    assert [(one.level, one.title) for one in parsed.headings] == [(1, "Rules")]


async def test_a_page_is_read_without_what_surrounds_it(tmp_path: Path) -> None:
    parsed = await read(HTML.encode(), tmp_path, "tides.txt")
    assert parsed.text == (
        "# Tides\n\nTwo high waters a day.\n\n- Spring\n- Neap\n\nDay | Height\n1 | 4.2 m\n\n## Code\n\na = 1\n  b = 2"
    )
    assert [one.title for one in parsed.headings] == ["Tides", "Code"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve\r\ncafé".encode(), "naïve\ncafé"),
        ("naïve".encode("utf-16"), "naïve"),
        (b"\xef\xbb\xbfna\xc3\xafve", "naïve"),
        ("naïve – café".encode("cp1252"), "naïve – café"),
    ],
    ids=["utf-8", "utf-16", "utf-8 with a mark", "windows"],
)
async def test_text_is_read_in_the_encoding_it_has(data: bytes, text: str, tmp_path: Path) -> None:
    assert (await read(data, tmp_path, "a.txt")).text == text


BAD = {
    "empty": (b"", "empty"),
    "blank": (b" \n\t\n ", "holds no text"),
    "truncated PDF": (pdf([PAGE])[:200], "cut off or damaged"),
    "encrypted PDF": (pdf([PAGE], encrypted=True), "without a password"),
    "old Word file": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "save it as .docx"),
    "spreadsheet": (archive({"xl/workbook.xml": b"<x/>", "[Content_Types].xml": b"<x/>"}), "spreadsheet"),
    "archive": (archive({"a.txt": b"text"}), "unpack it"),
    "truncated Word file": (docx(["A text."])[:-80], "cut off or damaged"),
    "Word file that is no XML": (docx([], extra={"word/document.xml": b"<w:document><w:body>"}), "save it anew"),
    "Word file that grows": (docx([], extra={"word/document.xml": b"<w>" + b" " * 40_000_000}), "not unpacked"),
    "Word file with a billion laughs": (entity_bomb(), "save it anew"),
    "program": (b"\x7fELF" + bytes(60), "program"),
    "bytes": (bytes(range(256)) * 4, "save it as one of them"),
    "page without text": (b"<!doctype html><html><body><script>x()</script></body></html>", "holds no text"),
    "long text": (b"word " * (LONGEST // 5 + 1), "split it"),
}


@pytest.mark.parametrize("what", list(BAD))
async def test_what_cannot_be_read_is_told_with_the_way_out(what: str, tmp_path: Path) -> None:
    data, expected = BAD[what]
    assert expected in await complaint(data, tmp_path, "report.pdf")


async def test_a_scan_is_told_from_a_text(tmp_path: Path) -> None:
    for pages, said in (([""], "in 1 page,"), ([""] * 3, "in 3 pages,")):
        with pytest.raises(NeedsOcr, match=f"almost no text {said}"):
            await read(pdf(pages), tmp_path)
    with pytest.raises(NeedsOcr, match="PNG image"):
        await read(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", tmp_path)


async def test_ten_thousand_pages_are_read_or_refused_in_bounded_time(tmp_path: Path) -> None:
    assert "5,000,000 characters; split the file" in await complaint(pdf([PAGE * 2] * 10_000), tmp_path)


async def test_the_first_bytes_decide_what_a_file_is_not_its_name(tmp_path: Path) -> None:
    assert "The harbour opens" in (await read(pdf([PAGE]), tmp_path, "notes.txt", "text/plain")).text
    assert kind_of(b"\x00\n" + pdf([PAGE]), "", "") is Kind.PDF
    assert kind_of(b"A PDF begins with %PDF-1.4.", "", "") is Kind.TEXT
    assert kind_of(b"# Title", "a.md", "") is Kind.MARKDOWN
    assert kind_of(b"# Title", "a.txt", "text/markdown; charset=utf-8") is Kind.MARKDOWN
    assert kind_of(b"<p>x</p>", "a", "text/html") is Kind.HTML


async def test_deep_nesting_ends_well(tmp_path: Path) -> None:
    data = b"<html><body>" + b"<div>" * 20_000 + b"deep" + b"</div>" * 20_000
    assert (await read(data, tmp_path)).text == "deep"


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Another script in the reading process's place."""

    def put(script: str) -> None:
        (tmp_path / "reader.py").write_text(script)
        monkeypatch.setattr(parser, "COMMAND", (sys.executable, "-I", str(tmp_path / "reader.py")))

    return put


async def test_a_reader_that_does_not_even_end_itself_is_no_verdict_on_the_document(
    instead: Instead, tmp_path: Path
) -> None:
    """Its own alarm comes long before: it was frozen, or we were."""
    instead("import signal; signal.pause()")
    with pytest.raises(WorkerDied, match="has not ended"):
        await Parser(timeout=0.5).parse(tmp_path / "x", Kind.PDF, tmp_path)


async def test_the_reader_is_bounded_before_it_looks_at_a_document(tmp_path: Path) -> None:
    bounds = {
        psutil.RLIMIT_AS: (1 << 30, 1 << 30),
        psutil.RLIMIT_CPU: (60, 61),
        psutil.RLIMIT_FSIZE: (64 << 20, 64 << 20),
        psutil.RLIMIT_NOFILE: (32, 32),
        psutil.RLIMIT_NPROC: (0, 0),
        psutil.RLIMIT_CORE: (0, 0),
    }
    os.mkfifo(tmp_path / "endless")
    reading = asyncio.create_task(Parser().parse(tmp_path / "endless", Kind.HTML, tmp_path))

    def found() -> dict[int, tuple[int, int]]:
        [reader] = [one for one in psutil.Process().children() if COMMAND[-1] in one.cmdline()]
        return {what: reader.rlimit(what) for what in bounds}

    await eventually(lambda: found() == bounds, what="its limits")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize(
    ("limit", "says"),
    [(Limit.MEMORY, "more memory than it may; split it"), (Limit.SIZE, "more text than is taken of one; split it")],
)
async def test_what_the_reader_had_too_little_of_is_told_with_the_way_out(
    limit: Limit, says: str, instead: Instead, tmp_path: Path
) -> None:
    instead(f'print(\'{{"over": "{limit}"}}\')')
    with pytest.raises(Unreadable, match=says):
        await Parser().parse(tmp_path / "x", Kind.PDF, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGXCPU], ids=str)
async def test_a_limit_that_was_hit_is_the_document_s_fault(instead: Instead, tmp_path: Path, number: int) -> None:
    instead(f"import os; os.kill(os.getpid(), {int(number)})")
    with pytest.raises(Unreadable, match="split it"):
        await Parser().parse(tmp_path / "x", Kind.PDF, tmp_path)


async def test_a_reader_that_was_killed_is_nobody_s_verdict_on_the_document(instead: Instead, tmp_path: Path) -> None:
    instead("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(WorkerDied) as caught:
        await Parser().parse(tmp_path / "x", Kind.PDF, tmp_path)
    assert isinstance(caught.value, FluidcrewError)


async def test_the_reader_ends_with_who_asked(instead: Instead, tmp_path: Path) -> None:
    said = tmp_path / "pid"
    instead(f"import os, signal\nwith open({str(said)!r}, 'w') as f: f.write(str(os.getpid()))\nsignal.pause()")
    reading = asyncio.create_task(Parser().parse(tmp_path / "x", Kind.PDF, tmp_path))

    async def started() -> int:
        return int(said.read_text() or 0) if said.exists() else 0

    process = await eventually(started, what="the reading process")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
