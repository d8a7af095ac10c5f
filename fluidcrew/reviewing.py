"""Verdicts over the API, for people: what waits for one, given, taken by somebody else; and attempts with guidance."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit
from fluidcrew.naming import held_meant, node_meant, run_meant
from fluidcrew.render import words
from fluidcrew.render.attempts import attempts_block
from fluidcrew.render.places import command
from fluidcrew.render.reviews import NOTHING_WAITS, reviews_table
from fluidcrew.render.screen import console
from fluidcrew.surroundings import login_name

MOST = 200
BEST, WORST = 100, 0


async def waiting(api: Gateway, run: str = "", *, last: bool = False) -> Mapping[str, Any]:
    """A page of what waits for a person's word, the oldest first."""
    about = (await run_meant(api, run, last=last)).id if run or last else None
    page: Mapping[str, Any] = await api.get("/reviews", run_id=about, limit=MOST)
    return page


async def list_waiting(run: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        page = await waiting(api, run, last=last)
    if as_json:
        return print_json(page)
    screen = console()
    if not page["items"]:
        screen.say(Text(NOTHING_WAITS, style="bright_black"))
        return Exit.OK
    screen.print(reviews_table(page["items"]))
    more = f"the oldest {len(page['items'])} of {page['total']:,}; " if page["total"] > len(page["items"]) else ""
    screen.say(Text(f"{more}{command()} review accept|reject|rerun|skip NODE", style="bright_black"))
    return Exit.OK


async def judge(
    wanted: str, key: str, score: int, *, last: bool, comment: str | None, seen: str | None, as_json: bool
) -> int:
    async with Gateway.of(os.environ) as api:
        node = await api.get(f"/nodes/{await held_meant(api, wanted, key, last=last)}")
        given = await give(api, node, score, comment, seen or in_force(node))
    if as_json:
        return print_json(given)
    console().say(Text(f"node {node['key']}: {given_words(given)}; {_status_of(given['run_id'])}"))
    return Exit.OK


def in_force(node: Mapping[str, Any]) -> str | None:
    """The feedback that says what the node's attempt is worth: what somebody has seen who decides now."""
    verdict = node.get("verdict")
    return str(verdict["feedback_id"]) if verdict and verdict["attempt"] == node["attempt"] else None


async def give(api: Gateway, node: Mapping[str, Any], score: int, comment: str | None, seen: str | None) -> Any:
    """The node is one of the API, or of what waits. Refused when another verdict than `seen` is in force by now."""
    body = {
        "run_id": node["run_id"],
        "node_id": node.get("node_id") or node["id"],
        "attempt": node["attempt"],
        "source": "human",
        "reviewer": login_name(),
        "score": score,
        "comment": comment,
        "seen": seen,
    }
    said = {name: value for name, value in body.items() if value is not None}
    return await api.post("/feedbacks", said, request_id=uuid.uuid4().hex)


def given_words(given: Mapping[str, Any]) -> str:
    critical = ", critical: nothing that depends on it starts" if given["critical"] else ""
    return f"score {given['score']}, {given['decision']}{critical}"


async def rerun(wanted: str, key: str, body: Mapping[str, Any], *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        node_id = await held_meant(api, wanted, key, last=last)
        answer = await again(api, node_id, body)
    if as_json:
        return print_json(answer)
    console().say(Text(f"node {key or wanted}: {again_words(answer)}; {_status_of(answer['run_id'])}"))
    return Exit.OK


async def again(api: Gateway, node_id: str, body: Mapping[str, Any]) -> Any:
    return await api.post(f"/nodes/{node_id}/rerun", {name: value for name, value in body.items() if value})


def again_words(answer: Mapping[str, Any]) -> str:
    goes_on = "; its run had ended and goes on" if answer.get("reopened") else ""
    return f"attempt {answer['attempt']} follows{goes_on}"


async def skip(wanted: str, key: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        node_id = await held_meant(api, wanted, key, last=last)
        answer = await leave_out(api, node_id)
    if as_json:
        return print_json(answer)
    console().say(Text(f"node {key or wanted}: skip requested; {_status_of(answer['run_id'])}"))
    return Exit.OK


async def leave_out(api: Gateway, node_id: str) -> Any:
    return await api.patch(f"/nodes/{node_id}", {"action": "skip"})


async def attempts(wanted: str, key: str, *, last: bool, everything: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        named = node_meant if key or last else held_meant
        found = await api.get(f"/nodes/{await named(api, wanted, key, last=last)}/attempts")
    if as_json:
        return print_json(found)
    screen = console()
    for part in attempts_block(found, everything=everything):
        screen.say(part) if isinstance(part, Text) else screen.print(part)
    return Exit.OK


def _status_of(run_id: object) -> str:
    return f"see it with: {command()} status {words.short_id(run_id)}"
