"""What is said instead of a preview: why it is not there, and what to do."""

from __future__ import annotations

from html import escape

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.5rem;color:#1b1f24;"
    "background:#fff}h1{font-size:1.35rem;margin:0 0 .5rem}p{margin:0;color:#57606a}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}p{color:#8d96a0}}"
)
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors *"


def page(title: str, advice: str, *, again: int | None = None) -> bytes:
    """`again` in seconds: the browser looks anew by itself."""
    refresh = "" if again is None else f'<meta http-equiv="refresh" content="{again}">'
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">{refresh}'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1><p>{escape(advice)}</p></html>\n"
    ).encode()


def text(title: str, advice: str) -> bytes:
    return f"{title}: {advice}\n".encode()
