"""Search: what is found, in which order, by which path, with what receipt."""

from __future__ import annotations

from collections import Counter
from datetime import date
from uuid import uuid4

import pytest

from chassis.context import Context
from chassis.postgres import create_pool
from contracts.knowledge import Language, Search, Searcher
from services.rag.domain import question
from services.rag.domain.rights import Who
from services.rag.handlers.searching import Searching
from services.rag.store.index import lexeme_of
from services.rag.store.search import SETTINGS, Parameters, _asked, _statement
from tests.rag.conftest import World

TIDES = "Two high waters a day, each about fifty minutes later than the day before."
KNOTS = "A bowline makes a loop that does not slip."


async def test_a_passage_is_found_by_its_words_and_shown_as_it_lies_in_its_document(live: World) -> None:
    space = await live.space()
    tides = await live.know(space, "Tides", TIDES, " The moon pulls the water.")
    await live.know(space, "Knots", KNOTS)
    found = await live.search("when is the next high water")
    first = found.items[0]
    assert first.document.id == tides.id
    assert first.document.version == 1
    start, stop = first.offsets
    assert (TIDES + " The moon pulls the water.")[start:stop] == first.text
    assert set(first.scores) == {"cosine", "bm25", "grams", "title"}
    assert all(0 <= part <= 1 for part in first.scores.values())
    assert found.degraded is None
    assert (found.receipt.path, found.receipt.spaces, found.receipt.chunks) == ("exact", [space.id], 3)


async def test_neighbours_that_are_both_found_are_shown_as_one_passage(live: World) -> None:
    space = await live.space()
    await live.know(space, "Tides", "The spring tide is highest. ", "The neap tide is lowest. ")
    found = await live.search("spring tide and neap tide")
    assert [item.text for item in found.items] == ["The spring tide is highest. The neap tide is lowest. "]
    assert found.items[0].offsets == (0, 53)


async def test_few_chunks_of_one_document_leave_room_for_others(live: World) -> None:
    space = await live.space()
    long = [f"The tide number {n} is a tide. " if n % 2 == 0 else "Something else entirely. " for n in range(12)]
    await live.know(space, "Many tides", *long)
    await live.know(space, "One", "There is a tide here.")
    assert Counter(await live.titles("tide", limit=4)) == {"Many tides": 3, "One": 1}


async def test_a_misspelled_question_without_accents_finds_french(live: World) -> None:
    space = await live.space(language="fr")
    await live.know(space, "Congés", "Les salariés reçoivent vingt-cinq jours de congés payés par année.")
    await live.know(space, "Horaires", "Le bureau ouvre à neuf heures.")
    assert (await live.titles("conges payes des salaries"))[0] == "Congés"
    assert (await live.titles("conjés payez"))[0] == "Congés"


async def test_spaces_of_two_languages_are_searched_at_once(live: World) -> None:
    english, french = await live.space("English"), await live.space("Français", language="fr")
    await live.know(english, "Holidays", "Holidays are granted by the director.")
    await live.know(french, "Vacances", "Les vacances sont accordées par la directrice.")
    found = await live.search("directrice vacances")
    assert found.items[0].document.title == "Vacances"
    assert found.receipt.languages == ["en", "fr"]


async def test_without_a_model_words_are_searched_and_the_answer_says_so(live: World) -> None:
    live.words.why = "no model is installed; run make setup"
    space = await live.space()
    await live.know(space, "Tides", TIDES, vectors=False)
    found = await live.search("high waters")
    assert [item.document.title for item in found.items] == ["Tides"]
    assert found.degraded == "no model is installed; run make setup"
    assert found.receipt.path == "lexical"
    assert found.items[0].scores["cosine"] == 0


@pytest.mark.parametrize("little", [0, 3_000], ids=["looked for", "all compared"])
async def test_words_alone_find_the_same_whether_they_are_looked_for_or_all_is_compared(
    live: World, monkeypatch: pytest.MonkeyPatch, little: int
) -> None:
    monkeypatch.setattr(question, "LITTLE", little)
    live.words.why = "no model is installed"
    space = await live.space()
    for title, text in (("Tides", TIDES), ("Knots", KNOTS), ("Water", "Water is wet.")):
        await live.know(space, title, text, vectors=False)
    assert await live.titles("waters") == ["Tides", "Water"]
    assert await live.titles("unheard of") == []


async def test_filters_narrow_to_documents_tags_and_dates(live: World) -> None:
    space = await live.space()
    old = await live.know(space, "Old tides", TIDES, tags=["sea"], dated=date(2020, 1, 1))
    await live.know(space, "New tides", TIDES, tags=["sea", "new"], dated=date(2026, 1, 1))
    await live.know(space, "Undated tides", TIDES)
    assert await live.titles("waters", document_ids=[old.id]) == ["Old tides"]
    assert await live.titles("waters", tags=["sea", "new"]) == ["New tides"]
    assert set(await live.titles("waters", tags=["sea"])) == {"Old tides", "New tides"}
    assert await live.titles("waters", dated_to=date(2021, 1, 1)) == ["Old tides"]
    assert await live.titles("waters", dated_from=date(2021, 1, 1)) == ["New tides"]
    assert await live.titles("waters", document_ids=[]) == []


async def test_no_space_is_not_every_space(live: World) -> None:
    await live.know(await live.space(), "Tides", TIDES)
    found = await live.search("waters", space_ids=[])
    assert (found.items, found.receipt.spaces, found.receipt.path) == ([], [], "none")
    assert await live.titles("waters", space_ids=[uuid4()]) == []


async def test_a_question_of_nothing_but_stop_words_or_quotes_is_answered(live: World) -> None:
    await live.know(await live.space(), "Tides", TIDES)
    for asked in ("and the of", "'; drop table spaces; --", "\\' | & !", "🌊", "a" * 2000):
        await live.search(asked)
    assert await live.titles("waters") == ["Tides"]


async def test_another_company_is_another_world(live: World) -> None:
    space = await live.space()
    await live.know(space, "Tides", TIDES)
    found = await live.search("waters", company="acme", space_ids=[space.id])
    assert (found.items, found.receipt.removed_by_acl) == ([], 0)
    theirs = await live.space("Theirs", company="acme")
    await live.know(theirs, "Their tides", TIDES)
    assert await live.titles("waters", company="acme") == ["Their tides"]
    assert await live.titles("waters") == ["Tides"]


async def test_a_new_version_takes_the_place_of_the_old_one_at_once_and_whole(live: World) -> None:
    space = await live.space()
    first = await live.know(space, "Tides", "Low water is at noon.", external_id="tides")
    second = await live.add(space, "Tides and currents", "High water is at noon.", external_id="tides")
    assert (second.id, second.version, second.searchable) == (first.id, 2, 1)
    assert await live.titles("noon") == ["Tides"]
    assert await live.make_ready(second, ["High water is ", "at noon."])
    found = await live.search("low water at noon")
    assert {(item.document.title, item.document.version) for item in found.items} == {("Tides and currents", 2)}
    assert "Low" not in "".join(item.text for item in found.items)
    assert found.receipt.chunks == 2


async def test_an_older_version_that_ends_later_does_not_come_back(live: World) -> None:
    space = await live.space()
    first = await live.add(space, "Tides", "one", external_id="tides")
    second = await live.add(space, "Tides", "two", external_id="tides")
    assert await live.make_ready(second, ["The second text."])
    assert not await live.make_ready(first, ["The first text."])
    assert [item.text for item in (await live.search("text")).items] == ["The second text."]


async def test_counters_are_as_if_only_what_is_searched_had_ever_been_there(live: World) -> None:
    space = await live.space()
    for text in ("one tide", "two tides and a moon", "three"):
        document = await live.know(space, "Tides", text, " again ", external_id="tides")
    other = await live.know(space, "Other", "something else")
    counted = "select sum(n) as n, count(*) as terms from terms"
    (kept,) = await live.rows(counted)
    (anew,) = await live.rows("select count(*) as n, count(distinct t) as terms from chunks, unnest(terms) as t")
    assert (kept["n"], kept["terms"]) == (anew["n"], anew["terms"])
    (stats,) = await live.rows("select documents, chunks, length from space_stats")
    assert (stats["documents"], stats["chunks"]) == (2, 3)
    for each in (document, other):
        await live.remove(each)
    assert [dict(row) for row in await live.rows("select documents, chunks, length from space_stats")] == [
        {"documents": 0, "chunks": 0, "length": 0}
    ]
    assert await live.rows("select from terms") == []
    for table in ("chunks", "lexemes", "vectors", "building", "versions"):
        assert await live.rows(f"select from {table}") == [], table


async def test_a_graph_finds_what_comparing_everything_finds_inside_rights_and_filters(
    live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rag.handlers.searching.CANDIDATES", 6)
    assert live.rag is not None
    space, closed = await live.space(), await live.space("Closed", grants=[])
    for n in range(30):
        text, tags = f"tide {' '.join(f'x{n}y{at}' for at in range(n))}", ["odd"] if n % 2 else []
        note = await live.know(space if n % 3 else closed, f"Note {n}", text, tags=tags)
        if n % 10 == 9:
            await live.remove(note)
    name = (await live.rows("select tableoid::regclass::text as name from vectors limit 1"))[0]["name"].split(".")[-1]
    await live.rag.pool.execute(
        f"create index graph_384_of_{name} on {name} using hnsw ((h::halfvec(384)) halfvec_ip_ops)"
        " where vector_dims(h) = 384"
    )
    no_choice = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}
    async with await create_pool(live.url, "rag", size=2, **SETTINGS | no_choice) as pool:
        exactly, walking = (Searching(pool, live.words, exact=exact) for exact in (1_000, 0))
        for fields in ({}, {"searcher": Searcher()}, {"tags": ["odd"]}, {"space_ids": [space.id]}):
            ask = Search.model_validate({"query": "tide", "limit": 6} | fields)
            compared, found = await exactly.search(ask, Context()), await walking.search(ask, Context())
            assert [item.document.id for item in found.items] == [item.document.id for item in compared.items]
            assert (compared.receipt.path, found.receipt.path, len(found.items)) == ("exact", "hnsw", 6)


async def test_a_filter_finds_nothing_where_there_is_nothing(live: World) -> None:
    await live.space()
    for fields in ({"dated_to": "2016-09-22"}, {"tags": ["sea"]}, {"document_ids": []}):
        assert (await live.search("tides", **fields)).items == []


async def test_in_a_large_space_words_lead_to_candidates_by_their_own_index(live: World) -> None:
    """The planner would read the whole space by its number: at 100,000 chunks that takes five times as long."""
    space = await live.space()
    for n in range(3):
        await live.know(space, f"Note {n}", *(f"Berth {n} {at} is by the quay. " for at in range(20)))
    (row,) = await live.rows("select number from spaces")
    ask, numbers = Search(query="quay"), [row["number"]]
    terms = question.terms_of("quay", [Language.EN])
    words = question.lexical(terms, dict.fromkeys(terms.values(), 60), 100_000, [lexeme_of(row["number"])])
    parameters = Parameters(_asked(ask.company, None, Who.of(None)))
    statement = _statement(parameters, numbers, [], words, None, 10)
    async with await create_pool(live.url, "rag", size=1, **SETTINGS, enable_seqscan="off") as pool:
        plan = "\n".join(row[0] for row in await pool.fetch(f"explain {statement}", *parameters))
    assert "lexemes_by_stem" in plan
    assert "lexemes_of_a_space" not in plan
