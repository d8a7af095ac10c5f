"""`budget`: ceilings for what models may cost; listed, set, removed."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from fluidcrew.commands.company import of_a_company
from fluidcrew.commands.scopes import Id, Scope

group = typer.Typer(no_args_is_help=True, help="Budgets: ceilings for what models may cost.")
EXAMPLES = """\b
Examples:
  fluidcrew budget set company default 25      whatever the company does costs 25 dollars at most
  fluidcrew budget set task 88aa1122-… 0.50
  fluidcrew budget set agent ada 3"""


Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


@group.command("ls")
@of_a_company
def list_budgets(json: Json = False) -> int:
    """List budgets: limit, spent, reserved by calls under way, left, and who waits for money."""
    from fluidcrew import budgets

    return asyncio.run(budgets.list_budgets(as_json=json))


@group.command("set", epilog=EXAMPLES)
@of_a_company
def set_budget(
    scope: Scope,
    id: Id,
    usd: Annotated[str, typer.Argument(metavar="USD", help="The limit, for all that is spent there.")],
    json: Json = False,
) -> int:
    """Set a limit, or another one. Nodes that wait for money go on when it is high enough."""
    from fluidcrew import budgets

    return asyncio.run(budgets.set_budget(scope, id, usd, as_json=json))


@group.command("show")
@of_a_company
def show_budget(scope: Scope, id: Id, json: Json = False) -> int:
    """Show one budget: its limit, what is spent, what is left."""
    from fluidcrew import budgets

    return asyncio.run(budgets.show_budget(scope, id, as_json=json))


@group.command("rm")
@of_a_company
def remove_budget(scope: Scope, id: Id, json: Json = False) -> int:
    """Remove a budget: no ceiling any more. Nodes that waited for it go on."""
    from fluidcrew import budgets

    return asyncio.run(budgets.remove_budget(scope, id, as_json=json))
