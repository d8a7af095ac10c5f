"""Lines of strange texts are looked at once each, however they are ended."""

from __future__ import annotations

import pytest

from services.rag.domain.fencing import NUMBERED
from services.rag.domain.kinds import Kind, kind_of
from services.rag.parsing.pdf import _line_of


def test_a_text_of_nothing_but_line_ends_is_looked_through_at_once() -> None:
    assert NUMBERED.sub("> ", "\x0b\u2028" * 500_000 + " [2] law") == "\x0b\u2028" * 500_000 + ">  [2] law"


def test_a_page_of_numbers_is_looked_through_at_once_for_a_bookmark() -> None:
    assert _line_of("Tides").search("1\n" * 500_000) is None


@pytest.mark.parametrize("line", ["Vie des marées", "IV. 2 vie  des marées  ", "2.1\nVIE DES\nMARÉES"])
def test_a_bookmark_is_found_with_its_number(line: str) -> None:
    assert _line_of("Vie des marées").search(f"et\n{line}\nici")


def test_what_is_pasted_from_word_is_text() -> None:
    assert kind_of(b"Monday:\x0bopen from six", "hours.txt", "text/plain") is Kind.TEXT
