"""`make demo`, cold and warm, in a clone of the commit: what a newcomer waits for."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figures import Report
from deploy.local.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


def measure(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="fluidcrew-clone-") as directory:
        Path(directory).chmod(0o755)
        clone = Path(directory) / "fluidcrew"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        cold = _demo(clone)
        warm = sorted(_demo(clone) for _ in range(3))[1]
    report.add(
        "`make demo`, cold",
        f"{cold:.1f} s",
        "fresh clone, no venv, no data directory, warm package cache; whole process",
    )
    report.add(
        "`make demo`, again", f"{warm:.1f} s", "the same clone, median of 3; whole process, with plan, run and stop"
    )


def _demo(clone: Path) -> float:
    kept = {k: v for k, v in os.environ.items() if not re.match(r"(VIRTUAL_ENV|LLM_|MAKE|FLUIDCREW)", k)}
    env = kept | {"PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
    began = time.perf_counter()
    done = subprocess.run(
        ["make", "demo"], cwd=clone, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"make demo failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began
