"""What deliverables cost: a site of 1,000 files published, its files served beside nginx, memory while 50 MB come in."""

from __future__ import annotations

import asyncio
import io
import random
import re
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.contestant import LeftOut
from bench.figures import Report
from bench.peers import apt
from bench.peers.nginx import nginx
from bench.stack import World

FILES, BYTES = 1000, 20 * 2**20
ASKED = 200  # files of it that are asked for, in turn
CONNECTIONS = 16
UPLOAD = 50_000_000
ZIP = {"content-type": "application/zip"}
SCRIPT = """
local paths, n = {{ {paths} }}, 0
request = function() n = n % #paths + 1; return wrk.format("GET", paths[n]) end
done = function(summary, latency)
    io.write(string.format("RESULT %d %f %d\\n", summary.requests / summary.duration * 1e6,
        latency:percentile(95) / 1000, summary.errors.status))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    per_second: int
    p95: float  # milliseconds


def site(seed: int) -> dict[str, bytes]:
    """Pages, scripts and pictures whose bytes no compression makes smaller."""
    dice = random.Random(seed)
    files = {"index.html": b"<!doctype html><title>bench</title>"}
    size = (BYTES - len(files["index.html"])) // (FILES - 1)
    for n in range(FILES - 1):
        files[f"assets/{n % 40}/file-{n}.{('js', 'css', 'png')[n % 3]}"] = dice.randbytes(size)
    return files


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


async def publishing(report: Report, world: World, times: int = 3) -> None:
    """Another site each time: bytes that are stored already would not be put again."""
    task, took = await _task(world), list[float]()
    for seed in range(times):
        archive, began = zipped(site(seed)), time.perf_counter()
        await _published(world, task, archive)
        took.append(time.perf_counter() - began)
    shown = " · ".join(f"{seconds:.1f}" for seconds in took)
    how = f"{FILES:,} files, {BYTES / 2**20:.0f} MiB, each time others; from the first byte sent to `ready`"
    report.add("publish a site", f"{min(took):.1f} s at best ({shown})", how)


async def serving(report: Report, world: World, seconds: int = 5) -> None:
    files = site(99)
    preview = await _published(world, await _task(world), zipped(files))
    with tempfile.TemporaryDirectory(prefix="fluidcrew-bench-nginx-") as place:
        root = Path(place) / "site"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        try:
            async with nginx(Path(place), root) as peer:
                ours, theirs = await _compared(preview["latest_url"], peer.url, sorted(files)[:ASKED], place, seconds)
                against = f"nginx {peer.version}, one process, the same files from disk"
        except LeftOut as reason:
            print(f"  previews are not compared: {reason}", flush=True)
            return
    how = f"GET of {ASKED} files of 21 KB, {CONNECTIONS} connections, wrk; medians of 3 rounds, interleaved with nginx"
    report.add("previews served", f"{ours.per_second:,} requests/s · p95 {ours.p95:.1f} ms", how)
    report.add("the same by nginx", f"{theirs.per_second:,} requests/s · p95 {theirs.p95:.1f} ms", against)
    share = ours.per_second / theirs.per_second
    report.add("previews against nginx", f"{share:.2f} ×", "requests per second, median over median")


async def _compared(ours: str, theirs: str, paths: list[str], place: str, seconds: int) -> tuple[Load, Load]:
    program = apt.found("wrk", "usr/bin/wrk", "to have previews in the comparison")
    script = Path(place) / "paths.lua"
    script.write_text(SCRIPT.format(paths=", ".join(f'"/{path}"' for path in paths)))
    rounds = [[await _load(program, url, script, seconds) for url in (ours, theirs)] for _ in range(3)]
    return _median([mine for mine, _ in rounds]), _median([other for _, other in rounds])


async def _load(program: apt.Program, url: str, script: Path, seconds: int) -> Load:
    """`url` names the host; the server is on this machine."""
    parts = urlsplit(url)
    load = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), "-H", f"Host: {parts.netloc}"]
    process = await asyncio.create_subprocess_exec(
        program.path, *load, f"http://127.0.0.1:{parts.port}", env=program.environment(), stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    found = re.search(r"RESULT (\d+) (\S+) (\d+)", said)
    assert found is not None, said
    assert found[3] == "0", f"{found[3]} answers were errors"
    return Load(int(found[1]), float(found[2]))


def _median(loads: list[Load]) -> Load:
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]


async def memory(report: Report, world: World) -> None:
    """Of the processes that the bytes pass, at their highest, over what they had before."""
    task = await _task(world)
    await _published(world, task, zipped({"index.html": b"warm"}))
    archive = zipped({"index.html": b"x", "one.bin": _random(24_900_000), "two.bin": _random(24_900_000)})
    names = ("gateway", "publisher")
    processes = {p.name: psutil.Process(p.child.pid) for p in world.running.processes if p.name in names and p.child}
    async with _highest(processes) as grown:
        await _published(world, task, archive)
    shown = " · ".join(f"{name} +{grown[name] / 2**20:.0f} MiB" for name in names)
    how = f"a ZIP of {len(archive) / 1e6:.0f} MB, from the first byte to `ready`; resident memory, sampled every 5 ms"
    report.add("memory while an upload comes in", shown, how)


def _random(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@asynccontextmanager
async def _highest(processes: dict[str, psutil.Process]) -> AsyncIterator[dict[str, int]]:
    before = {name: process.memory_info().rss for name, process in processes.items()}
    grown = dict.fromkeys(processes, 0)

    async def sample() -> None:
        while True:
            for name, process in processes.items():
                grown[name] = max(grown[name], process.memory_info().rss - before[name])
            await asyncio.sleep(0.005)

    sampling = asyncio.create_task(sample())
    try:
        yield grown
    finally:
        sampling.cancel()


async def _task(world: World) -> str:
    made = await world.http.post("/tasks", json={"title": f"bench {random.random()}"})
    made.raise_for_status()
    id: str = made.json()["id"]
    return id


async def _published(world: World, task: str, archive: bytes) -> dict[str, Any]:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in _cut(archive):
            yield piece

    sent = await world.http.post(f"/tasks/{task}/previews/publish", content=pieces(), headers=ZIP)
    sent.raise_for_status()
    while True:
        found: dict[str, Any] = (await world.http.get(f"/previews/{sent.json()['id']}")).json()
        if found["state"] in ("ready", "failed"):
            assert found["state"] == "ready", found["error"]
            return found
        await asyncio.sleep(0.02)


def _cut(data: bytes, size: int = 2**16) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
