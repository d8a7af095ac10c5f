"""What people see, as text: no terminal is needed to know it."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fluidcrew.progress import Happened, NodeView, RunView
from fluidcrew.render import words
from fluidcrew.render.dag import rows
from fluidcrew.render.facts import fact_line, happened_line
from fluidcrew.render.plan import PlanTree
from fluidcrew.render.run import RunProgress, RunTree, figures, headline, summary, visible
from fluidcrew.render.tables import runs_table
from fluidcrew.render.tokens import TokenLines

START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def shown(what: Any, width: int = 100, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    Console(file=stream, width=width, color_system=None).print(what)
    stream.flush()
    return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]


def diamond() -> RunView:
    view = RunView("r1", "A study", "running", started_at=START)
    for key, deps in (
        ("brief", ()),
        ("market", ("brief",)),
        ("interviews", ("brief",)),
        ("decide", ("market", "interviews")),
    ):
        view.nodes[key] = NodeView(f"id-{key}", key, f"The {key}", deps)
    return view


def happened(level: str, **told: Any) -> Happened:
    return Happened(level, START, told)


def completed(key: str, **more: Any) -> Happened:
    usage = {"prompt_tokens": 1000, "completion_tokens": 240, "cost_usd": "0.0031"}
    return happened("NODE_COMPLETED", key=key, attempt=1, duration_ms=3200, usage=usage, model="m-1", **more)


def test_a_node_hangs_below_one_it_waits_for_and_names_the_others() -> None:
    view = diamond()
    assert shown(RunTree(view, now=lambda: START)) == [
        "· The brief                              queued",
        "├─ · The market                          queued",
        "└─ · The interviews                      queued",
        "   └─ · The decide  (also after market)  queued",
    ]


def test_facts_move_the_tree_on_and_it_says_what_each_node_took() -> None:
    view = diamond()
    view.apply(happened("NODE_STARTED", key="brief", attempt=1))
    view.apply(completed("brief"))
    view.apply(happened("NODE_STARTED", key="market", attempt=2))
    tree = shown(RunTree(view, now=lambda: START + timedelta(seconds=4.2)))
    assert tree[0].split() == ["✓", "The", "brief", "completed", "3.2", "s", "1,240", "tokens", "$0.0031"]
    assert tree[1].split() == ["├─", "●", "The", "market", "running,", "attempt", "2", "4.2", "s"]
    assert figures(view, START + timedelta(seconds=4.2)) == "1/4 nodes · 1,240 tokens · $0.0031 · 4.2 s"


def test_a_narrow_terminal_keeps_states_and_durations_and_no_line_is_longer_than_it() -> None:
    view = diamond()
    view.nodes["brief"].title = "A title that is much too long for the terminal that somebody has"
    view.apply(completed("brief"))
    tree = shown(RunTree(view), width=44)
    assert all(len(line) <= 44 for line in tree)
    assert tree[0].endswith("completed  3.2 s")
    assert "…" in tree[0]
    assert "tokens" not in "".join(tree)


def test_an_encoding_without_box_drawing_gets_plain_characters() -> None:
    view = diamond()
    view.apply(completed("brief"))
    tree = shown(RunTree(view), encoding="ascii")
    assert tree[0].startswith("+ The brief")
    assert tree[1].startswith("|- . The market")


def test_a_failed_node_says_why() -> None:
    view = diamond()
    view.apply(happened("NODE_FAILED", key="market", attempt=3, error="the provider said:\n  no"))
    view.apply(happened("RUN_FAILED", title="A study", reason="1 node failed", failed_nodes=["market"]))
    tree = shown(RunTree(view))
    assert "✗ The market  the provider said: no" in tree[1]
    assert tree[2].endswith("not started"), "nothing waits in a run that is over"
    ended = "failed  0/4 nodes · 0 tokens · $0 · 0 ms · 3 not started, 1 failed"
    assert shown(summary(view)) == [ended, "1 node failed"]


def test_a_node_that_is_tried_again_says_why_and_when() -> None:
    view = diamond()
    due = (START + timedelta(seconds=2.5)).isoformat()
    view.apply(happened("NODE_RETRIED", key="market", attempt=1, error="429: slow down", due_at=due))
    line = shown(RunTree(view, now=lambda: START + timedelta(seconds=1)))[1]
    assert line.split("  ", 1)[0] == "├─ · The market"
    assert " ".join(line.split()).endswith("429: slow down queued again in 1.5 s")
    assert not shown(RunTree(view, now=lambda: START + timedelta(seconds=3)))[1].endswith("s")


@pytest.mark.parametrize(
    ("seconds", "words_of_it"),
    [
        (0.4, "next try in 400 ms"),
        (75, "next try in 1 min 15 s, at "),
        (-1, "next try at once"),
        (None, "next try at once"),
    ],
)
def test_a_retry_is_told_with_attempt_reason_and_next_try(seconds: float | None, words_of_it: str) -> None:
    due = None if seconds is None else (START + timedelta(seconds=seconds)).isoformat()
    told = {"key": "market", "attempt": 1, "error": "503: overloaded", "due_at": due}
    line = happened_line(Happened("NODE_RETRIED", START, told), "The market").plain
    assert f"node.retried       market  The market · attempt 1 · 503: overloaded · {words_of_it}" in line


def test_the_weather_of_a_provider_is_told_with_its_model_and_its_end() -> None:
    told = {"provider": "openai", "model": "m-1", "reason": "rate limited", "until": START.isoformat()}
    line = fact_line(START, "", "provider", "opened", "", told).plain
    assert line.endswith(f"provider.opened    openai  m-1 · rate limited · until {words.clock(START)}")


def test_a_price_that_is_not_known_is_not_shown_as_nothing() -> None:
    view = diamond()
    view.apply(completed("brief"))
    view.apply(
        happened(
            "NODE_COMPLETED", key="market", attempt=1, duration_ms=10, usage={"prompt_tokens": 5, "cost_usd": None}
        )
    )
    assert view.cost == (Decimal("0.0031"), 0, 1)
    assert "$0.0031 + unknown" in figures(view)
    assert "cost unknown" in shown(RunTree(view))[1]


def test_what_nobody_knows_exactly_is_shown_as_the_ceiling_that_it_is() -> None:
    view = diamond()
    usage = {"prompt_tokens": 5, "cost_usd": "0.02", "estimated_calls": 1}
    view.apply(happened("NODE_COMPLETED", key="market", attempt=2, duration_ms=10, usage=usage))
    assert "up to $0.0200" in figures(view)
    view.apply(happened("NODE_COMPLETED", key="brief", attempt=1, duration_ms=10, usage={"cost_usd": None}))
    assert "up to $0.0200 + unknown" in figures(view)


def test_a_run_with_more_nodes_than_lines_shows_those_where_something_happens() -> None:
    view = RunView("r1", "Wide", "running")
    for number in range(200):
        view.nodes[f"n{number}"] = NodeView(str(number), f"n{number}", f"Node {number}")
    view.nodes["n150"].status = "running"
    view.nodes["n3"].status = "completed"
    found, hidden = visible(view, 10)
    assert len(found) == 10
    assert hidden == 190
    assert found[0].key == "n150"
    assert "n3" not in {row.key for row in found}


def test_the_bar_fits_into_any_terminal() -> None:
    for width in (40, 60, 100, 200):
        assert all(len(line) <= width for line in shown(RunProgress(diamond()), width=width))


def test_a_plan_shows_roles_and_how_many_criteria_there_are() -> None:
    graph = {
        "plan": [
            {"id": "a", "title": "Research", "deps": [], "suggested_agent_role": "analyst", "acceptance": ["x", "y"]},
            {"id": "b", "title": "Write", "deps": ["a"], "suggested_agent_role": "writer", "acceptance": ["z"]},
            {"id": "c", "title": "Check", "deps": ["b"], "deliverables": [{"path": "a.md"}, {"kind": "preview"}]},
        ]
    }
    assert shown(PlanTree(graph)) == [
        "Research     analyst   2 criteria",
        "└─ Write     writer   1 criterion",
        "   └─ Check                        owes a.md, preview",
    ]


graphs = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        *(st.sets(st.integers(0, max(0, n - 1)), max_size=3) if n else st.just(set()) for n in range(size))
    )
)


@given(graphs)
def test_every_node_is_drawn_once_below_one_it_waits_for(graph: tuple[set[int], ...]) -> None:
    deps = {str(n): [str(d) for d in sorted(before)] for n, before in enumerate(graph)}
    found = rows(deps)
    assert sorted(row.key for row in found) == sorted(deps)
    drawn: list[str] = []
    for row in found:
        own = set(deps[row.key]) - {row.key}
        assert len(row.also) == max(0, len(own) - 1)
        assert not own or own - set(row.also) <= set(drawn)
        drawn.append(row.key)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=4), max_size=6))
def test_drawing_ends_also_for_graphs_that_should_not_exist(deps: dict[str, list[str]]) -> None:
    assert len(rows(deps)) <= len(deps)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.84, "840 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7980, "2 h 13 min"),
        (273600, "3 d 4 h"),
        (None, ""),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (None, "cost unknown"),
        ("0", "$0"),
        ("0.00001", "<$0.0001"),
        ("0.00312", "$0.0031"),
        ("1.5", "$1.50"),
        ("-0.0", "$0"),
    ],
)
def test_money_reads_as_people_write_it(cost: str | None, text: str) -> None:
    assert words.money(None if cost is None else Decimal(cost)) == text


def test_a_fact_is_one_line_whatever_it_tells() -> None:
    told = {"key": "market", "attempt": 2, "error": "timeout\nafter 30 s", "title": "The market"}
    line = fact_line(START, "acme", "node", "failed", "3f2a91c0-5b1d-4c3e", told).plain
    assert line.endswith("acme node.failed        3f2a91c0 market  The market · attempt 2 · timeout after 30 s")
    assert "\n" not in line


def test_a_fact_that_is_not_as_expected_is_still_told() -> None:
    odd = {"attempt": "many", "usage": [], "errors": None, "duration_ms": None, "tokens": "x", "title": 7}
    assert "node.novelty" in fact_line(None, "", "node", "novelty", "x", odd).plain


def test_tokens_of_several_nodes_become_lines_of_one_node_each() -> None:
    lines = TokenLines()
    assert lines.add({"key": "a", "text": "Hello "}) == []
    assert lines.add({"key": "b", "text": "Bonjour\nà "}) != []
    told = [line.plain.split("│ ")[1] for line in lines.add({"key": "a", "text": "world\n\nand"})]
    assert told == ["Hello world"]
    assert sorted(line.plain.split("│ ")[1] for line in lines.flush()) == ["and", "à"]
    assert lines.flush() == []


def test_long_text_is_cut_between_words() -> None:
    told = [line.plain.split("│ ")[1] for line in TokenLines().add({"key": "a", "text": "word " * 50})]
    assert told
    assert all(line == ("word " * 20).strip() for line in told)


def test_runs_are_listed_with_what_they_took() -> None:
    run = {"id": "3f2a91c0-5b1d", "title": "A study", "status": "completed"}
    run |= {"started_at": "2025-03-01T12:00:00Z", "ended_at": "2025-03-01T12:00:03.5Z"}
    waiting = {"id": "4f", "title": "Later", "status": "queued", "started_at": None, "ended_at": None}
    table = shown(runs_table([run, waiting]))
    assert table[1].split()[0] == "3f2a91c0"
    assert table[1].endswith("3.5 s")
    assert table[2].split() == ["4f", "Later", "queued"]


def test_facts_that_are_told_again_change_nothing() -> None:
    view = diamond()
    facts = [
        happened("RUN_STARTED", title="A study"),
        happened("NODE_STARTED", key="brief", attempt=1),
        completed("brief"),
    ]
    for fact in [*facts, *facts]:
        view.apply(fact)
    assert view.nodes["brief"].status == "completed"
    assert view.nodes["brief"].duration_ms == 3200
    assert view.tokens == 1240


def test_a_run_that_is_opened_again_is_no_longer_over() -> None:
    view = diamond()
    view.apply(happened("RUN_COMPLETED", title="A study"))
    assert view.over
    view.apply(happened("RUN_RESUMED", title="A study"))
    assert not view.over
    assert view.ended_at is None


@pytest.mark.parametrize(
    ("level", "told", "line"),
    [
        (
            "RUN_CONTROL_ASKED",
            {"action": "pause", "mode": "interrupt", "by": "ada, admin"},
            "pause and cut off what runs by ada",
        ),
        ("TASK_CONTROL_ASKED", {"action": "reset", "mode": "finish", "by": None}, "reset"),
        ("RUN_PAUSED", {"reasons": ["control"]}, "by order"),
        ("NODE_PAUSED", {"key": "a", "reasons": ["control", "verdict"], "by": "ada"}, " a  by ada, verdict"),
        ("NODE_SKIPPED", {"key": "a", "by": "ada"}, " a  by ada"),
        ("NODE_CONTROL_ASKED", {"key": "a", "action": "skip", "mode": "finish", "by": "ada"}, " a  skip by ada"),
        (
            "NODE_CONTROL_LAPSED",
            {"key": "a", "action": "skip", "by": "ada", "reason": "the node is completed by now"},
            " a  skip by ada · the node is completed by now",
        ),
        ("NODE_PARKED", {"key": "a", "provider": "openai", "model": "gpt", "reason": "429"}, "openai/gpt · 429"),
        ("PROVIDER_OPENED", {"provider": "openai", "model": "gpt", "reason": "429"}, "openai  gpt · 429"),
        ("NODE_OVERRIDDEN", {"key": "a", "fields": ["prompt"], "by": "ada"}, "prompt by ada"),
        ("NODE_REUSED", {"key": "a", "from_run_id": "3f2a91c0-5b1d"}, "of run 3f2a91c0"),
        ("NODE_REQUEUED", {"key": "a", "reason": "what it needs runs again"}, "runs again"),
        ("RUN_REPAIRED", {"repair": "asleep", "detail": "woken"}, "asleep · woken"),
        ("RUN_STALLED", {"waiting": ["a paused flag"]}, "a paused flag"),
        ("TASK_RELEASED", {"title": "t", "starting": True}, "starts now"),
        ("TASK_RETRIED", {"earlier_run_id": "3f2a91c0-5b1d"}, "after run 3f2a91c0"),
        ("TASK_DEPENDENCIES_CHANGED", {"change": "added", "depends_on": ["3f2a91c0-5b1d"]}, "added 3f2a91c0"),
    ],
)
def test_facts_of_the_control_plane_say_what_people_did(level: str, told: dict[str, Any], line: str) -> None:
    assert line in happened_line(happened(level, **told)).plain


def test_an_order_that_has_not_taken_effect_is_shown_until_it_has() -> None:
    view = diamond()
    view.apply(happened("RUN_CONTROL_ASKED", action="pause", mode="finish"))
    assert headline(view).plain == "Run A study  running (pause requested)"
    view.apply(happened("RUN_PAUSED", reasons=["control"]))
    assert headline(view).plain == "Run A study  paused"
    view.apply(happened("RUN_CONTROL_ASKED", action="cancel"))
    assert headline(view).plain.endswith("(cancel requested)")
    view.apply(happened("RUN_CANCELED"))
    view.apply(happened("RUN_REOPENED"))
    assert headline(view).plain == "Run A study  running"


def test_nodes_follow_the_facts_of_steering() -> None:
    view = diamond()
    for level, status in (
        ("NODE_STARTED", "running"),
        ("NODE_INTERRUPTED", "queued"),
        ("NODE_PAUSED", "paused"),
        ("NODE_RESUMED", "queued"),
        ("NODE_PARKED", "queued"),
        ("NODE_COMPLETED", "completed"),
        ("NODE_REQUEUED", "queued"),
        ("NODE_REUSED", "completed"),
    ):
        view.apply(happened(level, key="brief", attempt=1, until="2025-03-01T12:00:20Z"))
        assert view.nodes["brief"].status == status, level
    assert "completed, reused" in shown(RunTree(view, now=lambda: START))[0]


def test_with_keys_a_tree_says_how_orders_call_a_node_and_leaves_errors_to_others() -> None:
    view = diamond()
    view.nodes["brief"].status, view.nodes["brief"].error = "failed", "no such model"
    first = shown(RunTree(view, now=lambda: START, keys=True))[0]
    assert first.split()[:4] == ["✗", "brief", "The", "brief"]
    assert "no such model" not in first
