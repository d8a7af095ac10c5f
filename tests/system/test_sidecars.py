"""The sidecars of everything the stack has run in these tests are exported and held against their format, strictly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from chassis.testing.eventually import eventually
from fluidcrew.client import Gateway
from fluidcrew.exporting import export_run
from tests.system.api import Api, Json
from tests.system.defaults import API_KEY
from tests.system.typed import COMMAND, said_by
from tests.system.world import World

PLAN = [
    {"id": "retried", "title": "Fails once", "instructions": "fail:500:1 say:good"},
    {"id": "plain", "title": "Comes after it", "deps": ["retried"]},
    {"id": "refused", "title": "Is refused by its provider", "instructions": "fail:400:9"},
]


async def all_runs(api: Api) -> list[Json]:
    """Of the default company: each test of this stack uses it."""
    found: list[Json] = []
    while True:
        page = await api.get("/runs", limit=200, offset=len(found), order_by="created_at")
        found += page["items"]
        if not page["items"] or len(found) >= page["total"]:
            return found


async def reviewers_of(api: Api, run_id: str) -> bool:
    page = await api.get(f"/runs/{run_id}/sidecars", limit=200)
    return sum(document["metadata"].get("role") == "reviewer" for document in page["items"]) == 2


def is_of_a_review(text: str) -> bool:
    return bool(json.loads(text)["metadata"].get("role") == "reviewer")


async def test_a_run_is_exported_and_valid_to_the_letter(world: World, api: Api, tmp_path: Path) -> None:
    run_id = await api.launch("With retries and failures", PLAN)
    await api.ended(run_id, "failed")
    surroundings = {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY, "RUNS_ROOT": str(tmp_path)}

    said = await said_by(COMMAND, "export", run_id[:8], **surroundings)

    assert f"4 sidecars in {tmp_path}/{run_id}" in said
    checked = await said_by(COMMAND, "validate", "--strict", "--since", run_id, **surroundings)
    assert checked == "OK 4 KO 0 SKIP 0\n", "no unknown field, nothing skipped"
    nodes = await api.nodes(run_id)
    latest = await api.get(f"/nodes/{nodes['retried']['id']}/sidecar")
    file = tmp_path / run_id / "nodes" / "retried" / "attempt-002-call-001.llm.json"
    assert json.loads(file.read_text()) == latest
    file.write_text(json.dumps(latest | {"latency_ms": "soon"}))
    broken = await said_by(COMMAND, "validate", expect=1, **surroundings)
    assert broken.startswith(f"OK 3 KO 1 SKIP 0\nKO {file}: $.latency_ms: ")


async def test_every_sidecar_of_every_run_of_the_tests_is_valid_to_the_letter(
    world: World, api: Api, tmp_path: Path
) -> None:
    await api.ended(await api.launch("One more", PLAN[:2]))
    reviewed = await api.launch(
        "Reviewed by another model than its author", PLAN[:2], gate="observe", llm_model="fake-2"
    )
    await api.ended(reviewed)
    await eventually(lambda: reviewers_of(api, reviewed), what="the sidecars of both reviews")
    slots = asyncio.Semaphore(8)

    async def export(gateway: Gateway, run: Json) -> int:
        async with slots:
            return (await export_run(gateway, run["id"], tmp_path)).files

    async with Gateway(world.url(), API_KEY) as gateway:
        files = await asyncio.gather(*(export(gateway, run) for run in await all_runs(api)))

    checked = await said_by(COMMAND, "validate", "--strict", "--all", "--non-uuid", str(tmp_path))
    assert checked == f"OK {sum(files)} KO 0 SKIP 0\n"
    assert sum(files) >= 3
    of_reviews = [path for path in (tmp_path / reviewed).rglob("*.llm.json") if is_of_a_review(path.read_text())]
    assert len(of_reviews) == 2, "what reviewing models were asked is among them"
