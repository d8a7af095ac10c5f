"""The pages tell the truth: the files, functions, links, make targets, commands, options and exit codes they name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from fluidcrew.app import app
from fluidcrew.exits import table

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/command-line.md",
    "docs/sidecars.md",
    "docs/coming-from-crew-orchestrator.md",
]
LENGTHS = {"README.md": 120, "ARCHITECTURE.md": 150, "CONTRIBUTING.md": 80}
COMMAND = re.compile(r"(?:^\$ |[`/])fluidcrew ([a-z|]+)( [a-z]+)?([^`\n]*)", re.MULTILINE)
PLACE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.py):([\w.]+)`")
LINK = re.compile(r"\]\((?!http)([^)#]+)\)")


def names(path: Path) -> set[str]:
    """Functions, classes and methods of a file, as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{n.name}" for n in inner}
    return found


def test_every_step_of_follow_one_run_is_where_the_readme_says() -> None:
    places = PLACE.findall((ROOT / "README.md").read_text())
    assert len(places) >= 10
    for file, name in places:
        assert name in names(ROOT / file), f"{file} has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in LINK.findall((ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"make ([a-z][a-z-]+)", (ROOT / page).read_text()))
        assert named <= targets | {"it", "sure"}, f"{page} names {named - targets}"


def group(of: Any) -> dict[str, Any]:
    """The commands below one."""
    return getattr(of, "commands", {})


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_every_command_that_is_named_exists_with_its_options(page: str) -> None:
    found = COMMAND.findall((ROOT / page).read_text())
    assert found
    for names, second, rest in found:
        for name in names.split("|"):
            command = group(get_command(app))[name]
            if (below := group(command)) and (second.strip() or not command.invoke_without_command):
                command = below[second.strip()]
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", rest)) <= options | {"--help"}, f"{page}: fluidcrew {name}{rest}"


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    page = (ROOT / "docs/command-line.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == table()


def test_pages_for_people_are_short() -> None:
    for page, most in LENGTHS.items():
        assert len((ROOT / page).read_text().splitlines()) <= most, page


def test_nothing_refers_to_what_is_not_in_the_repository() -> None:
    texts = [
        p
        for d in ("chassis", "contracts", "services", "fluidcrew", "deploy", "scripts")
        for p in (ROOT / d).rglob("*.py")
    ]
    records = {int(p.name[:4]) for p in (ROOT / "docs/adr").glob("*.md")}
    for path in (*texts, *(ROOT / "docs").rglob("*.md"), *(ROOT / page for page in PAGES)):
        text = path.read_text()
        assert not re.search(r"\bfindings-[a-z]", text), f"{path} cites what nobody has"
        named = {int(n) for n in re.findall(r"(?:\bADR |docs/adr/0*)(\d+)", text)}
        assert named <= records, f"{path} names a decision that is not there"
