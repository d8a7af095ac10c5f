"""The grammar: what it builds it parses back, and nothing else gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import catalog, subjects
from contracts.subjects import BadSubject, Kind, Subject

slugs = st.from_regex(subjects.SLUG_PATTERN, fullmatch=True)
words = st.from_regex(subjects.WORD, fullmatch=True)
ids = st.from_regex(subjects.IDENTIFIER, fullmatch=True)
owners = st.sampled_from(subjects.OWNERS)


@given(st.sampled_from(sorted(subjects.STORY_KINDS)), slugs, owners, words, words, ids)
def test_a_story_subject_is_parsed_back_as_it_was_built(
    kind: Kind, company: str, owner: str, entity: str, verb: str, id: str
) -> None:
    built = subjects.story(kind, company, owner, entity, verb, id)
    assert subjects.parse(built) == Subject(kind, owner, entity, verb, company, id)
    assert str(subjects.parse(built)) == built


@given(owners, words, words)
def test_requests_signals_and_dead_letters_are_parsed_back(owner: str, entity: str, verb: str) -> None:
    assert str(subjects.parse(subjects.request(owner, entity, verb))) == f"rpc.{owner}.{entity}.{verb}"
    assert str(subjects.parse(subjects.signal(owner, entity))) == f"sig.{owner}.{entity}"
    assert subjects.parse(subjects.dead_letter("planner-runs")).kind is Kind.DEAD_LETTER


@given(st.text(max_size=60))
def test_any_text_is_parsed_back_to_itself_or_refused(text: str) -> None:
    try:
        parsed = str(subjects.parse(text))
    except BadSubject:
        return
    assert parsed == text


@pytest.mark.parametrize("token", ["", "*", ">", "a.b", "A", "é", "a b", "a" * 40, "-a", "a\n", "a\x00"])
def test_a_company_that_would_break_a_filter_is_refused(token: str) -> None:
    with pytest.raises(BadSubject, match="company"):
        subjects.story(Kind.EVENT, token, "planner", "task", "created", "id")


@pytest.mark.parametrize(
    "subject",
    [
        "evt.acme.planner.task.created",
        "evt.acme.planner.task.created.id.more",
        "evt.acme.somebody.task.created.id",
        "evt.acme.planner.Task.created.id",
        "rpc.planner.task",
        "xyz.acme",
        "",
        "dlq.a.b",
        "evt.acme.planner.task.created.*",
    ],
)
def test_what_is_not_in_the_grammar_is_refused(subject: str) -> None:
    with pytest.raises(BadSubject):
        subjects.parse(subject)


def test_one_filter_follows_one_run() -> None:
    assert subjects.story_filter(Kind.EVENT, id="run-1") == "evt.*.*.*.*.run-1"


def test_every_message_has_an_address_of_its_own_and_has_one_owner_per_module() -> None:
    names = [message.type_name() for message in catalog.MESSAGES]
    assert len(names) == len(set(names))
    owners: dict[str, set[str]] = {}
    for declared in (*catalog.MESSAGES, *catalog.REQUESTS):
        owners.setdefault(declared.__module__, set()).add(declared.owner)
    assert {module: len(whose) for module, whose in owners.items()} == dict.fromkeys(owners, 1)
    assert owners["contracts.planner"] == {"planner"}
    assert owners["contracts.executor"] == {"executor"}
    addresses = [request.subject() for request in catalog.REQUESTS]
    assert len(addresses) == len(set(addresses))


def test_commands_are_imperative_and_facts_are_past_tense() -> None:
    irregular = {"ready", "token", "overridden", "reviewing", "given", "set", "critical", "review_overdue", "progress"}
    for event in catalog.EVENTS:
        assert event.verb.endswith("ed") or event.verb in irregular, event.type_name()
