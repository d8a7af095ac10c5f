"""Which form of a report is wanted, that words of models cannot become part of its shape, and what signals trouble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from contracts.errors import Code, Rejection
from contracts.run_control import Waiting
from services.gateway.domain.forms import Form, wanted_form
from services.gateway.domain.markdown import LIKE_A_LINK, block, code, inline, table
from services.gateway.domain.trouble import in_trouble, signals
from tests.gateway.builders import a_node, a_run, a_verdict

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
#: what forges most: the alphabet of Markdown, with words between
PARTS = [*"\\`*_{}[]()<>#+-.!|~&$@:/=1 \n\t\r\x0b\x1c\u2028", "a", "www.", "http://x.y", "</b>", "&copy;"]
HOSTILE = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)
ALLOWED = {"paragraph", "text", "code_inline", "softbreak", "text_special"}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Form.JSON),
        ("", Form.JSON),
        ("*/*", Form.JSON),
        ("application/json", Form.JSON),
        ("text/markdown", Form.MARKDOWN),
        ("Text/Markdown; charset=utf-8", Form.MARKDOWN),
        ("text/*", Form.MARKDOWN),
        ("text/markdown, */*", Form.MARKDOWN),
        ("application/json;q=0.5, text/markdown;q=0.6", Form.MARKDOWN),
        ("text/markdown;q=0.5, application/json", Form.JSON),
        ("text/markdown;q=0.5, */*;q=0.8", Form.JSON),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Form.JSON),
        ("application/json;q=0, */*", Form.MARKDOWN),
        ("text/markdown;q=1.0;level=1,application/json;q=0.999", Form.MARKDOWN),
        ("what is this?", Form.JSON),
        ("text/markdown;q=7, application/json;q=0.1", Form.MARKDOWN),
    ],
)
def test_the_form_follows_what_is_accepted(accept: str | None, form: Form) -> None:
    assert wanted_form(accept) is form


@pytest.mark.parametrize("accept", ["text/html", "image/png, text/plain;q=0.3", "*/*;q=0", "text/markdown;q=0"])
def test_what_we_do_not_have_is_not_acceptable(accept: str) -> None:
    with pytest.raises(Rejection) as refused:
        wanted_form(accept)
    assert refused.value.failure.code is Code.NOT_ACCEPTABLE
    assert "text/markdown" in refused.value.failure.message


@given(st.text(max_size=80))
def test_no_accept_header_is_a_bug(accept: str) -> None:
    with suppress(Rejection):
        assert wanted_form(accept) in Form


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def kinds(markdown: str) -> set[str]:
    return {token.type.removesuffix("_open").removesuffix("_close") for token in flat(RENDERER.parse(markdown))} - {
        "inline"
    }


@given(HOSTILE)
def test_words_on_a_line_stay_words(text: str) -> None:
    for written in (inline(text), f"Title: {inline(text)}.", f"**x** {code(text)}"):
        assert kinds(written) <= ALLOWED | {"strong"}, written
    tokens = flat(RENDERER.parse(f"x {inline(text)}"))
    assert not any(LIKE_A_LINK.search(token.content) for token in tokens if token.type == "text"), "a bare link"


@given(HOSTILE)
def test_words_in_a_heading_make_one_heading(text: str) -> None:
    tokens = RENDERER.parse(f"# About {inline(text)}\n\nend")
    assert [token.type for token in tokens if token.level == 0 and token.type.endswith("open")] == [
        "heading_open",
        "paragraph_open",
    ]
    assert kinds(f"# About {inline(text)}") <= ALLOWED | {"heading"}


@given(st.lists(st.tuples(HOSTILE, HOSTILE), max_size=3))
def test_words_in_a_table_make_no_cell(rows: list[tuple[str, str]]) -> None:
    tokens = list(flat(RENDERER.parse(table(("a", "b"), [(inline(x), code(y)) for x, y in rows]))))
    opened = [token.type for token in tokens]
    assert opened.count("tr_open") == 1 + len(rows)
    assert opened.count("td_open") == 2 * len(rows)
    assert {token.type for token in tokens} & {"link_open", "html_inline", "image", "heading_open", "em_open"} == set()


@given(HOSTILE)
def test_words_in_a_block_do_not_leave_it(text: str) -> None:
    tokens = RENDERER.parse(f"before\n\n{block(text)}\n\nafter")
    assert [token.type for token in tokens if token.level == 0] == [
        *("paragraph_open", "paragraph_close", "fence", "paragraph_open", "paragraph_close")
    ]


def test_what_is_written_can_be_read_as_it_was_meant() -> None:
    assert inline("Draft the analysis of: Launch plan for Harbour") == "Draft the analysis of: Launch plan for Harbour"
    assert inline("NODE_RETRIED") == "NODE_RETRIED"
    assert inline("see https://x.y | now") == "` see https://x.y ¦ now `"
    assert inline("x" * 300).endswith("…")
    assert block("a\r\n```\rb") == "````text\na\n```\nb\n````"


# trouble --------------------------------------------------------------------------------------------------------------


def test_nodes_that_failed_or_are_held_are_in_trouble_and_an_older_verdict_holds_nothing() -> None:
    nodes = [
        a_node(key="failed", status="failed"),
        a_node(key="held", status="paused", pause_reasons=["verdict"]),
        a_node(key="late", status="completed", verdict=a_verdict(effect="hold")),
        a_node(key="older", status="completed", attempt=2, verdict=a_verdict(effect="hold", attempt=1)),
        a_node(key="noted", status="completed", verdict=a_verdict(effect="note")),
        a_node(key="paused", status="paused", pause_reasons=["control"]),
    ]
    assert [node.key for node in in_trouble(nodes)] == ["failed", "held", "late"]


def test_signals_say_what_is_wrong_how_often_and_what_ends_it() -> None:
    run = a_run(status="failed", error="node a failed", needs_attention=True)
    nodes = [a_node(key="a", status="failed", usage={"cost_usd": None}), a_node(key="b")]
    waits = {"what": "node", "key": "b", "status": "queued", "detail": "no money", "release": "raise the limit"}
    waiting = [Waiting(reason=reason, **waits) for reason in ("budget", "dependency")]
    found = signals(run, nodes, waiting, {"NODE_RETRIED": 3, "NODE_STARTED": 9})
    by_kind = {signal.kind: signal for signal in found}
    assert set(by_kind) == {
        *("failed", "needs_attention", "failed_nodes", "unknown_cost", "waits_for_budget", "NODE_RETRIED")
    }
    assert by_kind["failed"].detail == "node a failed"
    assert (by_kind["NODE_RETRIED"].count, by_kind["failed_nodes"].nodes) == (3, ["a"])
    assert (by_kind["waits_for_budget"].release, by_kind["waits_for_budget"].nodes) == ("raise the limit", ["b"])
    assert signals(a_run(), [a_node()], [], {}) == []


def test_a_result_that_is_being_reviewed_is_no_sign_of_trouble_and_one_that_is_held_is() -> None:
    waits = {"what": "node", "key": "a", "detail": "…", "release": "a verdict", "reason": "verdict"}
    reviewing = a_node(key="a", status="reviewing")
    assert signals(a_run(), [reviewing], [Waiting.model_validate(waits | {"status": "reviewing"})], {}) == []
    held = a_node(key="a", status="paused", pause_reasons=["verdict"])
    found = signals(a_run(), [held], [Waiting.model_validate(waits | {"status": "paused"})], {})
    assert [signal.kind for signal in found] == ["held_nodes", "waits_for_verdict"]
