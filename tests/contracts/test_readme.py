"""The README tells the truth: its files and functions exist, its targets and commands as well."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
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
        assert (ROOT / target).exists(), f"{page} links to {target}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"make ([a-z][a-z-]+)", (ROOT / page).read_text()))
        assert named <= targets | {"it", "sure"}, f"{page} names {named - targets}"
