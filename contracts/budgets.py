"""Budgets: ceilings for what models may cost, who reserves under them, and what is told of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import Usage
from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import Name
from contracts.refs import DEFAULT_PROJECT, Slug, Value
from contracts.scope import Scope, ScopeId
from contracts.tool import ToolContext

Limit = Annotated[Decimal, Field(ge=0, le=1_000_000_000, max_digits=15, decimal_places=6)]
Amount = Annotated[Decimal, Field(ge=0, le=1_000_000_000)]


class Payer(Value):
    """For whom a model is called: every budget there is for one of these has to bear it."""

    project: Slug | None = DEFAULT_PROJECT  # None: for the company as a whole, as what it knows
    task_id: UUID | None = None
    agent_id: Name | None = None

    def accounts(self, company: str) -> list[tuple[Scope, str]]:
        """In the order in which they are reserved: who takes locks in one order waits for nobody in a circle."""
        task = str(self.task_id) if self.task_id else None
        named = zip(Scope, (company, self.project, task, self.agent_id), strict=True)
        return [(scope, id) for scope, id in named if id]


class Shortage(Value):
    """The budget that cannot bear a call. `need_usd` is the most that the call may cost; None when no price is known."""

    scope: Scope
    scope_id: str
    limit_usd: str
    spent_usd: str
    reserved_usd: str
    need_usd: str | None
    model: str
    note: str = ""  # what to do about an unknown price

    def said(self) -> str:
        """For people to read."""
        stands = f"of ${self.limit_usd}, ${self.spent_usd} are spent and ${self.reserved_usd} reserved"
        asks = (
            f"a call to {self.model} may cost up to ${self.need_usd}"
            if self.need_usd is not None
            else f"what a call to {self.model} may cost is not known ({self.note})"
        )
        return f"the budget of {self.scope} {self.scope_id} does not allow it: {stands}; {asks}"


class Budget(Value):
    """US dollars as decimals in text. `spent_usd` counts what was spent before the budget was set; `reserved_usd` is the
    most that the calls under way may cost. `exhausted_at` is when a call was first refused since the limit was set."""

    scope: Scope
    scope_id: str
    limit_usd: str
    spent_usd: str
    reserved_usd: str
    waiting_nodes: int
    exhausted_at: AwareDatetime | None
    set_by: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ListBudgets(PageRequest[Page[Budget]], owner="executor", entity="budget", verb="list"):
    scope: Scope | None = None
    scope_id: Name | None = None


class SetBudget(Request[Budget], owner="executor", entity="budget", verb="set"):
    """Sets a limit, or another one. A limit below what is spent is legal: nothing more is granted."""

    command_id: UUID
    scope: Scope
    scope_id: ScopeId
    limit_usd: Limit
    by: Name | None = None


class BudgetGone(Value):
    """The budget as it was."""

    removed: Budget


class RemoveBudget(Request[BudgetGone], owner="executor", entity="budget", verb="remove"):
    """From then on there is no ceiling."""

    command_id: UUID
    scope: Scope
    scope_id: ScopeId
    by: Name | None = None


class Took(Value):
    """What a call took, with its sidecar: for the books of the attempt that it was made for."""

    usage: Usage
    sidecar: dict[str, Any]


class Purchase(Value):
    """A call that another service makes for an attempt at a node, in whose costs it counts. `at_most` is what is written
    down of it when nobody ever says what it took."""

    context: ToolContext
    at_most: Took


class Reserved(Value):
    """`reservation` is None when there is nothing to settle: no budget is in force, and it is no purchase."""

    reservation: UUID | None


class ReserveSpend(Request[Reserved], owner="executor", entity="spend", verb="reserve"):
    """Before a model is called by another service. Refused with `over_budget`, whose details are the Shortage.

    A reservation that is not settled within `for_s` seconds is charged in full.
    """

    command_id: UUID  # becomes the id of the reservation
    payer: Payer
    amount_usd: Amount | None  # the most that the call may cost; None: no price is known
    model: str = Field(max_length=300)
    note: str = Field(default="", max_length=1_000)
    for_s: float = Field(gt=0, le=86_400)
    purchase: Purchase | None = None


class Settled(Value):
    """`was_open` is false when it was settled before."""

    was_open: bool


class SettleSpend(Request[Settled], owner="executor", entity="spend", verb="settle"):
    """What the call has cost; None charges the whole reservation. The first settlement counts. `took` is for a purchase,
    of which nothing is written down when it cost nothing and `took` is None: it was not made."""

    reservation: UUID
    amount_usd: Amount | None
    took: Took | None = None


class BudgetFact(Event):
    """Belongs to the budget's own story; `run_id` says in which run it happened, if in one."""

    budget_id: UUID
    scope: Scope
    scope_id: str
    limit_usd: str
    spent_usd: str
    reserved_usd: str


class BudgetSet(BudgetFact, owner="executor", entity="budget", verb="set", story="budget_id"):
    by: str | None = None


class BudgetRemoved(BudgetFact, owner="executor", entity="budget", verb="removed", story="budget_id"):
    by: str | None = None


class BudgetExhausted(BudgetFact, owner="executor", entity="budget", verb="exhausted", story="budget_id"):
    """A call was refused, for the first time since the limit was set. Nodes wait from now on until there is room."""

    need_usd: str | None
    model: str
    run_id: UUID | None = None
    node_id: UUID | None = None
