"""Documents as pages, made in a process apart: what grows without end harms nobody."""

from __future__ import annotations

import pytest

from contracts.errors import Code, Rejection
from services.gateway.domain.pages import HTML, MARKDOWN
from services.gateway.downloads import LARGEST_READ
from services.gateway.renderer import SHORT, Renderer

HALF = LARGEST_READ // 2
ADDRESS = f"[a]: http://x/{'b' * HALF}\n\n" + "[a] " * (HALF // 4)  # a gigabyte
NEVER_CLOSED = "".join(f"<p><b title={n}>" for n in range(LARGEST_READ // 16))  # as much
REPORT = "# Tides\n\n" + "Twice a day, **as a rule**: [1](https://example.com).\n\n" * 500


@pytest.mark.parametrize(("text", "kind"), [(ADDRESS, MARKDOWN), (NEVER_CLOSED, HTML)], ids=["address", "never closed"])
async def test_a_text_that_grows_beyond_a_page_is_refused(text: str, kind: str) -> None:
    with pytest.raises(Rejection) as caught:
        await Renderer().body("tides.md", text, kind)
    assert (caught.value.failure.code, str(caught.value)) == (
        Code.TOO_LARGE,
        "tides.md grows beyond what a page may have; download it",
    )


async def test_a_long_report_is_as_it_would_be_here() -> None:
    assert len(REPORT) > SHORT
    made = await Renderer().body("tides.md", REPORT, MARKDOWN)
    assert (made.count("<strong>as a rule</strong>"), made.count('href="https://example.com"')) == (500, 500)
