"""Whose a budget or a policy is, as the command line names it; contracts have the same, and take longer to load."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ScopeChoice(StrEnum):
    company = "company"
    project = "project"
    task = "task"
    agent = "agent"


Scope = Annotated[ScopeChoice, typer.Argument(show_default=False, help="Whose it is.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the company, project or task; name of the agent.")]
