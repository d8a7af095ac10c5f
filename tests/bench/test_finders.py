"""Peers that search: spoken to as they are measured, and what they are given of Postgres' binary format and the model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import numpy as np
import pypdfium2
import pytest

from bench.contestant import LeftOut
from bench.knowledge import measuring, rivals
from bench.knowledge.binary import as_bytes, copied, same, vectors_of
from bench.knowledge.library import Library, Space
from bench.knowledge.paper import PAGES, pages_of, pdf
from bench.knowledge.speed import Question
from bench.peers.finders import Peer
from bench.peers.process import DriverFailed, driver
from contracts.knowledge import Language

SPACES = [Space(Language.EN, range(30)), Space(Language.FR, range(30, 60)), *(Space(Language.EN, range(0)),) * 46]


def library() -> Library:
    vectors = np.random.default_rng(3).normal(size=(60, 8)).astype(np.float32)
    return Library(SPACES, [], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


async def test_a_finder_answers_what_it_is_asked_with_the_seconds_of_each(tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps({"a": "tides and berths", "b": "tides"}))
    async with driver(Path(sys.executable), "tests.bench.echo_finder", tmp_path / "log", {}) as driving:
        given = {"collection": "sea", "language": "en", "texts": str(tmp_path / "texts.json")}
        assert (await driving.ask("fill", **given))["rows"] == 2
        answer = await driving.ask("ask", collection="sea", questions=["tides", "berths"], limit=10, way="hybrid")
        assert answer["found"] == [["sea en a", "sea en b", "hybrid"], ["sea en a", "hybrid"]]
        assert len(answer["seconds"]) == 2
        many = await driving.ask("ask", collection="sea", questions=["tides"] * 5_000, limit=10, way="")
        assert many["found"] == [["sea en a", "sea en b"]] * 5_000, "longer than what a stream holds by default"
        with pytest.raises(DriverFailed, match="it has one from the beginning"):
            await driving.ask("index")


async def test_who_compares_all_finds_all_in_every_scope_and_rows_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "LOADED_AT_ONCE", 25)
    monkeypatch.setattr(Library, "scopes", lambda _: {"50 %": [[0, 1]], "5 %": [[0], [1]]})
    shelved = library()
    questions = [Question(f"{n}", shelved.vectors[n].tolist()) for n in (1, 40, 7)]
    async with driver(Path(sys.executable), "tests.bench.echo_finder", tmp_path / "log", {}) as driving:
        found, rates = await rivals.in_scopes({"echo": Peer({"": "Echo"}, driving)}, shelved, questions, tmp_path)
    assert {name: scoped.shares for name, scoped in found["Echo"].items()} == {"50 %": [1.0] * 3, "5 %": [1.0] * 3}
    assert rates["Echo"] > 0


async def test_a_peer_that_fails_fails_alone_and_is_asked_no_more(tmp_path: Path) -> None:
    async with driver(Path(sys.executable), "tests.bench.echo_finder", tmp_path / "log", {}) as driving:
        peer, answers = Peer({"": "Echo"}, driving), []
        for order in ("index", "fill"):
            with peer.failing_alone():
                answers.append(await peer.ask(order, collection="sea", language="en", texts="nowhere.json"))
    assert answers == []
    assert "it has one from the beginning" in peer.failure


async def test_rows_in_the_binary_format_arrive_as_they_are(database) -> None:
    ids, vectors = [uuid4(), uuid4()], np.array([[0.5, -1.0, 2.0], [1.0, 0.25, 0.0]], np.float32)
    fields = [
        as_bytes([id.bytes for id in ids], 16),
        same(b"default"),
        (">i4", [7, 8]),
        vectors_of(vectors, "f2"),
        vectors_of(vectors, "f4"),
    ]
    connection = await asyncpg.connect(str(database))
    try:
        await connection.execute("create table copied (id uuid, company text, space int, h halfvec, v vector)")
        await connection.copy_to_table("copied", source=copied(2, fields), format="binary")
        rows = await connection.fetch(
            "select id, company, space, h::text as h, v::text as v from copied order by space"
        )
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [
        (ids[0], "default", 7, "[0.5,-1,2]", "[0.5,-1,2]"),
        (ids[1], "default", 8, "[1,0.25,0]", "[1,0.25,0]"),
    ]


def test_a_paper_has_ten_pages_of_text_however_little_it_is_made_of() -> None:
    pages = pages_of(["The harbour (east) has berths. " * 9, "Étude d'une marée."])
    with pypdfium2.PdfDocument(io.BytesIO(pdf(pages))) as document:
        texts = [page.get_textpage().get_text_range() for page in document]
    assert len(texts) == PAGES
    assert "The harbour (east) has berths." in texts[0]
    assert all("Étude d'une marée." in text for text in texts)


def test_without_collections_search_is_left_out_with_advice(tmp_path: Path) -> None:
    with pytest.raises(LeftOut, match=r"no collection cranfield, piaf-fr, cnil-fr .* name their folder with EVAL_DATA"):
        measuring.collections(tmp_path, measuring.Effort())
