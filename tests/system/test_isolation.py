"""Services stand alone: each starts from a copy that holds nothing of the others, with only its own locked packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fluidcrew.setup_env import certificates

ROOT = Path(__file__).resolve().parents[2]
SERVICES = [p.name for p in sorted((ROOT / "services").iterdir()) if (p / "__main__.py").exists()]
UV = Path(sys.executable).parent / "uv"


def copied(service: str, to: Path) -> Path:
    for part in ("contracts", "chassis", f"services/{service}"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "testing"))
    if (init := ROOT / "services/__init__.py").exists():
        shutil.copy(init, to / "services/__init__.py")
    return to


def with_own_packages(service: str, home: Path) -> Path:
    """A virtual environment of the service's lock alone."""
    subprocess.run([UV, "venv", "--python", sys.executable, home], check=True, capture_output=True)
    lock = ROOT / "requirements" / f"{service}.txt"
    sync = [UV, "pip", "sync", "--python", home / "bin/python", "--require-hashes", lock, *certificates()]
    subprocess.run(sync, check=True, capture_output=True)
    return home / "bin/python"


def start(python: Path, copy: Path, service: str) -> subprocess.CompletedProcess[str]:
    """Start it without settings: it gets as far as naming the missing one, which takes every import."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    command = [python, "-m", f"services.{service}"]
    return subprocess.run(command, cwd=copy, env=kept, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_from_a_copy_of_itself_with_its_own_packages(service: str, tmp_path: Path) -> None:
    copy = copied(service, tmp_path / "copy")
    result = start(with_own_packages(service, tmp_path / "venv"), copy, service)
    assert result.returncode == 78, result.stderr
    assert "NATS_URL" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_planted_crossing_dies_in_the_copy(tmp_path: Path) -> None:
    copy = copied("planner", tmp_path / "copy")
    with (copy / "services/planner/__main__.py").open("a") as file:
        file.write("\nimport services.executor.store\n")
    entry = copy / "services/planner/__main__.py"
    entry.write_text(
        "import services.executor.store\n" + entry.read_text().replace("from __future__ import annotations\n", "")
    )
    result = start(Path(sys.executable), copy, "planner")
    assert "ModuleNotFoundError" in result.stderr


def test_the_import_contracts_catch_a_planted_crossing(tmp_path: Path) -> None:
    for part in ("contracts", "chassis", "services", "fluidcrew", "deploy", "orchestrator"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    lint = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def linted() -> subprocess.CompletedProcess[str]:
        return subprocess.run(lint, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert linted().returncode == 0
    with (tmp_path / "services/planner/app.py").open("a") as file:
        file.write("\nfrom services.executor import store as stolen  # planted\n")
    with (tmp_path / "services/planner/domain/graph.py").open("a") as file:
        file.write("\nimport asyncpg  # planted\n")
    broken = linted()
    assert broken.returncode == 1
    assert "services.planner.app -> services.executor.store" in broken.stdout
    assert "services.planner.domain.graph -> asyncpg" in broken.stdout
