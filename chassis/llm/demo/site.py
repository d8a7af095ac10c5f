"""What the demo delivers through tools: the files that are owed, and a small website of a synthesis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from importlib import resources

from chassis.llm.call import Tool, ToolCall
from chassis.llm.demo import prose
from chassis.llm.demo.reading import Brief

WRITE, PUBLISH, LINK = "write_file", "publish_preview", "add_link"
INDEX = "index.html"
PAGE = re.compile(r"\.html?$", re.IGNORECASE)
CLOSES = re.compile(r"synth|résum|summar|conclu|final", re.IGNORECASE)
VIEWS = ("overview", "steps", "next")
KINDS = frozenset({"preview", "document", "file", "link", "image"})
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 60"><rect width="240" height="60" fill="#0b7285"/>'
    '<text x="16" y="38" font-family="sans-serif" font-size="20" fill="#fff">{}</text></svg>\n'
)

Use = tuple[str, Mapping[str, str]]


def deliveries(brief: Brief, tools: tuple[Tool, ...]) -> tuple[ToolCall, ...]:
    """Nothing when nothing is owed and the step is no synthesis, or without the tools for it."""
    offered = {tool.name for tool in tools}
    uses = [use for use in _uses(brief) if use[0] in offered]
    return tuple(ToolCall(f"demo-{n}", name, dict(arguments)) for n, (name, arguments) in enumerate(uses, start=1))


def _uses(brief: Brief) -> Iterator[Use]:
    """One preview per attempt, and that comes last: it is made of all files that there are."""
    entry: str | None = INDEX if not brief.owed and CLOSES.search(brief.title) else None
    for owed in brief.owed:
        kind, path = _read(owed)
        if kind == "preview":
            entry = path or INDEX
        elif kind == "link":
            yield LINK, {"url": "https://example.com/", "title": brief.title}
        else:
            yield WRITE, {"path": path or _path_for(kind), "content": _content(brief, path or _path_for(kind))}
    if entry is not None:
        yield from _site(brief, entry)


def _read(owed: str) -> tuple[str, str]:
    """`preview`, `report.md`, or `document report.md`."""
    first, _, rest = owed.partition(" ")
    return (first, rest) if first in KINDS else ("", owed)


def _path_for(kind: str) -> str:
    return "picture.svg" if kind == "image" else "notes.txt" if kind == "file" else "report.md"


def _content(brief: Brief, path: str) -> str:
    if path.endswith(".svg"):
        return DRAWING.format(escape(brief.title[:20]))
    if PAGE.search(path):
        return _page(brief, folder="")
    return prose.write(brief)


def _site(brief: Brief, entry: str) -> Iterator[Use]:
    folder = entry[: entry.rfind("/") + 1]
    yield WRITE, {"path": entry, "content": _page(brief, folder="assets/")}
    for name in ("site.css", "site.js"):
        yield WRITE, {"path": f"{folder}assets/{name}", "content": _asset(name)}
    yield WRITE, {"path": f"{folder}assets/content.json", "content": _told(brief)}
    yield PUBLISH, {"entry": entry}


def _asset(name: str) -> str:
    return resources.files("chassis.llm.demo").joinpath("pages", name).read_text(encoding="utf-8")


def _page(brief: Brief, folder: str) -> str:
    """Complete without its script, which makes views of the sections; without a folder it has neither style nor script."""
    head = f'<link rel="stylesheet" href="{folder}site.css"><script type="module" src="{folder}site.js"></script>'
    label, lead, points = prose.told(brief)
    sections = {
        "overview": (brief.say("In short", "En bref"), [lead, *points]),
        "steps": (brief.say("Where it comes from", "D'où cela vient"), list(brief.earlier) or [lead]),
        "next": (brief.say("What comes next", "La suite"), [prose.next_step(brief), *brief.criteria]),
    }
    links = "".join(f'<a href="{name}" data-view="{name}">{escape(sections[name][0])}</a>' for name in VIEWS)
    return (
        f'<!doctype html>\n<html lang="{brief.language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(brief.title)}</title>\n'
        f"{head if folder else ''}\n</head>\n<body>\n<header><h1>{escape(brief.title)}</h1>"
        f"{f'<nav>{links}</nav>' if folder else ''}</header>\n<main>\n"
        + "\n".join(_section(name, *sections[name]) for name in VIEWS)
        + f'\n</main>\n<footer>{escape(label)} <span id="alive"></span></footer>\n</body>\n</html>\n'
    )


def _section(name: str, title: str, lines: list[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section id="{name}"><h2>{escape(title)}</h2><ul>{items}</ul></section>'


def _told(brief: Brief) -> str:
    """What the script counts and shows: a request that works shows that the site is served as it should be."""
    sources = brief.say(f"earlier results: {len(brief.earlier)}", f"résultats précédents : {len(brief.earlier)}")
    return json.dumps({"title": brief.title, "sources": sources}, ensure_ascii=False, indent=2) + "\n"
