"""Knowledge over the API, for people: spaces made, documents added and followed, questions asked."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from fluidcrew.answers import print_json, print_page
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.naming import UUID_PATTERN
from fluidcrew.render import words
from fluidcrew.render.knowledge import document_line, documents_table, found_lines, receipt_line, spaces_table
from fluidcrew.render.screen import console

LOOK_EVERY = 0.25
PATIENCE = 900.0  # seconds until a document can be searched
ENDED = ("ready", "failed", "needs_ocr")
AT_ONCE = 4  # files on their way
MOST = 200
UNKNOWN = "application/octet-stream"
NEW = "make one with `fluidcrew knowledge new NAME`"
Found = Mapping[str, Any]


async def add(files: Sequence[Path], space: str, *, title: str, tags: list[str], waiting: bool, as_json: bool) -> int:
    if title and len(files) > 1:
        raise Halt(Exit.USAGE, f"--title is for one file, and here are {len(files)}")
    for file in files:
        if file.is_dir():
            raise Halt(Exit.USAGE, f"{file} is a folder: name its files, as in {file}/*.pdf")
        if not file.is_file():
            raise Halt(Exit.USAGE, f"there is no file {file}")
    screen, gate = console(stderr=as_json), asyncio.Semaphore(AT_ONCE)
    async with Gateway.of(os.environ) as api:
        into = await space_meant(api, space)

        async def added(file: Path) -> Found:
            async with gate:
                document = await _sent(api, file, into["id"], title or file.name, tags)
                document = await made_searchable(api, document["id"]) if waiting else document
            screen.print(document_line(document), soft_wrap=True)
            return document

        documents = await asyncio.gather(*(added(file) for file in files))
    if as_json:
        print_json({"items": documents})
    return Exit.OK if all(each["state"] not in ENDED[1:] for each in documents) else Exit.FAILED


async def _sent(api: Gateway, file: Path, space_id: str, title: str, tags: Sequence[str]) -> Found:
    kind = mimetypes.guess_type(file.name)[0] or UNKNOWN
    kind = UNKNOWN if kind.endswith("json") else kind  # as JSON it would be read as an order
    about = {"space_id": space_id, "title": title[:200], "name": file.name[:200], "tags": ",".join(tags) or None}
    sent: Found = await api.send("/knowledge/documents", file, kind, **about)
    return sent


async def made_searchable(api: Gateway, document_id: str) -> Found:
    """Ready, or failed. Raises Halt when it takes too long."""
    path = f"/knowledge/documents/{document_id}"
    document: Found = await api.until(path, lambda found: found["state"] in ENDED, patience=PATIENCE, every=LOOK_EVERY)
    if document["state"] not in ENDED:
        said = f"{document['title']} is still {document['state']} after {PATIENCE / 60:.0f} min"
        raise Halt(Exit.UNREACHABLE, f"{said}: it goes on without us; look with `fluidcrew knowledge ls`")
    return document


async def space_meant(api: Gateway, wanted: str) -> Found:
    """By its name, or how its id begins; the only one, when it is not named. Raises Halt."""
    spaces: list[Found] = (await api.get("/knowledge/spaces", limit=MOST))["items"]
    if not spaces:
        raise Halt(Exit.REFUSED, f"there are no spaces yet: {NEW}")
    named = [each for each in spaces if str(each["name"]).casefold() == wanted.casefold()]
    begun = [each for each in spaces if wanted and str(each["id"]).startswith(wanted.lower())]
    found = (named or begun) if wanted else spaces
    if len(found) == 1:
        return found[0]
    names = words.one_line(", ".join(str(each["name"]) for each in found or spaces), 300)
    if wanted and not found:
        raise Halt(Exit.REFUSED, f"there is no space {wanted!r}: there are {names}; {NEW}")
    raise Halt(Exit.USAGE, f"which space? Give --space: {names}")


async def list_documents(space: str, *, state: str | None, limit: int, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        space_id = (await space_meant(api, space))["id"] if space else None
        found = await api.get("/knowledge/documents", space_id=space_id, state=state, limit=limit)
        if as_json:
            return print_json(found)
        several = len({each["space_id"] for each in found["items"]}) > 1
        spaces = (await api.get("/knowledge/spaces", limit=MOST))["items"] if several else []
    table = partial(documents_table, spaces={each["id"]: str(each["name"]) for each in spaces})
    return print_page(found, table, nothing="no documents there: `fluidcrew knowledge add FILE --space …`")


async def search(question: str, space: str, *, limit: int, as_agent: str | None, as_json: bool) -> int:
    if as_agent == "":  # a variable that was not set: with the rights of a person all would be found
        raise Halt(Exit.USAGE, "--as-agent is empty: give the id of an agent, or leave it out")
    async with Gateway.of(os.environ) as api:
        asked: dict[str, Any] = {"query": question, "limit": limit, "as_agent": as_agent}
        if space:
            asked["space_ids"] = [(await space_meant(api, space))["id"]]
        found = await api.post("/knowledge/search", asked)
    if as_json:
        return print_json(found)
    screen = console()
    for n, item in enumerate(found["items"], 1):
        for line in found_lines(n, item):
            screen.print(line, soft_wrap=True)
    if not found["items"]:
        screen.say("nothing was found")
    screen.print(receipt_line(found), soft_wrap=True)
    return Exit.OK


async def remove(wanted: str, space: str, *, as_json: bool) -> int:
    _check_named(wanted, "DOCUMENT")
    async with Gateway.of(os.environ) as api:
        space_id = (await space_meant(api, space))["id"] if space else None
        document = await _document_meant(api, wanted, space_id)
        gone = await api.delete(f"/knowledge/documents/{document['id']}")
    if as_json:
        return print_json(gone)
    console().say(f"{words.one_line(str(document['title']), 80)} is removed; it is found no more")
    return Exit.OK


def _check_named(wanted: str, what: str) -> None:
    """Every id begins with nothing: who has a single one would lose it by a variable that was not set. Raises Halt."""
    if not wanted.strip():
        raise Halt(Exit.USAGE, f"{what} is empty: give its name, or how its id begins")


async def _document_meant(api: Gateway, wanted: str, space_id: str | None) -> Found:
    """By its whole id, or among those whose title contains it, and the newest."""
    if UUID_PATTERN.fullmatch(wanted):
        known: Found | None = await api.find(f"/knowledge/documents/{wanted}")
        if known is not None and space_id in (None, known["space_id"]):
            return known
    titled = await api.get("/knowledge/documents", space_id=space_id, title_contains=wanted, limit=MOST)
    newest = await api.get("/knowledge/documents", space_id=space_id, limit=MOST)
    named = [each for each in titled["items"] if str(each["title"]).casefold() == wanted.casefold()]
    found: list[Found] = named or [each for each in newest["items"] if str(each["id"]).startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Halt(Exit.REFUSED, f"there is no document {wanted!r}: `fluidcrew knowledge ls` lists them")
    lines = tuple(f"{words.short_id(each['id'])} {words.one_line(str(each['title']), 60)}" for each in found[:5])
    raise Halt(Exit.REFUSED, f"{len(found)} documents are meant by {wanted!r}: give how the id begins", lines)


async def list_spaces(*, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        found = await api.get("/knowledge/spaces", limit=MOST)
    if as_json:
        return print_json(found)
    screen = console()
    if found["items"]:
        screen.print(spaces_table(found["items"]))
    else:
        screen.say(Text(f"there are no spaces yet: {NEW}", style="bright_black"))
    return Exit.OK


async def new(
    name: str, *, language: str, project: str, agent: str, readers: Sequence[str] | None, as_json: bool
) -> int:
    if project and agent:
        raise Halt(Exit.USAGE, "--project and --agent: a space is of one of them")
    scope = "project" if project else "agent" if agent else "company"
    body: dict[str, Any] = {
        "name": name,
        "scope": scope,
        "scope_id": project or agent or None,
        "language": str(language),
    }
    if readers:
        body["grants"] = [{"principal": each} for each in readers]
    async with Gateway.of(os.environ) as api:
        made = await api.post("/knowledge/spaces", body)
    if as_json:
        return print_json(made)
    console().say(
        f"space {made['name']} ({words.short_id(made['id'])}) is there; fill it with `fluidcrew knowledge add`"
    )
    return Exit.OK


async def drop(wanted: str, *, force: bool, as_json: bool) -> int:
    _check_named(wanted, "SPACE")
    async with Gateway.of(os.environ) as api:
        space = await space_meant(api, wanted)
        gone = await api.delete(f"/knowledge/spaces/{space['id']}{'?force=true' if force else ''}")
    if as_json:
        return print_json(gone)
    console().say(f"space {space['name']} is removed, with {words.count(space['documents'], 'document')}")
    return Exit.OK
