"""Which passages a text cites."""

from __future__ import annotations

import pytest

from services.gateway.domain.citations import numbers


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Two tides a day [1], most days [3].", [1, 3]),
        ("Together [2, 5;7] and in a row [3-5] or [9–10].", [2, 3, 4, 5, 7, 9, 10]),
        ("[1][2] side by side, and [1] again", [1, 2]),
        ("without a space[4].", [4]),
        ("a [link](https://example.com), [1](https://example.com), [text][2] and [a] cite nothing", []),
        ("items[0] and `row[1]` are code\n\n```py\nx = [2]\n```\nthis is not [4]", [4]),
        ("- [x] done, [ ] open, [12345] too long", []),
        ("[1-9000] is no reason to hang", list(range(1, 52))),
        ("[see [text][2] and [3]", [3]),
        ("[a" * 1_000_000 + " [4]", [4]),  # as far as each bracket would be a text to its end, an hour
        ("", []),
    ],
)
def test_numbers_in_brackets_are_citations_unless_they_are_something_else(text: str, cited: list[int]) -> None:
    assert numbers(text) == cited
