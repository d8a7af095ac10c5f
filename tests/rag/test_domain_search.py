"""What search decides without a database: terms, grams, ranking, fences, rights of an assignment."""

from __future__ import annotations

import unicodedata
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.knowledge import Language
from services.rag.domain.analysis import PLACES, Indexed, analyse, fold, stems
from services.rag.domain.grams import likeness
from services.rag.domain.language import NOTHING_IN_PARTICULAR, language_of
from services.rag.domain.question import LEADING, idf, lexical, terms_of
from services.rag.domain.ranking import PER_DOCUMENT, Candidate, rank
from services.rag.handlers.tools import within
from services.rag.store.index import sparse

EN, FR = Language.EN, Language.FR


def a_candidate(**fields: object) -> Candidate:
    document = uuid4()
    given: dict[str, object] = dict.fromkeys(Candidate.__dataclass_fields__)
    given |= {
        "chunk_id": uuid4(),
        "document_id": document,
        "space_id": uuid4(),
        "title_text": "T",
        "version": 1,
        "ord": 0,
    }
    given |= {
        "start": 0,
        "stop": 4,
        "body": "text",
        "gap": "",
        "folded": " text ",
        "cosine": 0.0,
        "bm25": 0.0,
        "title": 0.0,
    }
    return Candidate(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "language", "same"),
    [
        ("Les salariés reçoivent", FR, "les salaries recoivent"),
        ("l'hôpital", FR, "hopital"),
        ("Aujourd’hui", FR, "AUJOURD'HUI"),
        ("cœur", FR, "coeur"),
        ("The company's policies", EN, "company policy"),
        ("running", EN, "RUN"),
        (unicodedata.normalize("NFD", "congés payés"), FR, "congés payés"),
    ],
)
def test_what_means_the_same_has_the_same_stems(text: str, language: Language, same: str) -> None:
    assert stems(text, language) == stems(same, language) != []


def test_words_that_say_nothing_are_left_out() -> None:
    assert stems("the of and to", EN) == stems("le la de et pour", FR) == []


@given(st.text(max_size=300), st.sampled_from(list(Language)))
def test_any_text_can_be_indexed_and_asked(text: str, language: Language) -> None:
    found = analyse(text, None, text[:50], language)
    assert found.terms == sorted(set(found.terms))
    assert all(1 <= place <= PLACES for place in found.terms)
    assert all(0 < weight < 2.3 for weight in found.weights)
    assert set(terms_of(text[:50], [language])) <= set(found.lexemes)
    assert sparse(found.terms, found.weights).endswith(f"/{PLACES}")
    assert fold(fold(text)) == fold(text)
    likeness(text, [found.folded, ""])


def test_a_word_of_the_title_weighs_more_than_one_of_the_text() -> None:
    def weight(found: Indexed) -> float:
        (place,) = terms_of("tides", [EN]).values()
        return dict(zip(found.terms, found.weights, strict=True))[place]

    assert weight(analyse("water", None, "Tides", EN)) > weight(analyse("tides", None, "Water", EN))


def test_rare_terms_say_more_and_unknown_ones_nothing() -> None:
    assert idf(1, 1000) > idf(500, 1000) > 0
    terms = {"rare": 1, "often": 2, "unknown": 3}
    found = lexical(terms, {1: 2, 2: 900}, 10_000, ["#1"])
    assert found is not None
    assert found.query == "('rare' | 'often') & ('#1')"
    assert found.weights[1] > found.weights[2]
    assert lexical(terms, {}, 1000, ["#1"]) is None


def test_frequent_terms_lead_nowhere_but_still_count() -> None:
    terms = {f"t{n}": n for n in range(1, 11)}
    found = lexical(terms, dict.fromkeys(range(1, 11), 5_000), 100_000, [])
    assert found is not None
    assert found.query.count("|") == LEADING - 1
    assert len(found.weights) == 10


def test_what_a_quarter_has_leads_nowhere_unless_it_is_all_there_is() -> None:
    found = lexical({"rare": 1, "le": 2, "que": 3}, {1: 10, 2: 2_600, 3: 9_000}, 10_000, [])
    assert found is not None
    assert (found.query, len(found.weights)) == ("'rare'", 3)
    only = lexical({"le": 2, "que": 3}, {2: 2_600, 3: 9_000}, 10_000, [])
    assert only is not None
    assert only.query == "'le'"


def test_a_few_chunks_are_led_to_by_the_rarest_terms() -> None:
    terms = {f"t{n}": n for n in range(1, 11)}
    found = lexical(terms, dict.fromkeys(range(1, 11), 1_000), 20_000, [])
    assert found is not None
    assert found.query == "'t1' | 't10' | 't2' | 't3'"


def test_a_stem_cannot_leave_its_quotes() -> None:
    found = lexical({"a' | 'b\\": 1}, {1: 1}, 10_000, [])
    assert found is not None
    assert found.query == r"'a'' | ''b\\'"


def test_grams_find_what_is_misspelled() -> None:
    scores = likeness("accomodation", [" accommodation ", " transport "])
    assert scores[0] > scores[1] == 0
    assert list(likeness("abc", [])) == []


def test_a_document_has_few_places_and_equals_are_in_a_fixed_order() -> None:
    one = uuid4()
    many = [a_candidate(document_id=one, ord=n, start=n * 10, stop=n * 10 + 4, cosine=0.9) for n in range(6)]
    other = a_candidate(cosine=0.5)
    ranked = rank("q", [*many, other], 10, with_vectors=True)
    assert [each.candidate.document_id for each in ranked] == [one] * PER_DOCUMENT + [other.document_id]
    assert [each.candidate.ord for each in ranked[:3]] == [0, 1, 2]
    assert rank("q", [other, *reversed(many)], 10, with_vectors=True) == ranked


def test_neighbours_are_joined_only_when_nothing_lies_between_them() -> None:
    one = uuid4()
    first = a_candidate(document_id=one, body="aaaa", gap="\n\n", cosine=0.5)
    second = a_candidate(document_id=one, ord=1, start=6, stop=10, body="bbbb", cosine=0.9)
    apart = a_candidate(document_id=one, ord=2, start=11, stop=15, body="cccc", cosine=0.4)
    ranked = rank("q", [first, second, apart], 10, with_vectors=True)
    assert [(each.candidate.body, each.candidate.chunk_id) for each in ranked] == [
        ("aaaa\n\nbbbb", second.chunk_id),
        ("cccc", apart.chunk_id),
    ]


def test_scores_are_shares_that_add_up() -> None:
    best, worst = a_candidate(cosine=2.0, bm25=7.0, title=-1.0), a_candidate(cosine=-0.5)
    found = {each.candidate.chunk_id: each for each in rank("text", [best, worst], 10, with_vectors=True)}
    assert found[best.chunk_id].scores == {"cosine": 1.0, "bm25": 1.0, "grams": 1.0, "title": 0.0}
    assert found[best.chunk_id].score == pytest.approx(0.9)
    assert found[worst.chunk_id].scores["cosine"] == 0.0
    assert rank("text", [], 10, with_vectors=False) == []


def test_an_assignment_and_a_model_open_only_what_both_name() -> None:
    a, b = uuid4(), uuid4()
    assert within(None, None) is None
    assert within([a], None) == within(None, [a]) == within([a, b], [a]) == [a]
    assert within([b], [a]) == within([], None) == within(None, []) == []


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Quelles bonnes pratiques pour Windows 10 ?", FR),
        ("a quoi sert l'age du capitaine", FR),
        ("what is the basic mechanism of the transonic aileron buzz", EN),
        ("budget 2019", None),
        ("", None),
    ],
)
def test_the_small_words_of_a_question_tell_its_language(question: str, language: Language | None) -> None:
    assert language_of(question) is language


def test_questions_for_nothing_in_particular_are_of_their_language() -> None:
    for language, questions in NOTHING_IN_PARTICULAR.items():
        assert {language_of(each) for each in questions} == {language}
        assert len(questions) == len(NOTHING_IN_PARTICULAR[EN])
