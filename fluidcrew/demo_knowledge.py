"""The small knowledge of the demo's company: a space with three documents, which its run searches and cites."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import resources

from fluidcrew.client import Gateway
from fluidcrew.exits import Halt
from fluidcrew.knowing import made_searchable

SPACE = "Harbour"
DOCUMENTS = {"The product": "product.md", "Earlier launches": "launches.md", "How we write": "voice.md"}
PATIENCE = 20.0  # seconds until they can be searched; the demo goes on without


async def sent_documents(api: Gateway) -> list[str]:
    """Their ids. Documents that are there already stay as they are."""
    space_id = await _space(api)
    sent = [{"space_id": space_id, "title": title, "text": _text(name)} for title, name in DOCUMENTS.items()]
    added = await asyncio.gather(*(api.post("/knowledge/documents", each) for each in sent))
    return [str(each["id"]) for each in added]


async def _space(api: Gateway) -> str:
    found = (await api.get("/knowledge/spaces", name_contains=SPACE, scope="company"))["items"]
    known = next((each for each in found if each["name"] == SPACE), None)
    return str((known or await api.post("/knowledge/spaces", {"name": SPACE}))["id"])


def _text(name: str) -> str:
    return resources.files("fluidcrew").joinpath("demo_documents", name).read_text(encoding="utf-8")


async def searchable(api: Gateway, ids: Sequence[str]) -> int:
    """How many can be searched."""
    try:
        async with asyncio.timeout(PATIENCE):
            made = await asyncio.gather(*(made_searchable(api, id) for id in ids))
    except (Halt, TimeoutError):
        return 0
    return sum(each["state"] == "ready" for each in made)
