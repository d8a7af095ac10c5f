"""Services stand alone: each runs from a copy that holds nothing of the others, with only its own locked packages."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from chassis.keeper import Keeper
from chassis.testing.servers import Database, NatsServer
from fluidcrew.setup_env import certificates

ROOT = Path(__file__).resolve().parents[2]
SERVICES = [p.name for p in sorted((ROOT / "services").iterdir()) if (p / "__main__.py").exists()]
UV = Path(sys.executable).parent / "uv"
BARE = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
BESIDE = {"rag": ("embedding",)}  # locked apart: installed without what it declares
NOWHERE = "http://127.0.0.1:9"


def copied(service: str, to: Path) -> Path:
    """With its bytecode, of which Python reads none without the source; but not that which is just being written."""
    unwanted = shutil.ignore_patterns("testing", "*.pyc.*")
    for part in ("contracts", "chassis", f"services/{service}"):
        shutil.copytree(ROOT / part, to / part, ignore=unwanted)
    if (init := ROOT / "services/__init__.py").exists():
        shutil.copy(init, to / "services/__init__.py")
    return to


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment for one service after the other: what two share is compiled once."""
    home = tmp_path_factory.mktemp("isolation") / "venv"
    subprocess.run([UV, "venv", "--python", sys.executable, home], check=True, capture_output=True)
    return home


def with_own_packages(service: str, home: Path) -> Path:
    """The environment holds the service's lock and nothing else: `sync` also removes."""
    locks = [ROOT / "requirements" / f"{name}.txt" for name in (service, *BESIDE.get(service, ()))]
    sync = [UV, "pip", "sync", "--python", home / "bin/python", "--require-hashes", *locks, *certificates()]
    subprocess.run(sync, check=True, capture_output=True)
    return home / "bin/python"


def start(python: Path, copy: Path, service: str) -> subprocess.CompletedProcess[str]:
    """Start it without settings: it gets as far as naming the missing one, which takes every import it begins with."""
    command = [python, "-m", f"services.{service}"]
    return subprocess.run(command, cwd=copy, env=BARE, capture_output=True, text=True, timeout=60, check=False)


def imports(file: Path) -> Iterator[str]:
    """Every module that a file may ever import, also inside functions; names in a module look like modules of it."""
    tree = ast.parse(file.read_text())
    conditions = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    for_types = {node for i in conditions if "TYPE_CHECKING" in ast.dump(i.test) for node in ast.walk(i)}
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reachable(copy: Path, service: str) -> tuple[set[str], set[str]]:
    """What the service may come to import: modules of ours, and modules of others."""
    ours, others, left = set[str](), set[str](), [f"services.{service}.__main__"]
    while left:
        file = copy / f"{left.pop().replace('.', '/')}.py"
        file = file if file.exists() else file.with_suffix("") / "__init__.py"
        for name in imports(file) if file.exists() else ():
            if name.split(".")[0] not in ("contracts", "chassis", "services"):
                others.add(name)
            elif name not in ours:
                ours.add(name)
                left.append(name)
    return ours, others


IMPORT_ALL = """
import importlib, importlib.util, sys
for name in sys.argv[1:]:
    parent, _, last = name.rpartition(".")
    if not hasattr(importlib.import_module(parent) if parent else None, last):
        importlib.import_module(name)
"""


def import_all(python: Path, copy: Path, service: str) -> subprocess.CompletedProcess[str]:
    ours, others = reachable(copy, service)
    assert f"services.{service}.app" in ours, "it was looked for in the right place"
    assert "aioboto3" in others, "what is imported late was found"
    command = [python, "-c", IMPORT_ALL, *sorted(ours | others)]
    return subprocess.run(command, cwd=copy, env=BARE, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def at_work(python: Path, copy: Path, service: str, environment: dict[str, str]) -> Iterator[list[str]]:
    """The service, started on real servers; yields what it said until it had started."""
    command = [python, "-m", f"services.{service}"]
    child = subprocess.Popen(command, cwd=copy, env=BARE | environment, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    try:
        yield said_until("service.started", child.stderr)
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
        assert child.wait(30) == 0, rest
        assert "Traceback" not in rest
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


def said_until(event: str, stream: IO[str]) -> list[str]:
    said = []
    for line in stream:
        said.append(line)
        if event in line:
            break
    return said


@pytest.fixture
def servers(
    database: Database, nats_server: NatsServer, keeper: Keeper, object_store_settings: dict[str, str]
) -> Callable[[str], dict[str, str]]:
    """The environment of a service that has everything, tracing and error reports too."""

    def environment(service: str) -> dict[str, str]:
        return object_store_settings | {
            "DATABASE_URL": database.url_for(service),
            "NATS_URL": nats_server.url(service),
            "PORT": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE,
            "SENTRY_DSN": f"{NOWHERE.replace('//', '//key@')}/1",
        }

    return environment


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_from_a_copy_of_itself_with_its_own_packages(
    service: str, tmp_path: Path, environment: Path, servers: Callable[[str], dict[str, str]]
) -> None:
    copy = copied(service, tmp_path / "copy")
    python = with_own_packages(service, environment)
    result = start(python, copy, service)
    assert result.returncode == 78, result.stderr
    assert "NATS_URL" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    with at_work(python, copy, service, servers(service)) as said:
        assert "service.started" in said[-1], said
    done = import_all(python, copy, service)
    assert done.returncode == 0, done.stderr


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


def test_a_planted_crossing_inside_a_function_is_found_in_the_copy(tmp_path: Path) -> None:
    copy = copied("planner", tmp_path / "copy")
    with (copy / "services/planner/subscribers.py").open("a") as file:
        file.write("\n\ndef late():\n    from services.executor import store\n    return store\n")
    assert "No module named 'services.executor'" in import_all(Path(sys.executable), copy, "planner").stderr


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
    for decision, machinery in (
        ("executor/domain/reuse.py", "executor.engine.committer"),
        ("gateway/domain/course.py", "gateway.watching"),
    ):
        with (tmp_path / "services" / decision).open("a") as file:
            file.write(f"\nimport services.{machinery}  # planted\n")
    (tmp_path / "services/planner/elsewhere.py").write_text('"""Outside every layer."""\n')
    broken = linted()
    assert broken.returncode == 1
    assert "services.planner.app -> services.executor.store" in broken.stdout
    assert "services.planner.domain.graph -> asyncpg" in broken.stdout
    assert "services.executor.domain.reuse -> services.executor.engine.committer" in broken.stdout
    assert "services.gateway.domain.course -> services.gateway.watching" in broken.stdout
    assert "services.planner.elsewhere" in broken.stdout
