"""`fluidcrew demo`, the first thing a newcomer does: from nothing to a result, and nothing left behind."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.ports import free_port
from tests.system.typed import COMMAND, said_by


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory of its own, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="fluidcrew-demo-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def processes_of(home: Path) -> list[str]:
    """Whoever names this data directory on its command line or in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) or process.environ().get("FLUIDCREW_HOME") == str(home):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.system
async def test_the_demo_runs_twice_shows_a_result_and_leaves_no_process(home: Path) -> None:
    sidecars = home / "sidecars"
    environment = {"FLUIDCREW_HOME": str(home), "PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
    environment["RUNS_ROOT"] = str(sidecars)
    calls = 0
    for take in (1, 2):
        said = await said_by(COMMAND, "demo", **environment)
        assert re.search(r"run\.completed", said), take
        assert "Result: " in said
        assert "simulated" in said, "what the demo provider says is labelled"
        assert re.search(r"checks \d.* · start \d.* · plan \d.* · run \d.* · stop \d.* · total \d", said)
        assert f"http://127.0.0.1:{environment['PORT']}/docs" in said
        site = rf"its site\s+http://[a-z2-7]{{32}}\.localhost:{environment['PREVIEW_PORT']}/default/default/[0-9a-f-]{{36}}/"
        assert re.search(site, said), said
        assert re.search(r"4 files; its page answered with \d", said)
        assert processes_of(home) == []
        checked = await said_by(COMMAND, "validate", "--strict", RUNS_ROOT=str(sidecars))
        assert re.search(r"Cites\n  research \[1\] [A-Z]", said), said
        planned = re.search(r"version 1, (\d) nodes", said)
        assert planned is not None
        calls += 2 * int(planned[1]) + 2
        assert checked.startswith(f"OK {calls} KO 0 SKIP 0\n"), (
            "each node's call, those in which the first searches and the last writes its site, and each review's have left"
            " a sidecar"
        )
