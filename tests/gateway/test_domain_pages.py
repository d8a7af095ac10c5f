"""Documents as pages: as they are meant, as far as that is harmless."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.pages import ATTRIBUTES, HTML, MARKDOWN, SCHEMES, TAGS, body, page


class Looked(HTMLParser):
    """What is in a page: its tags, and the addresses it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.strange.append(tag)
        for name, value in attrs:
            if name not in ATTRIBUTES.get(tag, set()) | ATTRIBUTES["*"] | {"rel"}:
                self.strange.append(f"{tag} {name}")
            scheme, colon, _ = (value or "").partition(":")
            if name == "href" and colon and scheme.isalpha() and scheme.lower() not in SCHEMES:
                self.strange.append(value or "")


def strange(html: str) -> list[str]:
    looked = Looked()
    looked.feed(html)
    return looked.strange


HARM = (
    "<script>1</script>",
    "<svg onload=alert(1)>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt&colon;alert(1)'>x</a>",
    "<a href='data:text/html,<script>1</script>'>x</a>",
    "[x](javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "![x](https://tracker.example/pixel.png)",
    "<base href=//evil.example><link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><input name=x></form>",
    "<p style='position:fixed;top:0'>covered</p>",
    "<iframe srcdoc='<script>1</script>'></iframe><object data=x><embed src=x>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
)


@pytest.mark.parametrize("text", HARM)
@pytest.mark.parametrize("kind", [MARKDOWN, HTML])
def test_nothing_that_acts_is_left_of_a_document(text: str, kind: str) -> None:
    assert strange(body(text, kind)) == []


@given(st.lists(st.sampled_from([*HARM, "**", "`", "<", ">", "&", "\n\n", "[", "](", ")", "<!--", "-->", "é"])))
def test_nothing_that_acts_is_left_of_their_mixtures(parts: list[str]) -> None:
    assert strange(body("".join(parts), MARKDOWN)) == []


def test_what_is_neither_markdown_nor_html_is_shown_as_it_is_written() -> None:
    assert body("<b>&", "text/plain") == "<pre>&lt;b&gt;&amp;</pre>"
    assert "<title>&lt;/title&gt;</title>" in page("</title>", "")


def test_markdown_has_its_tables_and_struck_words() -> None:
    html = body("~~old~~\n\n| a |\n|---|\n| `b` |", MARKDOWN)
    assert "<s>old</s>" in html
    assert "<td><code>b</code></td>" in html
