"""Reports and policies of quality over the API, for people."""

from __future__ import annotations

import os
from urllib.parse import quote

from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.naming import run_meant
from fluidcrew.render.quality import policies_table, policy_line, quality_table
from fluidcrew.render.run import markdown
from fluidcrew.render.screen import console, is_live
from fluidcrew.since import parse_since

MOST = 200


async def report(kind: str, wanted: str, *, last: bool, as_json: bool) -> int:
    """A run's `qa-report` or `incident`: rendered on a terminal, as Markdown elsewhere."""
    async with Gateway.of(os.environ) as api:
        path = f"{(await run_meant(api, wanted, last=last)).path}/{kind}"
        if as_json:
            return print_json(await api.get(path))
        text = await api.report(path)
    screen = console()
    screen.print(markdown(text) if is_live(screen) else Text(text), soft_wrap=not is_live(screen))
    return Exit.OK


async def over_time(by: str, bucket: str | None, since: str, project: str | None, *, as_json: bool) -> int:
    begin = parse_since(since)
    if begin.at is None:
        raise Halt(Exit.USAGE, f"--since {since}: give 7d, 12h or a moment such as 2025-03-01T12:00:00Z")
    async with Gateway.of(os.environ) as api:
        found = await api.get("/quality", by=by, bucket=bucket, project=project, ts_from=begin.at.isoformat())
    if as_json:
        return print_json(found)
    screen = console()
    if found["items"]:
        screen.print(quality_table(found))
    else:
        screen.say(Text(f"nothing was reviewed since {begin.at:%Y-%m-%d %H:%M} UTC", style="bright_black"))
    return Exit.OK


async def list_policies(*, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        found = await api.get("/feedback-policies", limit=MOST)
    if as_json:
        return print_json(found)
    screen = console()
    if found["items"]:
        screen.print(policies_table(found["items"]))
    note = "the narrowest that says something counts: agent, task, project, company, then the server's settings"
    screen.say(Text(note if found["items"] else "no policy is set: the server's settings count", style="bright_black"))
    return Exit.OK


async def set_policy(scope: str, id: str, threshold: int | None, revise: int | None, *, as_json: bool) -> int:
    if threshold is None and revise is None:
        raise Halt(Exit.USAGE, "what should it say? Give --threshold, --auto-revise or both")
    body = {"critical_threshold": threshold, "auto_revise": revise}
    async with Gateway.of(os.environ) as api:
        policy = await api.put(_path(scope, id), {name: value for name, value in body.items() if value is not None})
    if as_json:
        return print_json(policy)
    console().say(policy_line(policy))
    return Exit.OK


async def show_policy(scope: str, id: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        policy = await api.get(_path(scope, id))
    if as_json:
        return print_json(policy)
    console().say(policy_line(policy))
    return Exit.OK


async def remove_policy(scope: str, id: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        gone = await api.delete(_path(scope, id))
    if as_json:
        return print_json(gone)
    console().say(Text(f"{scope} {id}: no policy any more"))
    return Exit.OK


def _path(scope: str, id: str) -> str:
    return f"/feedback-policies/{scope}/{quote(id, safe='')}"
