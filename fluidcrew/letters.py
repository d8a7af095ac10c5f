"""Dead letters over the API, for people: whoever asks by id need not know whose it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from chassis.printable import json_text
from contracts.catalog import OWNER_REQUESTS
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.render.screen import console
from fluidcrew.render.tables import dead_letters_table

PATH = "/admin/dead-letters"


async def list_letters(owner: str, limit: int) -> int:
    async with Gateway.of(os.environ) as api:
        pages = [(who, await api.get(f"{PATH}/{who}", limit=limit)) for who in owners(owner)]
    found = [(who, letter) for who, page in pages for letter in page["items"]]
    if not found:
        print("no dead letters")
        return Exit.OK
    screen = console()
    screen.print(dead_letters_table(found))
    return Exit.OK


async def show(id: str, owner: str) -> int:
    async with Gateway.of(os.environ) as api:
        who, letter = await _letter(api, id, owner)
    print(json_text({"owner": who, **letter}, indent=2))
    return Exit.OK


async def replay(id: str, owner: str) -> int:
    async with Gateway.of(os.environ) as api:
        who, letter = await _letter(api, id, owner)
        answer = await api.post(f"{PATH}/{who}/{id}/replay")
    print(f"{letter['durable']} handled it again as message {answer['message_id']}: {answer['outcome']}")
    return Exit.OK


async def _letter(api: Gateway, id: str, owner: str) -> tuple[str, Mapping[str, Any]]:
    for who in owners(owner):
        if (letter := await api.find(f"{PATH}/{who}/{id}")) is not None:
            return who, letter
    raise Halt(Exit.REFUSED, f"there is no dead letter {id}; `fluidcrew dlq list` shows those there are")


def owners(owner: str) -> list[str]:
    if owner and owner not in OWNER_REQUESTS:
        raise Halt(Exit.USAGE, f"--owner {owner}: it is one of {', '.join(OWNER_REQUESTS)}")
    return [owner] if owner else list(OWNER_REQUESTS)
