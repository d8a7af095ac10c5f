"""What hostile texts and broken servers may take: bounded memory, and an answer that says what is wrong."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis.testing.loopback_http import HttpRequest, HttpResponse, LoopbackHttp
from contracts.knowledge import Embedder
from services.rag.adapters.local_model import LocalModel
from services.rag.adapters.parser import Parser
from services.rag.adapters.remote_vectors import RemoteVectors, Server
from services.rag.adapters.vectors import Vectors
from services.rag.domain import chunking
from services.rag.domain.chunking import Window, cut
from services.rag.domain.kinds import LARGEST, LONGEST, Kind, Unreadable, kind_of
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed
from services.rag.domain.questions import NoVectors
from tests.rag.embeddings import NOBODY, Embeddings, cashier
from tests.rag.files import archive, docx

REMOTE = Embedder(provider="openai", model="letters", dimension=8)


def data(*rows: object) -> dict[str, Any]:
    return {"data": [{"index": at, "embedding": row} for at, row in enumerate(rows)]}


BROKEN = {
    "no vector": (data(), "0 vectors"),
    "too few": (data([1.0] * 8), "1 vectors"),
    "of two lengths": (data([1.0] * 8, [1.0] * 7), "set the space's dimension"),
    "no number": (data([1.0] * 8, [float("nan")] * 8), "no finite numbers"),
    "endless": (data([1.0] * 8, [float("inf")] * 8), "no finite numbers"),
    "too large": (data([1.0] * 8, [1e300] * 8), "no finite numbers"),
    "larger than any": (data([1.0] * 8, [10**400] + [1] * 7), "does not answer as /v1/embeddings does"),
    "a list": ([1, 2], "does not answer as /v1/embeddings does"),
}


async def test_the_vector_of_a_question_is_remembered_in_four_bytes_a_number(remote: RemoteVectors) -> None:
    """Two thousand of the largest are 32 MB then; as Python's own numbers they were 250."""
    vectors = Vectors(None, None, remote, keep=10)  # type: ignore[arg-type]
    found = await vectors.vector(REMOTE, "when is high water?", NOBODY)
    assert memoryview(found).nbytes == REMOTE.dimension * 4  # type: ignore[arg-type]
    assert await vectors.vector(REMOTE, "when is high water?", NOBODY) is found


@pytest.mark.parametrize("what", list(BROKEN))
async def test_vectors_that_are_none_are_refused_with_a_reason(
    server: Embeddings, remote: RemoteVectors, what: str
) -> None:
    body, words = BROKEN[what]
    server.script(200, body)
    with pytest.raises(NoVectors, match=words):
        await remote.vectors(REMOTE, ["a", "b"], NOBODY)


async def test_what_a_server_complains_can_be_written_down() -> None:
    async def answer(_: HttpRequest, response: HttpResponse) -> None:
        await response.send(401, b"no\x00 key")

    async with LoopbackHttp(answer) as server:
        remote = RemoteVectors(
            {"openai": Server(f"http://127.0.0.1:{server.port}/v1", None, "OPENAI_BASE_URL")}, cashier()
        )
        with pytest.raises(NoVectors, match="401: no key"):
            await remote.vectors(REMOTE, ["a"], NOBODY)
        await remote.close()


async def test_a_word_document_need_not_call_its_body_as_others_do(tmp_path: Path) -> None:
    """As some servers write them."""
    there = zipfile.ZipFile(io.BytesIO(docx(["Berth nine."])))
    parts = {name.replace("document.xml", "document2.xml"): there.read(name) for name in there.namelist()}
    file = tmp_path / "document"
    file.write_bytes(archive({name: data.replace(b"document.xml", b"document2.xml") for name, data in parts.items()}))
    room = tmp_path / "room"
    room.mkdir()
    text = (await Parser().parse(file, Kind.DOCX, room)).text
    assert isinstance(text, Path)
    assert Parsed.of_json(text.read_bytes()).text == "Berth nine."


async def test_a_question_is_known_of_one_dimension_only(server: Embeddings, remote: RemoteVectors) -> None:
    vectors = Vectors(None, None, remote, keep=10)  # type: ignore[arg-type]
    await vectors.vector(REMOTE, "When is high water?", NOBODY)
    with pytest.raises(NoVectors, match="set the space's dimension"):
        await vectors.vector(REMOTE.model_copy(update={"dimension": 16}), "When is high water?", NOBODY)


async def test_a_model_that_hangs_is_replaced(models: Path) -> None:
    model = LocalModel(models, threads=1, patience=2.0)
    try:
        await model.vectors(["warm"])
        assert model._process is not None
        os.kill(model._process.pid, signal.SIGSTOP)
        async with asyncio.timeout(60):
            assert (await model.vectors(["When is high water?"])).shape == (1, 384)
    finally:
        await model.close()


@pytest.mark.parametrize("begin", [b"", b"\xff\xfe"], ids=["utf-8", "utf-16"])
async def test_a_text_that_must_be_too_long_is_refused_before_it_is_read(begin: bytes, tmp_path: Path) -> None:
    file = tmp_path / "document"
    with file.open("wb") as sparse:
        sparse.write(begin + b"word ")
        sparse.truncate(LARGEST)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="split it"):
            await Parser().parse(file, Kind.TEXT, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2 * LONGEST
    finally:
        tracemalloc.stop()


HOSTILE = {"lines": "a\n", "paragraphs": "a\n\n", "sentences": "a. ", "headings": "# h\n", "words": "a "}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_what_is_counted_at_once_does_not_grow_with_the_text(what: str) -> None:
    """A tokenizer takes a kilobyte for each text that it is asked about at the same time, and what is too long anyway is not
    counted."""
    asked: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        asked.append(len(texts))
        assert all(len(text) <= 800 + len("Title > h. ") for text in texts)
        return [len(text) // 3 + 1 for text in texts]

    text = HOSTILE[what] * 20_000
    chunks = list(cut(parse_markdown(text), "Title", 800, Window(250, count)))
    assert max(asked) <= chunking.AT_ONCE
    assert " ".join(text[one.start : one.stop] for one in chunks).split() == text.split()


@pytest.mark.parametrize(
    "head", [b"<!-- -->" * 1000 + b"x", b"<!--" * 2000, b" " * 8000, b"<!-- -->" * 900 + b"<?xml " * 150]
)
def test_no_first_bytes_hold_up_who_looks_at_them(head: bytes) -> None:
    """Tried in all the ways in which they could be taken apart, thirty comments took hours, and no search was answered."""
    assert kind_of(head, "", "") is Kind.TEXT
    assert kind_of(b"<!-- a --> <!-- b --><?xml version='1.0'?><!DOCTYPE html>" + head, "", "") is Kind.HTML


@pytest.mark.parametrize("blank", [" ", "\t", "\n", " \n", "\x0c", "\u2003"])
def test_no_blanks_hold_up_who_cuts_them(blank: str) -> None:
    """Looked for a line's end at each of them, a megabyte took an hour."""
    text = f"Before.{blank * 500_000}after"
    window = Window(250, lambda texts: [len(one.split()) for one in texts])
    assert [text[one.start : one.stop] for one in cut(parse_markdown(text), "T", 800, window)] == ["Before.", "after"]
