"""The site that a run published: waited for, opened as a browser would, and checked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from fluidcrew.client import Gateway
from fluidcrew.delivering import published
from fluidcrew.exits import Exit, Halt
from fluidcrew.planning import final_node
from fluidcrew.progress import RunView
from fluidcrew.render import words

LOOK_EVERY = 0.1
PATIENCE = 20.0  # seconds until what the last node delivered is listed
ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Opened:
    """`url` has answered with its page."""

    url: str
    files: int
    size: int  # bytes of the page
    seconds: float

    @property
    def detail(self) -> str:
        page = f"{words.size(self.size)} in {words.duration(self.seconds)}"
        return f"{words.count(self.files, 'file')}; its page answered with {page}"


async def opened_site(api: Gateway, view: RunView) -> Opened | None:
    """None when the run has published none, as with models that saw no need. Raises Halt when it does not open."""
    node = final_node(view)
    if node is None or not await _has_delivered(api, node.id):
        return None
    found = (await api.get("/previews", run_id=view.id, limit=1))["items"]
    return await _opened(await published(api, found[0]["id"])) if found else None


async def _has_delivered(api: Gateway, node_id: str) -> bool:
    """Its artifacts and its preview come in one."""
    path = f"/nodes/{node_id}/artifacts"
    page = await api.until(path, lambda found: found["total"], patience=PATIENCE, every=LOOK_EVERY, limit=1)
    return bool(page["total"])


async def _opened(preview: Mapping[str, Any]) -> Opened:
    if preview["state"] != "ready":
        raise Halt(Exit.FAILED, f"the site was not published: {preview['error']}")
    url, began = str(preview["latest_url"]), time.monotonic()
    answer = await _get(url)
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status_code != httpx.codes.OK or not is_page:
        raise Halt(Exit.FAILED, f"the site at {url} does not open: it answered {answer.status_code}")
    return Opened(url, int(preview["files"]), len(answer.content), time.monotonic() - began)


async def _get(url: str) -> httpx.Response:
    """Browsers know that every host below localhost is this machine; not every resolver does."""
    asked = httpx.URL(url)
    is_here = asked.host.endswith(".localhost")
    address = asked.copy_with(host="127.0.0.1") if is_here else asked
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=not is_here) as browser:
            return await browser.get(address, headers={"Host": asked.netloc.decode()})
    except httpx.HTTPError as error:
        raise Halt(Exit.FAILED, f"the site at {url} does not open: {error or type(error).__name__}") from error
