"""Decisions without input and output: roles, pages, cursors, ranges, and the order in which facts are told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Code, Rejection
from services.gateway.domain import paging
from services.gateway.domain.course import Course
from services.gateway.domain.cursor import Cursor, parse, resume
from services.gateway.domain.facts import Fact, skipped_over, sort_out
from services.gateway.domain.roles import Role, effective, needed_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_fact(story: str, sequence: int) -> Fact:
    return Fact(uuid4(), "default", "executor", story, sequence, "NODE_DONE", None, None, None, "", "{}", NOW)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    copies=st.integers(1, 10),
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 30),
)
def test_whatever_the_order_and_the_repeats_each_story_is_told_once_and_in_order(
    lengths: list[int], copies: int, seed: int, batch: int
) -> None:
    facts = [a_fact(f"s{n}", i) for n, length in enumerate(lengths) for i in range(1, length + 1)] * copies
    random.Random(seed).shuffle(facts)
    told: list[Fact] = []
    parked: list[Fact] = []
    last: dict[tuple[str, str], int] = {}
    while facts:
        result = sort_out([*parked, *facts[:batch]], last)
        facts, parked = facts[batch:], result.parked
        told, last = told + result.told, last | result.last
    for n, length in enumerate(lengths):
        assert [f.sequence for f in told if f.story == f"s{n}"] == list(range(1, length + 1))
    assert parked == []


def test_a_fact_that_comes_too_early_waits_and_others_do_not() -> None:
    result = sort_out([a_fact("x", 3), a_fact("y", 1), a_fact("x", 1)], {})
    assert [(f.story, f.sequence) for f in result.told] == [("y", 1), ("x", 1)]
    assert [(f.story, f.sequence) for f in result.parked] == [("x", 3)]


@pytest.mark.parametrize(
    ("told", "gone", "expected"), [(2, [3, 4], 4), (2, [4], 2), (0, [1, 2, 4], 2), (5, [], 5), (5, [3], 5)]
)
def test_only_what_follows_directly_is_skipped_over(told: int, gone: list[int], expected: int) -> None:
    assert skipped_over(told, gone) == expected


@pytest.mark.parametrize("key", list(Role))
@pytest.mark.parametrize("asked", [None, *Role])
def test_the_effective_role_is_the_lower_one(key: Role, asked: Role | None) -> None:
    expected = key if asked is None else min(key, asked, key=lambda role: role.rank)
    assert effective(key, asked) is expected


def test_an_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(Rejection, match="viewer, editor, admin") as refused:
        effective(Role.ADMIN, "root")
    assert refused.value.failure.code is Code.BAD_REQUEST


def test_writes_need_an_editor_only_where_roles_are_on() -> None:
    assert needed_for("POST", "/tasks", rbac=True) is Role.EDITOR
    assert needed_for("GET", "/tasks", rbac=True) is Role.VIEWER
    assert needed_for("DELETE", "/tasks/1", rbac=False) is Role.VIEWER
    assert needed_for("POST", "/companies/acme/knowledge/search", rbac=True) is Role.VIEWER, "a question, with a body"
    assert needed_for("POST", "/knowledge/documents", rbac=True) is Role.EDITOR


@given(st.text(max_size=40))
def test_garbage_is_never_a_cursor_and_never_an_error(text: str) -> None:
    cursor = parse(text)
    assert cursor is None or str(cursor).split(".")[0] == cursor.epoch


HEAD = Cursor("0a1b2c3d", 50)


@pytest.mark.parametrize(
    ("last_event_id", "after", "resets"),
    [
        (None, 0, False),
        ("", 0, False),
        ("0a1b2c3d.17", 17, False),
        ("0a1b2c3d.50", 50, False),
        ("0a1b2c3d.51", 0, True),
        ("ffffffff.17", 0, True),
        ("17", 0, True),
        ("0a1b2c3d.-1", 0, True),
        ("; drop table", 0, True),
    ],
)
def test_a_stream_goes_on_only_from_where_it_certainly_was(last_event_id: str | None, after: int, resets: bool) -> None:
    resumption = resume(last_event_id, HEAD)
    assert (resumption.after, resumption.reset is not None) == (after, resets)


@given(limit=st.integers(1, 200), offset=st.integers(0, 1000), total=st.integers(0, 1000))
def test_links_lead_over_every_item_exactly_once(limit: int, offset: int, total: int) -> None:
    near = paging.neighbours("/x", [("q", "ü&"), ("api_key", "s")], limit=limit, offset=offset, total=total)
    assert (near.next is None) == (offset + limit >= total)
    assert (near.prev is None) == (offset == 0)
    assert "api_key" not in near.header
    assert near.next is None or near.next == f"/x?q=%C3%BC%26&limit={limit}&offset={offset + limit}"


@pytest.mark.parametrize(
    ("order_by", "direction", "expected"),
    [
        (None, None, None),
        ("title", None, "title"),
        ("-title", None, "-title"),
        ("title", "desc", "-title"),
        ("-title", "asc", "title"),
        (None, "desc", "-created_at"),
    ],
)
def test_the_direction_wins_over_the_sign(order_by: str | None, direction: paging.Direction, expected: str) -> None:
    assert paging.ordering(order_by, direction, "created_at") == expected


ENDED_AT = datetime(2026, 11, 21, tzinfo=UTC)


def course(*levels: str, task_id: UUID | None = None) -> Course:
    found = Course()
    for level in levels:
        found = found.after(level, task_id, ENDED_AT)
    return found


def test_only_the_latest_end_of_a_run_counts_and_only_while_it_was_not_reopened() -> None:
    for levels, ended in (
        ([], None),
        (["RUN_QUEUED", "RUN_STARTED", "NODE_COMPLETED"], None),
        (["RUN_STARTED", "RUN_COMPLETED"], "completed"),
        (["RUN_FAILED", "RUN_REOPENED"], None),
        (["RUN_FAILED", "NODE_SKIPPED", "RUN_RESUMED", "RUN_COMPLETED"], "completed"),
        (["RUN_COMPLETED", "NODE_STARTED"], None),
        (["RUN_CANCELED", "RUN_CONTROL_ASKED", "FEEDBACK_GIVEN"], "canceled"),
        (["RUN_COMPLETED", "TASK_STARTED"], "completed"),
    ):
        assert course(*levels).ended == ended, levels


def test_the_task_of_a_run_follows_once_it_has_said_what_the_end_means() -> None:
    task_id = uuid4()
    assert course("RUN_COMPLETED", task_id=task_id).task_follows
    assert course("RUN_COMPLETED", "TASK_STARTED", task_id=task_id).task_follows
    assert not course("RUN_COMPLETED", "TASK_COMPLETED", task_id=task_id).task_follows
    assert not course("RUN_COMPLETED").task_follows, "a run without a task"


def test_a_run_is_not_told_to_its_end_before_its_task_has_followed_or_never_will() -> None:
    task_id, soon, later = uuid4(), ENDED_AT + timedelta(seconds=1), ENDED_AT + timedelta(minutes=1)
    assert not course("RUN_STARTED", task_id=task_id).is_told(later)
    assert not course("RUN_COMPLETED", task_id=task_id).is_told(soon)
    assert course("RUN_COMPLETED", task_id=task_id).is_told(later), "a rehearsal's task says nothing"
    assert course("RUN_COMPLETED", "TASK_COMPLETED", task_id=task_id).is_told(soon)
    assert course("RUN_COMPLETED").is_told(soon)
