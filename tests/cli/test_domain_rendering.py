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
from fluidcrew.render.facts import fact_line
from fluidcrew.render.plan import PlanTree
from fluidcrew.render.run import RunProgress, RunTree, figures, summary, visible
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
    assert "✗ The market  the provider said: no" in shown(RunTree(view))[1]
    assert shown(summary(view)) == ["failed  1/4 nodes · 0 tokens · $0 · 0 ms · 3 queued, 1 failed", "1 node failed"]


def test_a_price_that_is_not_known_is_not_shown_as_nothing() -> None:
    view = diamond()
    view.apply(completed("brief"))
    view.apply(
        happened(
            "NODE_COMPLETED", key="market", attempt=1, duration_ms=10, usage={"prompt_tokens": 5, "cost_usd": None}
        )
    )
    assert view.cost is None
    assert "cost unknown" in figures(view)
    assert "cost unknown" in shown(RunTree(view))[1]


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
            {"id": "c", "title": "Check", "deps": ["b"]},
        ]
    }
    assert shown(PlanTree(graph)) == [
        "Research     analyst   2 criteria",
        "└─ Write     writer   1 criterion",
        "   └─ Check",
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
