"""What is said instead of a preview: why it is not there, and what to do."""

from __future__ import annotations

import re
from html import escape

CODE = re.compile(r"`([^`]+)`")
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.5rem;color:#1b1f24;"
    "background:#fff}h1{font-size:1.35rem;margin:0 0 .5rem}p{margin:0;color:#57606a}"
    "code{font:.9em ui-monospace,monospace;background:#8883;padding:.1em .35em;border-radius:.25em}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}p{color:#8d96a0}}"
)
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors *"


def page(title: str, advice: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1><p>{_marked(advice)}</p></html>\n"
    ).encode()


def _marked(advice: str) -> str:
    """What stands between backticks is typed by whoever follows it."""
    return CODE.sub(r"<code>\1</code>", escape(advice))


def text(title: str, advice: str) -> bytes:
    return f"{title}: {advice}\n".encode()
