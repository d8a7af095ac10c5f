"""The rule of orders to nodes: what HTTP accepted is told and takes effect, what it refused does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.chaos.history import Fact, History, Record
from tests.chaos.model_server import unnumbered

PATIENCE = 5.0  # seconds in which an owner that is alive, or is replaced, has heard an order
#: by these a node is no longer paused, or was not to be
RELEASES = {"NODE_COMPLETED", "NODE_FAILED", "NODE_SKIPPED"}
STATES = {"NODE_STARTED", "NODE_PAUSED", "NODE_RESUMED", "NODE_REQUEUED", "NODE_CANCELED", *RELEASES}


class Story:
    """What the feed tells of one node, and all accepted orders to it."""

    def __init__(self, facts: Sequence[Fact], orders: Sequence[Record], status: str) -> None:
        self.facts, self.orders, self.status = facts, orders, status

    def told(self, level: str, actor: str = "") -> list[Fact]:
        return [f for f in self.facts if f.level == level and is_by(f, actor)]

    def state_at(self, instant: float) -> Fact | None:
        return next((f for f in reversed(self.facts) if f.level in STATES and f.at <= instant), None)

    def ordered(self, action: str, after: float, before: float) -> bool:
        return any(o["action"] == action and o["until"] > after and o["began"] < before for o in self.orders)


def is_by(fact: Fact, actor: str) -> bool:
    return not actor or str(fact.body.get("by") or "").startswith(f"{actor},")


def orders_to_nodes_take_effect(history: History) -> Iterator[str]:
    orders = [call for call in history.all("call") if call.get("node") and call["run"] in history.runs]
    for order in orders:
        of_run = history.by_run.get(order["run"], [])
        if 400 <= order["status"] < 500:
            yield from _refused(order, of_run, history)
        if order["status"] != 200:
            continue
        facts = [f for f in of_run if f.body.get("key") == order["node"]]
        others = [o for o in orders if (o["run"], o["node"], o["status"]) == (order["run"], order["node"], 200)]
        story = Story(facts, others, history.runs[order["run"]]["nodes"].get(order["node"], ""))
        yield from _said(order, "is told several times", len(story.told("NODE_CONTROL_ASKED", order["actor"])) > 1)
        yield from ACCEPTED[order["action"]](order, story)
        if order["answer"].get("reopened"):
            reopened = any(f.level == "RUN_REOPENED" and f.at >= order["began"] for f in of_run)
            yield from _said(
                order, "was to reopen the run, which stayed ended", not (reopened or _lapsed(order, story))
            )
    yield from _what_was_wanted_is_what_came(history)


def _refused(order: Record, facts: Sequence[Fact], history: History) -> Iterator[str]:
    told = [f.level for f in facts if is_by(f, order["actor"])]
    yield from _said(order, f"was refused, and took effect: {', '.join(told)}", bool(told))
    called = any(call.get("ordered_by") == order["actor"] for call in history.all("model"))
    yield from _said(order, "was refused, and a model was called for it", called)


def _override(order: Record, story: Story) -> Iterator[str]:
    told = len(story.told("NODE_CONTROL_ASKED", order["actor"]))
    effects = len(story.told("NODE_OVERRIDDEN", order["actor"])) + _lapsed(order, story)
    yield from _said(order, f"is told {told} times, and came to something {effects} times", (told, effects) != (1, 1))


def _skip(order: Record, story: Story) -> Iterator[str]:
    held = story.status == "skipped" or _lapsed(order, story)
    yield from _said(order, f"came to nothing: the node is {story.status}", not held)


def _pause(order: Record, story: Story) -> Iterator[str]:
    for fact in story.told("NODE_STARTED"):
        if fact.at <= order["until"] + PATIENCE:
            continue
        released = any(f.level in RELEASES and order["began"] <= f.at <= fact.at for f in story.facts)
        resumed = story.ordered("resume", order["began"], fact.at)
        if not (released or resumed or _lapsed(order, story)):
            yield f"{_named(order)} was accepted, and the node started {fact.at - order['until']:.1f} s later"


def _resume(order: Record, story: Story) -> Iterator[str]:
    limit = order["until"] + PATIENCE
    state = story.state_at(limit)
    stays = state is not None and state.level == "NODE_PAUSED" and "control" in state.body.get("reasons", ())
    again = story.ordered("pause", order["began"], limit)
    yield from _said(order, "was accepted, and the node stayed paused", stays and not again)


ACCEPTED: Mapping[str, Callable[[Record, Story], Iterator[str]]] = {
    "override": _override,
    "skip": _skip,
    "pause": _pause,
    "resume": _resume,
}


def _what_was_wanted_is_what_came(history: History) -> Iterator[str]:
    """After an override a node completes with what the new prompt asks for, and a model was asked for that."""
    says = {call["actor"]: call["says"] for call in history.all("call") if call.get("says")}
    served = {call["ordered_by"] for call in history.all("model") if call.get("ordered_by") and _is_done(call)}
    for run in history.runs:
        wanted: dict[str, str] = {}
        for fact in history.by_run.get(run, []):
            key = str(fact.body.get("key"))
            if fact.level == "NODE_OVERRIDDEN":
                wanted[key] = str(fact.body.get("by")).partition(",")[0]
            if fact.level != "NODE_COMPLETED" or key not in wanted or not _is_agent(history, run, key):
                continue
            came = fact.body.get("output_preview")
            if unnumbered(str(came)) != says.get(wanted[key]):
                yield f"{key} of run {run} was overridden by {wanted[key]}, and completed with {came!r}"
            if wanted[key] not in served:
                yield f"{key} of run {run} is completed, and no model has answered {wanted[key]}"


def _is_agent(history: History, run: str, key: str) -> bool:
    return key in history.agents(history.launched.get(run, ""))


def _is_done(call: Record) -> bool:
    return bool(call["outcome"] == "done" and call["status"] == 200)


def _lapsed(order: Record, story: Story) -> int:
    """An order that asks for what another waits for is not told, and shares its fate."""
    if story.told("NODE_CONTROL_ASKED", order["actor"]):
        return len(story.told("NODE_CONTROL_LAPSED", order["actor"]))
    lapsed = story.told("NODE_CONTROL_LAPSED")
    return sum(f.body["action"] == order["action"] and f.at >= order["began"] for f in lapsed)


def _said(order: Record, what: str, wrong: bool) -> Iterator[str]:
    if wrong:
        yield f"{_named(order)} {what}"


def _named(order: Record) -> str:
    return f"{order['action']} of {order['node']} of run {order['run']} by {order['actor']}"
