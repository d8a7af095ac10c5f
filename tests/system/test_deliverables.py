"""From a run to a page in the browser: what an agent wrote through tools, what people publish, and where it opens."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from tests.system.api import Api, Json
from tests.system.defaults import API_KEY
from tests.system.test_reviews import held
from tests.system.typed import COMMAND, said_by
from tests.system.world import World

CHUNK = 2**18
GUIDE = {"id": "guide", "title": "Synthesis: the tides"}


async def browse(url: str, **headers: str) -> httpx.Response:
    """As a browser does, which knows that all hosts below localhost are this machine."""
    asked = httpx.URL(url)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        named = {"Host": asked.netloc.decode()} | headers
        return await browser.get(asked.copy_with(host="127.0.0.1"), headers=named)


async def ready(api: Api, **about: str) -> Json:
    async def there() -> Json | None:
        found = (await api.get("/previews", **about))["items"]
        return found[0] if found and found[0]["state"] in ("ready", "failed") else None

    preview = await eventually(there, what="a preview")
    assert preview["state"] == "ready", preview["error"]
    return preview


@pytest.mark.system
async def test_what_a_run_s_agent_wrote_opens_and_is_listed_with_the_run(api: Api) -> None:
    run_id = await api.launch("A guide with a site", [GUIDE], llm_backend="demo", llm_model="demo-1")
    run = await api.ended(run_id)
    preview = await ready(api, run_id=run_id)
    page = await browse(preview["latest_url"])
    assert (page.status_code, "Synthesis: the tides" in page.text) == (200, True)
    (script,) = re.findall(r'src="(assets/[^"]+)"', page.text)
    asset = await browse(preview["latest_url"] + script)
    assert (asset.status_code, asset.headers["Content-Type"].split(";")[0]) == (200, "text/javascript")
    deep = await browse(preview["latest_url"] + "next")
    assert deep.text == page.text, "a view of its script has an address"
    assert (await browse(preview["latest_url"] + "assets/missing.js")).status_code == 404

    shown = await api.get(f"/runs/{run_id}", include_artifacts=10)
    kinds = {artifact["name"]: artifact["type"] for artifact in shown["artifacts"]}
    assert kinds["guide.md"] == "document"
    assert "preview" in kinds.values()
    assert shown["summary"]["artifacts_total"] == len(shown["artifacts"]) == 6
    (node,) = run["dag"]["nodes"]
    of_node = await api.get(f"/nodes/{node['id']}/artifacts", name_contains="guide.md")
    output = await api.get(f"/nodes/{node['id']}")
    assert of_node["items"][0]["content"] == output["output"]


@pytest.mark.system
async def test_what_a_node_owes_is_looked_for_before_its_result_is_used(api: Api) -> None:
    owes = {"id": "site", "title": "Make the site", "deliverables": ["preview", "notes.md"]}
    done = await api.launch("Owed and delivered", [owes], gate="gate", llm_backend="demo", llm_model="demo-1")
    await api.ended(done)
    assert (await ready(api, run_id=done))["entry"] == "index.html"
    lacking = await api.launch("Owed, and a model that writes nothing", [owes], gate="gate")
    node = (await held(api, lacking, "site"))["site"]
    assert node["verdict"]["effect"] == "hold"
    said = (await api.get("/feedbacks", node_id=node["id"]))["items"]
    assert said[0]["evaluation"]["failed_criteria"] == ["deliverable preview", "deliverable notes.md"]


@pytest.mark.system
async def test_a_folder_is_published_pinned_and_followed_from_the_command_line(
    world: World, api: Api, tmp_path: Path
) -> None:
    surroundings = {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY}
    task = (await api.post("/tasks", {"title": f"A site of our own {uuid4()}"}))["id"]
    for version, text in ((1, "one"), (2, "two")):
        (tmp_path / "index.html").write_text(f"<!doctype html><title>{text}</title>")
        said = await said_by(COMMAND, "publish", tmp_path, "--task", task, **surroundings)
        assert f"version {version} is ready: 1 file" in said
        if version == 1:
            await said_by(COMMAND, "previews", "pin", task, **surroundings)
    url = (await said_by(COMMAND, "open", task, "--print", **surroundings)).strip()
    assert "<title>two</title>" in (await browse(url)).text
    approved = (await said_by(COMMAND, "open", task, "approved", "--print", **surroundings)).strip()
    page = await browse(approved)
    assert "<title>one</title>" in page.text
    again = await browse(approved, **{"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    compared = await said_by(COMMAND, "previews", "compare", task, **surroundings)
    assert "version 1 → 2: 0 added, 0 removed, 1 changed, 0 the same" in compared
    listed = await said_by(COMMAND, "artifacts", task, "--all", **surroundings)
    assert listed.count("preview") >= 2
    swept = await said_by(COMMAND, "sweep", "--task", task, "--dry-run", **surroundings)
    assert "0 items would be removed" in swept
    assert (await api.http.delete(f"/tasks/{task}")).status_code == 204
    await eventually(lambda: _are_gone(url, approved), what="the end of its addresses")
    swept = await api.post("/deliverables/sweep", {"task_id": task, "dry_run": True}, expect=200)
    assert [item["why"] for item in swept["items"]] == ["its task was deleted"] * 2


async def _are_gone(*urls: str) -> bool:
    return {(await browse(url)).status_code for url in urls} == {410}


@pytest.mark.system
async def test_the_gateway_s_memory_stays_flat_while_large_files_come_and_go(world: World, api: Api) -> None:
    """Three files of 49 MB at once, there and back: most of their bytes are never in its memory at the same time."""
    task = (await api.post("/tasks", {"title": f"Large files {uuid4()}"}))["id"]
    size, place = 49_000_000, f"/tasks/{task}/artifacts"

    async def sent(name: str, size: int) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, size, CHUNK):
                yield name[:1].encode() * min(CHUNK, size - start)

        headers = {"Content-Type": "application/octet-stream"}
        answer = await api.http.post(f"{place}?name={name}", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()["size"]) == (201, size), answer.text
        return str(answer.headers["Location"])

    await sent("warm.bin", CHUNK)  # what uploads need is loaded
    process = world.pid("gateway")
    before = memory(process, anew=True)
    places = await asyncio.gather(*(sent(f"{letter}.bin", size) for letter in "abc"))
    for letter, where in zip("abc", places, strict=True):
        digest = hashlib.sha256()
        async with api.http.stream("GET", f"{where}/download") as response:
            async for data in response.aiter_bytes(CHUNK):
                digest.update(data)
        assert digest.hexdigest() == hashlib.sha256(letter.encode() * size).hexdigest()
    grown = memory(process) - before
    assert grown < 3 * size / 2, f"{grown / 1e6:.0f} MB"
    print(f"gateway: {before / 1e6:.0f} MB, and {grown / 1e6:.0f} MB more at its peak")


def memory(process: int, *, anew: bool = False) -> int:
    """The most that a process has had in memory (Linux), since it was last asked `anew`."""
    if anew:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found) * 1024
