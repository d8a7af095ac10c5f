"""Where is something found? Each path stands for the default company, and once more under every company's own."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.refs import DEFAULT_COMPANY, DEFAULT_PROJECT


def place(company: str, path: str) -> str:
    return path if company == DEFAULT_COMPANY else f"/companies/{company}{path}"


def bare(path: str, named: Mapping[str, str]) -> str:
    """The path without the company that its parameters name, and without the project where that says nothing more: a task
    is known by its id alone."""
    bare = path.removeprefix(f"/companies/{named.get('company')}")
    project = named.get("project")
    known_without = "task_id" in named or project == DEFAULT_PROJECT
    return bare.removeprefix(f"/projects/{project}") if known_without else bare
