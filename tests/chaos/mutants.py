"""Services with one protection taken out: `python -m tests.chaos.mutants planner "no inbox"`.

The product has no switch for it: this main puts another part in the place of the product's own, and runs its own main.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from inspect import signature
from typing import Any
from uuid import uuid4


def replace_part(owner: Any, name: str, part: Any) -> None:
    """Refuses what is not there, or is called otherwise by now: a protection that has moved must not count as taken out."""
    if not hasattr(owner, name):
        raise LookupError(f"{owner.__name__} has no {name} any more: this mutation takes nothing out")
    if callable(part) and (its := _kinds(part)) != (wanted := _kinds(getattr(owner, name))):
        raise LookupError(
            f"{owner.__name__}.{name} takes {wanted}, its replacement {its}: this mutation only breaks it"
        )
    setattr(owner, name, part)


def _kinds(function: Callable[..., Any]) -> list[str]:
    return [parameter.kind.description for parameter in signature(function).parameters.values()]


def forget_the_inbox() -> None:
    from chassis.unit_of_work import UnitOfWork

    @asynccontextmanager
    async def handling(self: UnitOfWork, envelope: Any, consumer: str) -> AsyncIterator[Any]:
        async with self.begin() as tx:
            yield tx

    replace_part(UnitOfWork, "handling", handling)


def no_inbox() -> None:
    """A consumer that keeps no account of what it has handled, and a projection that takes the last word for the newest."""
    from services.planner.handlers import runs

    forget_the_inbox()
    replace_part(
        runs, "told",
        lambda run, state, sequence, activation: replace(run, state=state, sequence=sequence, activation=activation),
    )  # fmt: skip


def no_command_memory() -> None:
    """Orders that are carried out each time they come."""
    from chassis.unit_of_work import UnitOfWork
    from services.planner.handlers import effects, launching

    @asynccontextmanager
    async def order(self: UnitOfWork, request: Any, context: Any) -> AsyncIterator[Any]:
        async with self.begin(context) as tx:
            yield tx

    replace_part(UnitOfWork, "order", order)
    # ids that follow from the command are a second protection of the same promise
    replace_part(launching, "run_id_of", lambda command: uuid4())
    replace_part(effects, "task_id_of", lambda command: uuid4())


def no_fence() -> None:
    """A committer that writes whether or not its lease is over, and lives on."""
    from services.executor.engine import store

    async def fence(connection: Any, worker: Any) -> store.Fence:
        row = await connection.fetchrow(
            """update workers set turn = turn + 1, dead = false, lease_until = clock_timestamp() + interval '2 seconds'
               where id = $1 returning clock_timestamp() as now, turn""",
            worker,
        )
        return store.Fence(row["now"], row["turn"])

    replace_part(store, "fence", fence)


def no_repair() -> None:
    """A relay that believes the broker."""
    from chassis.repair import Repair

    async def check(self: Repair) -> None:
        """Nothing is compared."""

    replace_part(Repair, "check", check)
    replace_part(Repair, "trusts", lambda self, stream: True)


def no_sweeper() -> None:
    """A relay that hands over what was just committed, and never looks back."""
    from chassis.relay import Relay

    async def sweep(self: Relay) -> int:
        return 0

    replace_part(Relay, "sweep", sweep)


def default_ack_policy() -> None:
    """FastStream's own: a message whose handler failed is terminated."""
    from chassis.consumer import Consumer

    async def given_back(self: Consumer, message: Any, delay: float | None) -> str:
        await message.term()
        return "rejected"

    replace_part(Consumer, "_given_back", given_back)


def no_signals() -> None:
    """Orders that are written into the run behind its owner's back."""
    from services.executor.domain.facts import Asked
    from services.executor.steering import store

    async def leave(connection: Any, run_id: Any, order: Any) -> None:
        if isinstance(order, Asked) and order.action == "cancel":
            await connection.execute(
                "update runs set status = 'canceled', ended_at = clock_timestamp(), deadline_at = null where id = $1",
                run_id,
            )

    replace_part(store, "leave", leave)


def no_parking() -> None:
    """A timeline that tells facts as they come."""
    from services.gateway import timeline
    from services.gateway.domain.facts import Sorted

    def as_they_come(arrived: Sequence[Any], last: Any) -> Sorted:
        facts = {(fact.of, fact.sequence): fact for fact in arrived if fact.sequence != last.get(fact.of, 0)}.values()
        told = [fact for fact in facts if fact.sequence > last.get(fact.of, 0)]
        return Sorted(told, [], {fact.of: max(fact.sequence, last.get(fact.of, 0)) for fact in told})

    replace_part(timeline, "sort_out", as_they_come)


def sloppy_resume() -> None:
    """A stream that goes on one fact too late."""
    from services.gateway import watching
    from services.gateway.domain.cursor import Resumption
    from services.gateway.domain.cursor import resume as exact

    def resume(last_event_id: str | None, head: Any, floor: int = 0) -> Resumption:
        found = exact(last_event_id, head, floor)
        return replace(found, after=found.after + 1) if found.after else found

    replace_part(watching, "resume", resume)


def naive_budget() -> None:
    """Reservations that read what is left, and then write."""
    from services.executor.spending import store

    async def take(connection: Any, company: str, account: Any, amount: Any) -> Any:
        found = await store.budget(connection, company, account)
        if found is None or found.spent + found.reserved + amount > found.limit:
            return None
        await connection.execute(
            "update budgets set reserved_usd = $2 where id = $1", found.id, found.reserved + amount
        )
        return found.id

    replace_part(store, "take", take)


def no_record_of_reviews() -> None:
    """Reviews of whatever arrives, however often it has been judged."""
    from services.feedback.store.feedbacks import FeedbackStore

    forget_the_inbox()
    hold = FeedbackStore.hold

    async def was_reviewed(self: FeedbackStore, node_id: Any, attempt: int) -> bool:
        return False

    async def unreviewed(self: FeedbackStore, company: str, case: Any) -> Any:
        return replace(await hold(self, company, case), reviewed=False)

    replace_part(FeedbackStore, "was_reviewed", was_reviewed)
    replace_part(FeedbackStore, "hold", unreviewed)


def any_attempt() -> None:
    """Verdicts that count for the attempt that is there, whichever they are about."""
    from services.executor.domain import review

    void = review._void

    def about_this_one(run: Any, node: Any, verdict: Any) -> str | None:
        return void(run, node, verdict.model_copy(update={"attempt": node.attempt}))

    replace_part(review, "_void", about_this_one)


def any_version() -> None:
    """Verdicts that count each time they come: the last that arrives, not the last that was given."""
    from services.executor.domain import review

    forget_the_inbox()
    void = review._void
    replace_part(review, "_void", lambda run, node, verdict: void(run, node._replace(heard=None), verdict))


def no_gate() -> None:
    """Results that count before anybody has judged them."""
    from contracts.plan import Gate
    from services.executor.domain import advance, results
    from services.executor.domain.facts import Succeeded

    def at_once(draft: Any, fact: Succeeded) -> None:
        node = draft.nodes[fact.key]
        if node.plan.gate is Gate.GATE:
            draft.nodes[fact.key] = node._replace(plan=replace(node.plan, gate=Gate.OBSERVE))
        results.succeed(draft, fact)

    replace_part(advance, "MAKES", {**advance.MAKES, Succeeded: at_once})


PROTECTIONS: dict[str, Callable[[], None]] = {
    "no inbox": no_inbox,
    "no command memory": no_command_memory,
    "no fence": no_fence,
    "no repair": no_repair,
    "no sweeper": no_sweeper,
    "default ack policy": default_ack_policy,
    "no signals": no_signals,
    "no parking": no_parking,
    "sloppy resume": sloppy_resume,
    "naive budget": naive_budget,
    "no record of reviews": no_record_of_reviews,
    "any attempt's verdict": any_attempt,
    "any version of a verdict": any_version,
    "no gate": no_gate,
    "none": lambda: None,
}


if __name__ == "__main__":
    service, mutation = sys.argv[1:]
    PROTECTIONS[mutation]()
    sys.argv = [f"services.{service}"]
    runpy.run_module(f"services.{service}", run_name="__main__")
