"""Budgets over the API, for people: what is left of each, and what waits for it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit
from fluidcrew.render.budgets import budget_line, budgets_table
from fluidcrew.render.screen import console

MOST = 200


async def list_budgets(*, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        found = await api.get("/budgets", limit=MOST)
    if as_json:
        return print_json(found)
    screen = console()
    if found["items"]:
        screen.print(budgets_table(found["items"]))
        screen.say(Text("US dollars; reserved is the most that calls under way may cost", style="bright_black"))
    else:
        screen.say(Text("no budget is set: nothing limits what models may cost", style="bright_black"))
    return Exit.OK


async def set_budget(scope: str, id: str, usd: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        budget = await api.put(_path(scope, id), {"limit_usd": usd})
    return _said(budget, budget_line(budget), as_json=as_json)


async def show_budget(scope: str, id: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        budget = await api.get(_path(scope, id))
    return _said(budget, budget_line(budget), as_json=as_json)


async def remove_budget(scope: str, id: str, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        gone = await api.delete(_path(scope, id))
    return _said(gone, Text(f"{scope} {id}: no budget any more"), as_json=as_json)


def _path(scope: str, id: str) -> str:
    return f"/budgets/{scope}/{quote(id, safe='')}"


def _said(answer: Any, line: Text, *, as_json: bool) -> int:
    if as_json:
        return print_json(answer)
    console().say(line)
    return Exit.OK
