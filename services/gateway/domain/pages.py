"""How does a document that a model or a person wrote become a page that can be read and does nothing else?"""

from __future__ import annotations

from html import escape

import nh3
from markdown_it import MarkdownIt

MARKDOWN, HTML = "text/markdown", "text/html"
#: nothing is fetched, run, framed or sent from such a page, whatever is in it
POLICY = "; ".join(
    (
        *("default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'"),
        *("frame-ancestors 'none'", "sandbox"),
    )
)
TAGS = frozenset(
    {
        *(
            "a",
            "abbr",
            "b",
            "blockquote",
            "br",
            "code",
            "dd",
            "del",
            "details",
            "div",
            "dl",
            "dt",
            "em",
            "h1",
            "h2",
            "h3",
        ),
        *(
            "h4",
            "h5",
            "h6",
            "hr",
            "i",
            "ins",
            "kbd",
            "li",
            "mark",
            "ol",
            "p",
            "pre",
            "q",
            "s",
            "section",
            "small",
            "span",
        ),
        *("strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul"),
    }
)
ATTRIBUTES = {
    "*": {"lang", "title"},
    "a": {"href", "title"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
SCHEMES = frozenset({"http", "https", "mailto"})
STYLE = """
:root { color-scheme: light dark }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif }
pre { overflow-x: auto; padding: .8rem; background: rgba(128, 128, 128, .12); border-radius: .3rem; white-space: pre-wrap }
code { font-size: .9em }
table { border-collapse: collapse }
th, td { border: 1px solid rgba(128, 128, 128, .4); padding: .3rem .6rem; text-align: left }
blockquote { margin-left: 0; padding-left: 1rem; border-left: .2rem solid rgba(128, 128, 128, .4) }
"""


def page(title: str, content: str) -> str:
    """Of what `body` has made."""
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{content}\n</body></html>\n"
    )


def body(text: str, content_type: str) -> str:
    """Markdown and HTML as they are meant, as far as that is harmless; any other text as it is written."""
    if content_type == MARKDOWN:
        return _harmless(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
    return _harmless(text) if content_type == HTML else f"<pre>{escape(text)}</pre>"


def _harmless(html: str) -> str:
    return nh3.clean(
        html, tags=set(TAGS), attributes=ATTRIBUTES, url_schemes=set(SCHEMES), link_rel="noopener noreferrer"
    )
