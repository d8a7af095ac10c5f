"""`--company`: whose runs and tasks a command is about; once, for every command that asks the API for them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

COMPANY = "FLUIDCREW_COMPANY"
Company = Annotated[str, typer.Option(metavar="ID", help=f"Whose runs and tasks; {COMPANY}, or default, otherwise.")]


def of_a_company(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the option, too. The client reads the variable, and so do the hints that commands print."""

    @wraps(command)
    def with_company(company: str, **options: Any) -> int:
        if company:
            os.environ[COMPANY] = company
        return command(**options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("company", inspect.Parameter.KEYWORD_ONLY, default="", annotation=Company)
    parameters = [*signature.parameters.values(), option]
    with_company.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_company.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_company
