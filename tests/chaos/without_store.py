"""`python -m tests.chaos.without_store`: the object store is gone for a minute, and then for another one it only hangs."""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import time
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from chassis.testing.eventually import eventually
from tests.chaos.world import ChaosWorld
from tests.system.api import Api

ANSWERED_WITHIN = 30.0  # seconds for whoever asks meanwhile
BACK_WITHIN = 20.0  # seconds after the end of the outage until what waited is done
LOOK_EVERY = 5.0  # during an outage
SITES = 4
ZIP = "application/zip"
SMALL, LARGE = 40_000, 5 * 2**20  # the larger is never kept in memory
SYNTHESIS = [{"id": "guide", "title": "Synthesis: the tides"}]


@dataclass
class Witness:
    """What was seen from outside, and what of it must not be."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def most(self, name: str, seconds: float, bound: float) -> None:
        self.figures[name] = max(seconds, self.figures.get(name, 0.0))
        if seconds > bound:
            self.broken.append(f"{name}: {seconds:.1f} s, {bound:.0f} were allowed")

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            self.broken.append(what)


def site(text: str) -> bytes:
    made, dice = io.BytesIO(), random.Random(text)
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("index.html", f"<!doctype html><title>{text}</title>")
        for name, size in (("never.bin", SMALL), ("large.bin", LARGE)):
            archive.writestr(name, dice.randbytes(size))
    return made.getvalue()


async def seen(url: str) -> tuple[httpx.Response, float]:
    """As a browser does, and how long it took."""
    asked, began = httpx.URL(url), time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=120) as browser:
        answer = await browser.get(asked.copy_with(host="127.0.0.1"), headers={"Host": asked.netloc.decode()})
    return answer, time.monotonic() - began


def says_when_to_come_back(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and int(answer.headers.get("Retry-After", "0")) >= 1


class Outage:
    """One of them, on a stack that is well."""

    def __init__(self, api: Api, witness: Witness, kind: str, seconds: float) -> None:
        self._api, self._witness, self._kind, self._seconds = api, witness, kind, seconds

    async def play(self, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        api, tag = self._api, f"{self._kind} {uuid4()}"
        task = await self._task(tag)
        shown = await self._published(task, site(f"{tag} before"))
        await seen(shown["latest_url"])  # from here on it is at hand
        archives = [await self._archive(task, site(f"{tag} {n}")) for n in range(SITES)]
        begin()
        began = time.monotonic()
        waiting = [await self._submitted(task, archive) for archive in archives]
        run_id = await api.launch(f"A guide {tag}", SYNTHESIS, llm_backend="demo", llm_model="demo-1")
        while (left := began + self._seconds - time.monotonic()) > 0:
            looks = self._reads(shown), self._uploads(task, f"{tag} {left}"), self._waits(waiting)
            await asyncio.gather(asyncio.sleep(min(left, LOOK_EVERY)), *looks)
        self._witness.figures[f"{self._kind}: away for"] = time.monotonic() - began
        end()
        await self._recovered(task, shown, waiting, run_id, tag)

    async def _task(self, title: str) -> str:
        return str((await self._api.post("/tasks", {"title": title}))["id"])

    async def _published(self, task: str, archive: bytes) -> dict[str, Any]:
        sent = await self._sent(task, archive)
        return await self._ended(sent.json()["id"])

    async def _sent(self, task: str, archive: bytes) -> httpx.Response:
        headers = {"Content-Type": ZIP}
        return await self._api.http.post(
            f"/tasks/{task}/previews/publish", content=archive, headers=headers, timeout=200
        )

    async def _archive(self, task: str, archive: bytes) -> str:
        headers = {"Content-Type": ZIP}
        made = await self._api.http.post(f"/tasks/{task}/artifacts?name=site.zip", content=archive, headers=headers)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def _submitted(self, task: str, artifact_id: str) -> str:
        """By reference: that needs no object store."""
        return str(
            (await self._api.post(f"/tasks/{task}/previews/publish", {"artifact_id": artifact_id}, expect=202))["id"]
        )

    async def _ended(self, preview_id: str) -> dict[str, Any]:
        async def over() -> dict[str, Any] | None:
            found: dict[str, Any] = await self._api.get(f"/previews/{preview_id}")
            return found if found["state"] in ("ready", "failed") else None

        return await eventually(over, timeout=90, interval=0.1, what="the end of a publication")

    async def _reads(self, shown: dict[str, Any]) -> None:
        url, witness = shown["latest_url"], self._witness
        page, took = await seen(url)
        witness.must(page.status_code == 200, f"{self._kind}: the page at hand answered {page.status_code}")
        witness.most(f"{self._kind}: what is at hand", took, 2)
        for name in ("never.bin", "large.bin"):
            answer, took = await seen(f"{url}{name}")
            witness.must(says_when_to_come_back(answer), f"{self._kind}: {name} answered {answer.status_code}")
            witness.most(f"{self._kind}: 503 for what is not at hand", took, ANSWERED_WITHIN)

    async def _uploads(self, task: str, text: str) -> None:
        began = time.monotonic()
        answer = await self._sent(task, site(text))
        clear = says_when_to_come_back(answer) and answer.headers["Content-Type"] == "application/problem+json"
        self._witness.must(clear, f"{self._kind}: an upload answered {answer.status_code} {answer.text[:200]}")
        self._witness.most(f"{self._kind}: 503 for an upload", time.monotonic() - began, ANSWERED_WITHIN)

    async def _waits(self, waiting: Sequence[str]) -> None:
        for preview_id in waiting:
            state = (await self._api.get(f"/previews/{preview_id}"))["state"]
            self._witness.must(state in ("received", "publishing"), f"{self._kind}: a publication is {state}")

    async def _recovered(self, task: str, shown: dict[str, Any], waiting: Sequence[str], run_id: str, tag: str) -> None:
        back = time.monotonic()

        async def timed(name: str, work: Awaitable[Any]) -> Any:
            found = await work
            self._witness.most(f"{self._kind}: back: {name}", time.monotonic() - back, BACK_WITHIN)
            return found

        ended = await asyncio.gather(*(timed("publications", self._ended(each)) for each in waiting))
        states = [each["state"] for each in ended]
        self._witness.must(states == ["ready"] * SITES, f"{self._kind}: publications are {states}")
        await timed("the run", self._api.ended(run_id, timeout=90))
        await timed("what the run delivered", eventually(lambda: self._delivered(run_id), timeout=90, what="artifacts"))
        await timed("a file not at hand", eventually(lambda: self._reads_all(shown), timeout=90, what="the file"))
        again = await timed("an upload", eventually(lambda: self._taken(task, tag), timeout=90, what="an upload"))
        self._witness.must((await self._ended(again))["state"] == "ready", f"{self._kind}: the last one is not ready")

    async def _delivered(self, run_id: str) -> bool:
        """Its result, four files, and the site."""
        site = (await self._api.get("/previews", run_id=run_id))["items"]
        count: int = (await self._api.get(f"/runs/{run_id}/artifacts"))["total"]
        return count == 6 and [each["state"] for each in site] == ["ready"]

    async def _reads_all(self, shown: dict[str, Any]) -> bool:
        answers = [await seen(f"{shown['url']}{name}") for name in ("never.bin", "large.bin")]
        return [(a.status_code, len(a.content)) for a, _ in answers] == [(200, SMALL), (200, LARGE)]

    async def _taken(self, task: str, tag: str) -> str | None:
        answer = await self._sent(task, site(f"{tag} after"))
        return str(answer.json()["id"]) if answer.status_code == 202 else None


async def play(world: ChaosWorld, seconds: float) -> Witness:
    witness = Witness()
    async with Api(world.url()) as api:
        await Outage(api, witness, "gone", seconds).play(lambda: world.kill("s3"), lambda: world.restart("s3"))
        await Outage(api, witness, "hangs", seconds).play(lambda: world.freeze("s3"), lambda: world.thaw("s3"))
        failed = await world.rows("select kind, error from publisher.jobs where state = 'failed'")
        witness.must(not failed, f"jobs were given up: {[dict(row) for row in failed]}")
    return witness


def main(arguments: Sequence[str]) -> int:
    """0 when every rule holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.without_store", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each outage is")
    parser.add_argument("--logs", type=Path, help="where the logs are kept")
    options = parser.parse_args(arguments)
    world = ChaosWorld()
    try:
        world.start()
        witness = asyncio.run(play(world, options.seconds))
    finally:
        if options.logs:
            world.keep_logs(options.logs)
        world.stop()
    for name, seconds in witness.figures.items():
        print(f"  {name}: {seconds:.1f} s")
    for broken in dict.fromkeys(witness.broken):
        print(f"  broken: {broken}")
    print(f"{'✗' if witness.broken else '✓'} the object store away for {options.seconds:.0f} s, gone and hanging")
    return 1 if witness.broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
