"""Shared links of a site's versions over the API, for people: made, listed, ended."""

from __future__ import annotations

import asyncio
import os

from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.delivering import site_of, version_meant
from fluidcrew.exits import Exit
from fluidcrew.render import words
from fluidcrew.render.deliverables import shares_table
from fluidcrew.render.screen import console


async def share(task: str, which: str, days: float, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        preview, _ = await version_meant(api, task, which, last=last)
        shared = await api.post(f"/previews/{preview['id']}/shares", {"expires_in_days": days})
    if as_json:
        return print_json(shared)
    screen = console()
    screen.print(Text(str(shared["url"])), soft_wrap=True)
    until = f"version {preview['version']} for whoever has this link, until {shared['expires_at'][:16]} UTC"
    screen.say(Text(f"{until}; end it with `fluidcrew previews unshare {shared['id']}`", style="bright_black"))
    return Exit.OK


async def shares(task: str, *, last: bool, as_json: bool) -> int:
    """Of all versions, those that still open something; the links themselves are known to who made them."""
    async with Gateway.of(os.environ) as api:
        versions = (await api.get(await site_of(api, task, last=last), limit=200))["items"]
        shared = [each for each in versions if each["shared"]]
        pages = await asyncio.gather(*(api.get(f"/previews/{each['id']}/shares", limit=200) for each in shared))
    found = [
        {**link, "version": preview["version"]}
        for preview, page in zip(shared, pages, strict=True)
        for link in page["items"]
        if link["revoked_at"] is None
    ]
    if as_json:
        return print_json(found)
    screen = console()
    if found:
        screen.print(shares_table(found))
    else:
        screen.say(Text("no version is shared: `fluidcrew previews share TASK`", style="bright_black"))
    return Exit.OK


async def unshare(share_id: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        revoked = await api.delete(f"/shares/{share_id}")
    if as_json:
        return print_json(revoked)
    console().say(f"share {words.short_id(share_id)}: its link leads nowhere any more")
    return Exit.OK
