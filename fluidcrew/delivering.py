"""Deliverables over the API, for people: published, listed, opened, pinned, compared, shared, swept."""

from __future__ import annotations

import asyncio
import os
import re
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from fluidcrew.answers import print_json, print_page
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.naming import UUID_PATTERN, meant
from fluidcrew.packing import packed
from fluidcrew.render import words
from fluidcrew.render.deliverables import (
    artifacts_table,
    changes_lines,
    preview_line,
    previews_table,
    removals_table,
)
from fluidcrew.render.screen import console, is_live

LOOK_EVERY = 0.2
PATIENCE = 180.0  # seconds for a publication
ENDED = ("ready", "failed")
ZIP = "application/zip"
VERSION = re.compile(r"v?(latest|approved|[1-9][0-9]{0,8})")
Found = Mapping[str, Any]


async def publish(source: Path, task: str, *, entry: str | None, waiting: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        place = await site_of(api, task)
        with packed(source) as archive:
            sent = await api.send(f"{place}/publish", archive.path, ZIP, name=archive.name[:200], entry=entry)
            left_out = archive.left_out
        preview = await published(api, sent["id"]) if waiting else sent
    if as_json:
        return print_json(preview)
    screen = console()
    if left_out:
        named = words.one_line(", ".join(left_out), 120)
        screen.say(Text(f"left out, because hidden or a link: {named}", style="yellow"))
    if preview["state"] == "failed":
        raise Halt(Exit.FAILED, f"version {preview['version']} was not published: {preview['error']}")
    screen.say(preview_line(preview))
    _addresses(preview)
    return Exit.OK


def _addresses(preview: Found) -> None:
    if preview["url"]:
        screen = console()
        screen.print(Text(str(preview["latest_url"] if preview["latest"] else preview["url"])), soft_wrap=True)


async def published(api: Gateway, preview_id: str) -> Found:
    """Ready or failed. Raises Halt when it takes too long."""
    preview: Found = await api.until(
        f"/previews/{preview_id}", lambda found: found["state"] in ENDED, patience=PATIENCE, every=LOOK_EVERY
    )
    if preview["state"] not in ENDED:
        raise Halt(
            Exit.UNREACHABLE,
            f"version {preview['version']} is still {preview['state']} after {PATIENCE:.0f} s: it goes on without us;"
            f" look with `fluidcrew previews ls {preview['task_id'][:8]}`",
        )
    return preview


async def site_of(api: Gateway, wanted: str, *, last: bool = False) -> str:
    """The path of a task's previews; a run stands for its task, and for itself when it has none."""
    thing = await meant(api, wanted, last=last)
    return f"/tasks/{thing.found.get('task_id') or thing.id}/previews"


async def version_meant(api: Gateway, task: str, which: str, *, last: bool) -> tuple[Found, str]:
    """And the word for it: `v3` is `3`, and with --last the one word given is the version. Raises Halt."""
    if last and task and which == "latest":
        task, which = "", task
    if (named := VERSION.fullmatch(which)) is None:
        raise Halt(Exit.USAGE, f"there is no version {which!r}: give latest, approved, or a number like 3")
    return await api.get(f"{await site_of(api, task, last=last)}/{named[1]}"), named[1]


async def list_artifacts(
    wanted: str, *, last: bool, kind: str | None, everything: bool, limit: int, as_json: bool
) -> int:
    """Of a run or task; of the company without a name."""
    query = {"kind": kind, "latest": None if everything else "true", "limit": limit}
    async with Gateway.of(os.environ) as api:
        place = (await meant(api, wanted, last=last)).path if wanted or last else ""
        found = await api.get(f"{place}/artifacts", **query)
    if as_json:
        return print_json(found)
    return print_page(found, artifacts_table, nothing="nothing was delivered there yet")


async def list_previews(task: str, *, last: bool, limit: int, as_json: bool) -> int:
    """Of a task or run; of the company without a name."""
    titles = None
    async with Gateway.of(os.environ) as api:
        of_one = bool(task or last)
        found = await api.get(await site_of(api, task, last=last) if of_one else "/previews", limit=limit)
        if not (of_one or as_json):
            titles = await _titles(api, found["items"])
    if as_json:
        return print_json(found)
    nothing = f"nothing was published {'there ' if of_one else ''}yet: `fluidcrew publish FOLDER --task …`"
    return print_page(found, lambda items: previews_table(items, titles), nothing=nothing)


async def _titles(api: Gateway, previews: Sequence[Found]) -> Mapping[str, str]:
    """Of the tasks and runs whose sites they are, by id."""
    ids = list(dict.fromkeys(str(each["task_id"]) for each in previews))
    things = await asyncio.gather(*(_site_s(api, id) for id in ids))
    return {id: str(thing["title"]) for id, thing in zip(ids, things, strict=True) if thing is not None}


async def _site_s(api: Gateway, id: str) -> Found | None:
    return await api.find(f"/tasks/{id}") or await api.find(f"/runs/{id}")


async def open_preview(task: str, which: str, *, last: bool, printing: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        preview, which = await version_meant(api, task, which, last=last)
    if as_json:
        return print_json(preview)
    if preview["url"] is None:
        raise Halt(Exit.REFUSED, f"version {preview['version']} is {preview['state']}: {preview['error'] or 'wait'}")
    url = str(preview["latest_url"] if which == "latest" else preview["url"])
    shows = not printing and is_live(console()) and await asyncio.to_thread(webbrowser.open, url)
    console().print(Text(f"opened {url}" if shows else url), soft_wrap=True)
    return Exit.OK


async def pin(task: str, which: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        preview, _ = await version_meant(api, task, which, last=last)
        pinned = await api.post(f"/previews/{preview['id']}/pin")
    return _said(pinned, as_json=as_json)


async def unpin(task: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        preview = await api.get(f"{await site_of(api, task, last=last)}/approved")
        unpinned = await api.post(f"/previews/{preview['id']}/unpin")
    return _said(unpinned, as_json=as_json)


async def compare(task: str, before: int | None, after: int | None, *, last: bool, as_json: bool) -> int:
    """Without numbers the newest version with the one before it."""
    async with Gateway.of(os.environ) as api:
        place = await site_of(api, task, last=last)
        after = after or (await api.get(f"{place}/latest"))["version"]
        before = before or await _before(api, place, after)
        changes = await api.get(f"{place}/compare", **{"from": before, "to": after})
    if as_json:
        return print_json(changes)
    for line in changes_lines(changes):
        console().print(line, soft_wrap=True)
    return Exit.OK


async def _before(api: Gateway, place: str, version: int) -> int:
    """The newest that was ready before."""
    ready = (await api.get(place, state="ready", order_by="-version", limit=200))["items"]
    found = next((int(each["version"]) for each in ready if each["version"] < version), None)
    if found is None:
        raise Halt(Exit.REFUSED, f"there is no version before {version} to compare it with")
    return found


async def sweep(task: str, *, dry_run: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        task_id = await _swept(api, task) if task else None
        report = await api.post("/deliverables/sweep", {"dry_run": dry_run, "task_id": task_id})
    if as_json:
        return print_json(report)
    screen = console()
    if report["items"]:
        screen.print(removals_table(report["items"]))
    done = "would be removed" if dry_run else "removed"
    more = "; there is more, call it again" if report["more"] else ""
    screen.say(f"{words.count(len(report['items']), 'item')} {done}, {words.size(report['size'])}{more}")
    return Exit.OK


async def _swept(api: Gateway, task: str) -> str:
    """A whole id is taken as it is: what a deleted task left is swept as well, and nobody else knows of it."""
    if not UUID_PATTERN.fullmatch(task):
        return (await meant(api, task)).task_id
    run = await api.find(f"/runs/{task.lower()}")
    return str(run["task_id"]) if run else task.lower()


def _said(preview: Found, *, as_json: bool) -> int:
    if as_json:
        return print_json(preview)
    console().say(preview_line(preview))
    return Exit.OK
