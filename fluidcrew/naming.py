"""What people mean by a few characters: a run, a task or a node, found by how its id begins, or the latest run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.render import words

UUID_PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
LOOKED_AT = 200  # of the newest; older ones need their whole id
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Thing:
    """A run or a task. `found` is what the API says of it."""

    kind: str
    found: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.found["id"])

    @property
    def path(self) -> str:
        return f"/{self.kind}s/{self.id}"

    @property
    def name(self) -> str:
        return f"{self.kind} {words.short_id(self.id)} {words.one_line(str(self.found['title']), 40)!r}"

    @property
    def task_id(self) -> str:
        """Raises Halt for a run of no task."""
        task_id = self.id if self.kind == "task" else self.found.get("task_id")
        if task_id is None:
            raise Halt(Exit.REFUSED, f"{self.name} belongs to no task: start another one with `fluidcrew run`")
        return str(task_id)


async def meant(api: Gateway, wanted: str, *, last: bool = False) -> Thing:
    """Raises Halt when nothing is named so, or more than one thing is."""
    if last or not wanted:
        return await _latest(api, last=last, wanted=wanted)
    begins = wanted.lower()
    if UUID_PATTERN.fullmatch(begins):
        for kind in ("run", "task"):
            if (found := await api.find(f"/{kind}s/{begins}")) is not None:
                return Thing(kind, found)
        raise Halt(Exit.REFUSED, f"there is no run and no task {begins}; `fluidcrew runs` lists runs")
    pages = await asyncio.gather(*(_newest(api, kind, LOOKED_AT) for kind in ("run", "task")))
    return _the_one(wanted, [thing for things in pages for thing in things if thing.id.startswith(begins)])


async def run_meant(api: Gateway, wanted: str, *, last: bool = False) -> Thing:
    """The same for what only a run can be asked: a task stands for its latest run."""
    thing = await meant(api, wanted, last=last)
    if thing.kind == "run":
        return thing
    if thing.found.get("run_id") is None:
        raise Halt(Exit.REFUSED, f"{thing.name} has no run yet: start one with `fluidcrew retry {thing.id[:8]}`")
    return Thing("run", await api.get(f"/runs/{thing.found['run_id']}"))


async def node_meant(api: Gateway, wanted: str, key: str, *, last: bool) -> str:
    """By its own id, or by its run and key. With --last the one word given is the key."""
    if last and not key:
        wanted, key = "", wanted
    if not key and UUID_PATTERN.fullmatch(wanted) and await api.find(f"/nodes/{wanted.lower()}") is not None:
        return wanted.lower()
    run = await run_meant(api, wanted, last=last)
    nodes = (await api.get(f"{run.path}/nodes", limit=200))["items"]
    for node in nodes:
        if key and node["key"] == key:
            return str(node["id"])
    keys = words.one_line(", ".join(str(node["key"]) for node in nodes), 300)
    if key:
        raise Halt(Exit.REFUSED, f"{run.name} has no node {key!r}; it has: {keys}")
    raise Halt(Exit.USAGE, f"which node of {run.name}? It has: {keys}")


async def held_meant(api: Gateway, wanted: str, key: str, *, last: bool) -> str:
    """The id of a node: first of those that wait for a person, by how the id begins or by the key."""
    if wanted and not key and not last:
        held = (await api.get("/reviews", limit=LOOKED_AT))["items"]
        found = [node for node in held if str(node["node_id"]).startswith(wanted.lower()) or node["key"] == wanted]
        if len(found) == 1:
            return str(found[0]["node_id"])
        if found:
            lines = [f"node {words.short_id(node['node_id'])} {node['key']} of {node['run_title']!r}" for node in found]
            raise Halt(
                Exit.REFUSED, f"{len(found)} nodes are meant by {wanted!r}: give more of the id", tuple(lines[:SHOWN])
            )
    return await node_meant(api, wanted, key, last=last)


async def _latest(api: Gateway, *, last: bool, wanted: str) -> Thing:
    if last == bool(wanted):
        problem = "--last and an id: give one of them" if last else "which one? Give the id of a run or task, or --last"
        raise Halt(Exit.USAGE, f"{problem}; `fluidcrew runs` lists runs")
    if not (found := await _newest(api, "run", 1)):
        raise Halt(Exit.REFUSED, 'there are no runs yet: start one with `fluidcrew run "Write a market study"`')
    return found[0]


async def _newest(api: Gateway, kind: str, limit: int) -> list[Thing]:
    archived = {"include_archived": "true"} if kind == "task" else {}
    page = await api.get(f"/{kind}s", limit=limit, order_by="-created_at", **archived)
    return [Thing(kind, found) for found in page["items"]]


def _the_one(wanted: str, found: list[Thing]) -> Thing:
    if len(found) == 1:
        return found[0]
    if not found:
        raise Halt(Exit.REFUSED, f"no recent run or task begins with {wanted!r}; `fluidcrew runs` lists runs")
    lines = [thing.name for thing in found[:SHOWN]]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    raise Halt(Exit.REFUSED, f"{len(found)} things begin with {wanted!r}: give more of the id", (*lines, *more))
