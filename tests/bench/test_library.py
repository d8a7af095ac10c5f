"""The library of `make bench`: made of topics, put beside what the product has, and searched by its own statement."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
import pytest

from bench.knowledge import speed, store
from bench.knowledge.library import Library, Seed, library
from bench.knowledge.speed import Question, Shelf, share_found
from chassis.postgres import Connection, connect
from contracts.knowledge import Language
from services.rag.store.graphs import Graph, GraphStore

WORDS = ["harbour", "tide", "berth", "crane", "pilot", "rope", "quay", "buoy", "ferry", "dock"]
ROWS = 1_000


def seeds() -> tuple[list[Seed], np.ndarray]:
    """Twenty texts in two languages, each about a word or two."""
    vectors = np.random.default_rng(1).normal(size=(20, 384)).astype(np.float32)
    texts = [f"{WORDS[n % 10]} {WORDS[n // 2]} number {n} is here" for n in range(20)]
    languages = [Language.FR if n % 2 else Language.EN for n in range(20)]
    made = [Seed(uuid4(), f"Note {n}", languages[n], text) for n, text in enumerate(texts)]
    return made, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shelved() -> tuple[list[Seed], Library]:
    real, vectors = seeds()
    return real, library(real, vectors, ROWS, np.random.default_rng(2))


def test_spaces_have_their_shares_and_are_about_topics(shelved: tuple[list[Seed], Library]) -> None:
    _, made = shelved
    assert [len(space.rows) for space in made.spaces] == [250] * 2 + [50] * 6 + [5] * 40
    assert [space.language for space in made.spaces[:2]] == [Language.EN, Language.FR]
    assert made.of_space().tolist() == [n for n, space in enumerate(made.spaces) for _ in space.rows]
    assert [chunk.space for chunk in made.chunks] == made.of_space().tolist()
    own = [made.vectors[space.rows.start : space.rows.stop] for space in made.spaces[2:8]]
    inside = np.mean([(each @ each.T).mean() for each in own])
    assert inside > 2 * (made.vectors @ made.vectors.T).mean()
    assert np.linalg.norm(made.vectors, axis=1) == pytest.approx(1.0, abs=1e-2)


def test_scopes_are_shares_of_the_library(shelved: tuple[list[Seed], Library]) -> None:
    _, made = shelved
    sizes = {name: {len(made.rows_in(scope)) for scope in scopes} for name, scopes in made.scopes().items()}
    assert sizes == {"50 %": {500}, "5 %": {50}, ".5 %": {5}}
    assert {name: len(scopes) for name, scopes in made.scopes().items()} == {"50 %": 1, "5 %": 6, ".5 %": 40}


def test_a_share_found_counts_each_row_once_and_what_is_as_near_as_the_tenth(
    shelved: tuple[list[Seed], Library],
) -> None:
    _, made = shelved
    question = made.vectors[3].tolist()
    nearest = made.rows_in([0])[np.argsort(-(made.vectors[made.rows_in([0])] @ made.vectors[3]))]
    assert share_found(made, [0], question, nearest[:10].tolist()) == 1.0
    assert share_found(made, [0], question, [*nearest[:5].tolist(), *nearest[-5:].tolist()]) == 0.5
    assert share_found(made, [0], question, [int(nearest[0])] * 10) == 0.1
    assert share_found(made, [0], question, []) == 0.0


async def _known(connection: Connection, real: Sequence[Seed], vectors: np.ndarray) -> None:
    """As they lie when the product has made them searchable."""
    space = uuid4()
    number = await connection.fetchval(
        """insert into spaces (id, company_id, name, scope, language, provider, model, dimension, target)
           values ($1, 'default', 'Real', 'company', 'en', 'local', 'all-MiniLM-L6-v2', 384, 800) returning number""",
        space,
    )
    for at, seed in enumerate(real):
        h = f"[{','.join(map(str, vectors[at]))}]"
        await connection.execute(
            """insert into documents (id, company_id, space_id, identity, title, tags, version, searchable, title_vector)
               values ($1, 'default', $2, $3, $3, '{}', 1, 1, $4::text::halfvec)""",
            *(seed.document, space, seed.title, h),
        )
        chunk = await connection.fetchval(
            """insert into chunks (id, company_id, space, document_id, version, ord, start, stop, body, folded, terms,
                                   length)
               values (gen_random_uuid(), 'default', $1, $2, 1, 0, 0, 9, $3, $3, '{}', 1) returning id""",
            *(number, seed.document, seed.body),
        )
        await connection.execute(
            """insert into vectors (company_id, chunk_id, space, document_id, h)
               values ('default', $1, $2, $3, $4::text::halfvec)""",
            *(chunk, number, seed.document, h),
        )


async def test_a_library_is_searched_as_if_its_documents_had_been_sent(
    shelved: tuple[list[Seed], Library], database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (real, made), url = shelved, database.url_for("rag")
    monkeypatch.setattr(store, "AT_ONCE", 400)  # several slices
    monkeypatch.setattr(speed, "EXACT", 100)  # the scope of half of them is a large one
    connection = await connect(url, "rag")
    try:
        await _known(connection, real, seeds()[1])
        read, vectors = await store.seeds(connection)
        assert {seed.body for seed in read} == {seed.body for seed in real}
        assert vectors.shape == (20, 384)
        spaces, ids = await store.put_in(connection, made)
        await GraphStore(url, "rag").build(Graph(await store.partition_of(connection), 384))
        numbers = await store.numbers_of(connection, spaces)
    finally:
        await connection.close()
    shelf = Shelf(made, spaces, numbers, {id: row for row, id in enumerate(ids)}, url)
    questions = [Question(f"{word} here", made.vectors[at].tolist()) for at, word in enumerate(WORDS)]
    found = await speed.against_study(shelf, questions)
    assert {name: each.paths for name, each in found.items()} == {"50 %": {"hnsw"}, "5 %": {"exact"}, ".5 %": {"exact"}}
    for each in found.values():
        assert len(each.ours) == len(each.study) == len(each.whole) == len(questions)
        assert all(0 < ours < whole for ours, whole in zip(each.ours, each.whole, strict=True))
    assert (await speed.recall(shelf, questions, "5 %")).mean == 1.0
    assert (await speed.recall(shelf, questions, ".5 %")).mean == 1.0
    assert (await speed.recall(shelf, questions, "50 %", **{"hnsw.ef_search": "400"})).mean > 0.9
