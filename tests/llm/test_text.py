"""Cleaning: what leaves the model layer can be stored anywhere, whole or in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.llm.structured import decode
from chassis.llm.text import StreamCleaner, clean, clean_json

ANYTHING = st.text(st.characters(codec=None) | st.sampled_from("\x00\ud800\ud83d\ude00\udfff"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANYTHING,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANYTHING, inner, max_size=4),
    max_leaves=20,
)


@given(ANYTHING)
def test_cleaned_text_is_valid_utf8_without_nul_and_stays_so(text: str) -> None:
    cleaned = clean(text)
    assert "\x00" not in cleaned
    cleaned.encode()
    assert clean(cleaned) == cleaned


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_valid_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


@given(st.lists(ANYTHING, max_size=8))
def test_pieces_add_up_to_the_cleaned_whole(pieces: list[str]) -> None:
    cleaner = StreamCleaner()
    told = [cleaner.feed(piece) for piece in pieces] + [cleaner.flush()]
    assert "".join(told) == clean("".join(pieces))
    for piece in told:
        piece.encode()


def test_a_pair_cut_in_two_is_joined() -> None:
    cleaner = StreamCleaner()
    assert [cleaner.feed("a\ud83d"), cleaner.feed("\ude00b"), cleaner.flush()] == ["a", "\N{GRINNING FACE}b", ""]


@given(JSON)
def test_every_string_of_a_document_is_cleaned(document: object) -> None:
    text = json.dumps(clean_json(document), ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")


@pytest.mark.parametrize(
    "raw", ['{"a": 1}', '```json\n{"a": 1}\n```', ' ```\n\n{"a": 1}\n\n \n``` \n', '```json \r\n{"a": 1}\r\n```']
)
def test_json_is_read_with_and_without_a_fence(raw: str) -> None:
    assert decode(raw) == {"a": 1}


def test_line_feeds_without_end_in_a_fence_are_no_json() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        decode("```json" + "\n" * 200_000 + "and so on")
