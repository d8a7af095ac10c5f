"""Which answers are worth a line of the log."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from services.gateway.access import level_of, template_of


@pytest.mark.parametrize(
    ("method", "route", "status", "level"),
    [
        ("GET", "/runs", 200, logging.DEBUG),
        ("GET", "/events/stream", 204, logging.DEBUG),
        ("POST", "/tasks", 202, logging.INFO),
        ("GET", "/runs/{run_id}", 404, logging.INFO),
        ("GET", "/tasks", 503, logging.WARNING),
        ("GET", "/health", 503, logging.DEBUG),
    ],
)
def test_what_changed_something_or_went_wrong_is_told_and_a_probe_s_no_is_no_trouble(
    method: str, route: str, status: int, level: int
) -> None:
    assert level_of(method, route, status) == level


@pytest.mark.parametrize(
    ("path", "parameters", "template"),
    [
        ("/tasks/{task_id}", {"task_id": "t"}, "/tasks/{task_id}"),
        ("/tasks/{task_id}", {"company": "acme", "task_id": "t"}, "/companies/{company}/tasks/{task_id}"),
        ("/tasks", {"company": "acme", "project": "p"}, "/companies/{company}/projects/{project}/tasks"),
        ("/companies/{company}/projects", {"company": "acme"}, "/companies/{company}/projects"),
        (None, {}, "unmatched"),
    ],
)
def test_a_route_is_counted_where_it_was_found(path: str | None, parameters: dict[str, str], template: str) -> None:
    route = {"route": SimpleNamespace(path=path)} if path else {}
    assert template_of({"path_params": parameters} | route) == template
