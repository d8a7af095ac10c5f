"""The rules of reviewed runs: what is built upon was judged, by the judge's own ledger or a person's accepted score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.history import Fact, History, Record
from tests.chaos.model_server import ENOUGH, judged_result

GATE = "gate"
PENNY = 1e-9  # of a dollar; below it are errors of arithmetic
ATTEMPTS_BY_THEMSELVES = 1  # of a node, as FEEDBACK_AUTO_REVISE has it
DONE = {"NODE_COMPLETED", "NODE_SKIPPED"}
#: after these nobody waits for the review of an earlier result
OVERTAKES = {"NODE_REQUEUED", "NODE_CANCELED", "NODE_SKIPPED"}
STATES = {"NODE_STARTED", "NODE_REVIEWING", "NODE_PAUSED", "NODE_INTERRUPTED", *DONE, *OVERTAKES}


class Reviewed:
    """One run with the gate on, as the feed tells it and the model server served it."""

    def __init__(self, history: History, run: str) -> None:
        self.run, self.plan = run, history.launched[run]
        self.agents = history.agents(self.plan)
        self.deps: Mapping[str, Sequence[str]] = history.plans[self.plan]["nodes"]
        self._facts: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in history.by_run.get(run, ()):
            self._facts[str(fact.body.get("key"))].append(fact)
        self.calls = [call for call in history.all("model") if call["plan"] == self.plan]
        self.reviews = [call for call in history.all("review") if call["plan"] == self.plan]
        self.given = [call for call in history.answered(201) if call.get("judges") and call["run"] == run]

    def facts(self, key: str, *levels: str) -> list[Fact]:
        return [fact for fact in self._facts.get(key, ()) if not levels or fact.level in levels]

    def results(self) -> Iterator[Fact]:
        for key in self.agents:
            yield from self.facts(key, "NODE_REVIEWING")

    def state(self, key: str, at: float) -> Fact | None:
        return next((f for f in reversed(self.facts(key)) if f.level in STATES and f.at <= at), None)

    def reviews_of(self, result: Fact) -> list[Record]:
        _, number = judged_result(str(result.body.get("output_preview")))
        return [call for call in self.reviews if call["key"] == result.body["key"] and call["of"] == number]

    def accepted_by_a_person(self, result: Fact) -> bool:
        about = result.body["key"], result.body["attempt"]
        return any(
            (call["of_node"], call["attempt"]) == about and call["score"] >= ENOUGH and call["began"] <= result.at
            for call in self.given
        )

    def named(self, fact: Fact) -> str:
        return f"attempt {fact.body['attempt']} of {fact.body['key']} of run {self.run}"


def reviewed(history: History) -> Iterator[Reviewed]:
    gated = {name for name, plan in history.plans.items() if plan.get("gate") == GATE}
    return (Reviewed(history, run) for run, plan in history.launched.items() if plan in gated)


def nothing_counts_without_its_verdict(history: History) -> Iterator[str]:
    """That very result was found good by the judge, by its own ledger, or that very attempt by a person, over HTTP."""
    for run in reviewed(history):
        for key in run.agents:
            for fact in run.facts(key, "NODE_COMPLETED"):
                good = [c for c in run.reviews_of(fact) if c["grade"] >= ENOUGH and c["outcome"] == "done"]
                if not any(call["began"] <= fact.at for call in good) and not run.accepted_by_a_person(fact):
                    yield f"{run.named(fact)} counts, and neither the judge nor a person has found it good"


def each_result_is_judged_once(history: History) -> Iterator[str]:
    for run in reviewed(history):
        told = Counter(_attempt(f) for key in run.agents for f in run.facts(key, "FEEDBACK_GIVEN") if _is_review(f))
        shown = Counter((f["key"], f["attempt"]) for f in _shown(history, run) if f["source"] == "auto")
        for result in run.results():
            attempt, overtaken = (
                _attempt(result),
                any(f.position > result.position for f in run.facts(result.body["key"], *OVERTAKES)),
            )
            if told[attempt] > 1 or not (told[attempt] or overtaken):
                yield f"{run.named(result)} has {told[attempt]} automatic feedbacks"
            if shown and shown[attempt] < told[attempt]:
                yield f"of {run.named(result)} {told[attempt]} automatic feedbacks are told, {shown[attempt]} are shown"
        for attempt, times in shown.items():
            if times > 1:
                yield f"attempt {attempt[1]} of {attempt[0]} of run {run.run} is shown with {times} automatic feedbacks"
        yield from _scores_are_the_judge_s(run)


def _scores_are_the_judge_s(run: Reviewed) -> Iterator[str]:
    for result in run.results():
        grade, _ = judged_result(str(result.body.get("output_preview")))
        for fact in run.facts(result.body["key"], "FEEDBACK_GIVEN"):
            if _is_review(fact) and _attempt(fact) == _attempt(result) and fact.body["score"] != grade:
                yield f"{run.named(result)} was given {grade} by the judge, and its feedback says {fact.body['score']}"


def a_held_result_is_not_built_upon(history: History) -> Iterator[str]:
    """No model is called for a node while one it needs waits for its verdict, unless it had begun before."""
    for run in reviewed(history):
        for call in run.calls:
            begun = [f for f in run.facts(call["key"], "NODE_STARTED") if f.at <= call["began"]]
            for dep in run.deps.get(call["key"], ()):
                state = run.state(dep, call["began"])
                if state is None or (state.level not in DONE and not (begun and begun[-1].at <= state.at)):
                    since = state.level if state else "nothing"
                    yield f"{call['key']} of run {run.run} was called while of {dep} {since} was told last"


def reviews_are_bounded(history: History) -> Iterator[str]:
    """One for each result, and what was in flight when a reviewer died; one attempt of a node may follow by itself."""
    found = list(reviewed(history))
    results, calls = sum(1 for run in found for _ in run.results()), sum(len(run.reviews) for run in found)
    lost = sum(fault.get("reviewers", 0) for fault in history.all("fault"))
    bound = results + lost * history.scenario.get("in_flight", 0)
    if calls > bound:
        yield f"the judge was called {calls} times for {results} results and {lost} lost reviewers; at most {bound}"
    for run in found:
        for key in run.agents:
            if (times := len(revisions(run.facts(key)))) > ATTEMPTS_BY_THEMSELVES:
                yield f"{times} attempts of {key} of run {run.run} followed by themselves"


def revisions(facts: Sequence[Fact]) -> list[Fact]:
    """Verdicts by which a node runs again with nobody asking for it."""
    return [f for f in facts if f.level == "VERDICT_GIVEN" and f.body["effect"] == "revise"]


def runs_cost_what_was_called(history: History) -> Iterator[str]:
    """Each answer is in the books once, at its price; only what was in flight when somebody died may be missing, and of a
    call that was cut off nobody can know more than what it can have cost at most."""
    price, most, unbooked = (history.scenario.get("price", 0.0), history.scenario.get("most", 0.0), 0)
    for run in reviewed(history):
        if (books := next((r for r in history.all("books") if r["run"] == run.run), None)) is None:
            continue
        done = [c for c in (*run.calls, *run.reviews) if c["outcome"] == "done" and c["status"] == 200]
        cost, estimated = price * sum(call["charged"] for call in done), books["estimated"]
        wrong = books["calls"] - estimated > len(done) or books["cost"] > cost + estimated * most + PENNY
        short = books["calls"] == len(done) and not estimated and books["cost"] < cost - PENNY
        if wrong or short:
            told = f"{books['calls']} calls, ${books['cost']}, {estimated} of them estimated"
            yield f"run {run.run} is charged {told}; {len(done)} were answered, for ${cost:.4f}"
        unbooked += max(0, len(done) - books["calls"])
    lost = sum(f.get("reviewers", 0) + f.get("executors", 0) for f in history.all("fault"))
    lost += sum(record["count"] for record in history.all("leases lost"))
    if unbooked > lost * history.scenario.get("in_flight", 0):
        yield f"{unbooked} calls were answered and are in nobody's books; {lost} executors and reviewers were lost"


def the_verdict_in_force_is_obeyed(history: History) -> Iterator[str]:
    """In the end each node stands as the verdict on its latest attempt wants it, and shows that one."""
    statuses = {"release": {"completed"}, "hold": {"paused", "completed"}, "revise": set(), "note": {"completed"}}
    for run in reviewed(history):
        force = {(f["key"], f["attempt"]): f for f in _shown(history, run) if f["in_force"]}
        for node in history.all("node"):
            if node["run"] != run.run or (said := force.get((node["key"], node["attempt"]))) is None:
                continue
            where = f"attempt {node['attempt']} of {node['key']} of run {run.run}"
            if node["verdict"] != said["id"]:
                yield f"on {where} the score {said['score']} of {said['reviewer']} is in force, and another is obeyed"
            elif node["status"] not in statuses[node["effect"]]:
                yield f"{where} is {node['status']}, its verdict is {node['effect']}"


def whoever_waits_says_why(history: History) -> Iterator[str]:
    for waiting in history.all("waiting"):
        own = [item for item in waiting["items"] if item["key"] == waiting["node"]]
        why = [item for item in own if item["reason"] in ("verdict", "order")]  # a person, or one who has decided
        if not waiting["needs_attention"] or not all(item["detail"] and item["release"] for item in why) or not why:
            yield f"{waiting['node']} of run {waiting['run']} is held, and nobody is told why: {waiting['items']}"


def reruns_take_effect(history: History) -> Iterator[str]:
    """What was accepted is told once, and another attempt follows, or it is said why none does."""
    for order in history.answered(202):
        if order.get("action") != "rerun":
            continue
        facts = history.by_run.get(order["run"], ())
        told = [f for f in facts if f.level == "NODE_RERUN_ASKED" and _is_by(f, order["actor"])]
        lapsed = [f for f in facts if f.level == "NODE_CONTROL_LAPSED" and _is_by(f, order["actor"])]
        began = any(
            f.level == "NODE_STARTED" and _attempt(f) >= (order["node"], order["answer"]["attempt"])
            for f in facts
            if f.body.get("key") == order["node"]
        )
        if len(told) != 1 or not (began or lapsed):
            effect = "an attempt followed" if began else "nothing followed"
            yield f"the rerun of {order['node']} of run {order['run']} is told {len(told)} times, and {effect}"


def _shown(history: History, run: Reviewed) -> list[Record]:
    return [feedback for feedback in history.all("feedback") if feedback["run"] == run.run]


def _attempt(fact: Fact) -> tuple[str, int]:
    return str(fact.body["key"]), int(fact.body["attempt"])


def _is_review(fact: Fact) -> bool:
    return bool(fact.body["source"] == "auto")


def _is_by(fact: Fact, actor: str) -> bool:
    return str(fact.body.get("by") or "").startswith(f"{actor},")
