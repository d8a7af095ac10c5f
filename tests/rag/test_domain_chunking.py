"""Cutting: offsets rebuild the text, no chunk is over the window, and what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rag.domain.chunking import Chunk, Window, cut, embedded_text, header_of, short_title
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Heading, Parsed


def words(texts: Sequence[str]) -> list[int]:
    """As a tokenizer counts: words in pieces of four characters, so that parts need not add up to the whole."""
    return [sum(-(-len(word) // 4) for word in text.split()) for text in texts]


ROOMY = Window(10_000, words)
MARKDOWN = st.lists(
    st.one_of(
        st.text(max_size=300),
        st.text(alphabet="ab. \n", max_size=400),
        st.from_regex(r"#{1,4} [A-Za-z ]{1,120}\n", fullmatch=True),
        st.sampled_from(["\n\n", "```\n# no heading\n```\n", "Title\n=====\n", "x" * 500, " ", "\n"]),
    ),
    max_size=12,
).map("".join)


def bodies(parsed: Parsed, chunks: Sequence[Chunk]) -> list[str]:
    return [parsed.text[one.start : one.stop] for one in chunks]


@given(MARKDOWN, st.text(max_size=200), st.integers(20, 400), st.integers(8, 200))
def test_offsets_rebuild_the_text_and_no_chunk_is_over_the_window(
    text: str, title: str, target: int, most: int
) -> None:
    parsed, window = parse_markdown(text), Window(most, words)
    chunks, short = list(cut(parsed, title, target, window)), short_title(title, window)
    assert all(one.start < one.stop for one in chunks)
    assert all(before.stop <= after.start for before, after in pairwise(chunks))
    assert "".join("".join(bodies(parsed, chunks)).split()) == "".join(text.split())
    for one, body in zip(chunks, bodies(parsed, chunks), strict=True):
        assert len(body) <= target
        assert words([embedded_text(short, one.header, body)])[0] <= most


@given(MARKDOWN)
def test_a_text_survives_being_stored_with_its_headings(text: str) -> None:
    parsed = Parsed(text, parse_markdown(text).headings, (0, 7))
    assert Parsed.of_json(parsed.as_json()) == parsed


def test_short_paragraphs_share_a_chunk_and_long_ones_are_cut_between_sentences() -> None:
    text = "One.\n\nTwo.\n\n" + "A sentence of some length stands here. " * 8
    parsed = Parsed(text)
    first, *rest = bodies(parsed, list(cut(parsed, "T", 120, ROOMY)))
    assert first.startswith("One.\n\nTwo.")
    assert all(body.endswith(".") for body in [first, *rest])


def test_a_heading_begins_a_chunk_and_stays_with_its_text() -> None:
    text = f"# Guide\n\n## Tides\n\n{'Water comes. ' * 12}\n\n## Winds\n\n{'Air moves. ' * 12}"
    parsed = parse_markdown(text)
    chunks = list(cut(parsed, "Sailing", 200, ROOMY))
    assert [one.header for one in chunks] == ["Guide > Tides", "Guide > Winds"]
    assert bodies(parsed, chunks)[0].startswith("# Guide\n\n## Tides\n\nWater")


def test_small_sections_share_a_chunk_under_what_they_have_in_common() -> None:
    text = "# Terms\n\n## Rest\n\nAn hour.\n\n## Pay\n\nMonthly.\n"
    parsed = parse_markdown(text)
    (only,) = cut(parsed, "Rules", 800, ROOMY)
    assert only.header == "Terms"


def test_a_chunk_knows_the_page_it_begins_on() -> None:
    pages = ["First page. " * 20, "Second page. " * 20]
    text = "\n\n".join(pages)
    chunks = cut(Parsed(text, pages=(0, len(pages[0]) + 2)), "T", 300, ROOMY)
    assert [one.page for one in chunks] == [1, 2]


def test_a_header_keeps_the_nearest_headings_and_leaves_room_for_the_text() -> None:
    header = header_of("Title", [f"A heading of level {n} that says a lot of words" for n in range(6)], ROOMY)
    assert header.endswith("level 5 that says a lot of words")
    assert len(header) <= 120
    assert header_of("Same", ["Same", "", "Other", "Other"], ROOMY) == "Other"
    small = Window(40, words)
    assert words([short_title("word " * 30, small), header_of("", ["more " * 30], small)]) <= [10, 10]
    assert embedded_text("Rules", "Pay > Dates", "Monthly.") == "Rules > Pay > Dates. Monthly."
    assert embedded_text("", "", "Monthly.") == "Monthly."


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# One #\ntext\n\nTwo\n---\n", [(1, "One"), (2, "Two")]),
        ("```\n# code\n```\n# Real", [(1, "Real")]),
        ("- a\n---\n\n---\n\n#no\n", []),
        ("Title\n===", [(1, "Title")]),
    ],
)
def test_headings_of_markdown_are_found(text: str, headings: list[tuple[int, str]]) -> None:
    found = parse_markdown(text).headings
    assert [(one.level, one.title) for one in found] == headings
    assert all(isinstance(one, Heading) and one.title in text[one.start : one.stop] for one in found)
