"""Artifacts, previews and what retention removes, as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words

Found = Mapping[str, Any]
STATES = {"ready": "green", "failed": "red", "publishing": "cyan", "received": "bright_black"}
SHOWN = 20  # files of a comparison


def artifacts_table(artifacts: Iterable[Found]) -> Table:
    table = _table()
    table.add_column("name", overflow="fold", ratio=1)
    for name in ("kind", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("by", "made", "id"):
        table.add_column(name, no_wrap=True)
    for each in artifacts:
        size = "" if each["size"] is None else words.size(each["size"])
        by = words.one_line(str(each["node_key"] or words.person(each["made_by"] or "")), 30)
        made = words.day_and_clock(moment(each["created_at"]))
        version = f"v{each['version']}"
        name = words.one_line(str(each["path"] or each["name"]), 80)
        if each["kind"] == "link":
            name = f"{name}: {words.one_line(str(each['url']), 120)}"
        table.add_row(
            name, str(each["kind"]), version, size, by, made, Text(words.short_id(each["id"]), "bright_black")
        )
    return table


def previews_table(previews: Iterable[Found], titles: Mapping[str, str] | None = None) -> Table:
    """`titles` of the tasks, when they are several tasks'."""
    table = _table()
    for name in (*(() if titles is None else ("task",)), "version", "state", "is"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("made", no_wrap=True)
    table.add_column("address, or what went wrong", overflow="fold", ratio=1)
    for each in previews:
        state = Text(str(each["state"]), style=STATES.get(str(each["state"]), "default"))
        marks = ", ".join(name for name in ("latest", "approved", "shared") if each[name])
        files = "" if each["files"] is None else f"{each['files']:,}"
        size = "" if each["size"] is None else words.size(each["size"])
        made = words.day_and_clock(moment(each["created_at"]))
        where = words.one_line(_root(each["url"]) or str(each["error"] or ""), 400)
        of = [] if titles is None else [_named(str(each["task_id"]), titles)]
        table.add_row(*of, f"v{each['version']}", state, marks, files, size, made, where)
    return table


def _root(url: str | None) -> str:
    """The short address of a site: it has a host of its own."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}/" if parts.netloc else ""


def _named(task_id: str, titles: Mapping[str, str]) -> Text:
    return Text.assemble((words.short_id(task_id), "bright_black"), f" {words.one_line(titles.get(task_id, ''), 30)}")


def preview_line(preview: Found) -> Text:
    """What became of it."""
    name, state = f"version {preview['version']}", str(preview["state"])
    line = Text.assemble((name, "bold"), " is ", (state, STATES.get(state, "default")))
    if state == "ready":
        line.append(f": {words.count(preview['files'], 'file')}, {words.size(preview['size'])}")
        line.append(", approved" if preview["approved"] else "")
    return line


def changes_lines(changes: Found) -> Iterable[Text]:
    yield Text(f"version {changes['from_version']} → {changes['to_version']}: {_counts(changes)}", style="bold")
    lines = [
        *(Text(f"  + {words.one_line(path, 300)}", style="green") for path in changes["added"]),
        *(Text(f"  - {words.one_line(path, 300)}", style="red") for path in changes["removed"]),
        *(_changed(each) for each in changes["changed"]),
    ]
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield Text(f"  and {words.count(len(lines) - SHOWN, 'more file', 'more files')}", style="bright_black")


def _counts(changes: Found) -> str:
    parts = [f"{len(changes[name]):,} {name}" for name in ("added", "removed", "changed")]
    return ", ".join([*parts, f"{changes['same']:,} the same"])


def _changed(each: Found) -> Text:
    sizes = f"{words.size(each['before'])} → {words.size(each['after'])}"
    return Text(f"  ~ {words.one_line(each['path'], 300)}  {sizes}", style="yellow")


def removals_table(removals: Iterable[Found]) -> Table:
    table = _table()
    for name in ("what", "task", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for each in removals:
        size = "" if each["size"] is None else words.size(each["size"])
        version = "" if each["version"] is None else f"v{each['version']}"
        what = f"{each['what']} {words.short_id(each['id'])}"
        table.add_row(what, words.short_id(each["task_id"] or ""), version, size, words.one_line(str(each["why"]), 200))
    return table


def shares_table(shares: Iterable[Found]) -> Table:
    table = _table()
    for name in ("version", "by", "until", "id"):
        table.add_column(name, no_wrap=True)
    for each in shares:
        by, until = words.person(each["made_by"] or ""), words.day_and_clock(moment(each["expires_at"]))
        table.add_row(f"v{each['version']}", words.one_line(by, 30), until, str(each["id"]))
    return table


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
