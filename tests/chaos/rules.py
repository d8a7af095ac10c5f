"""What must hold of every history, whatever was done to the stack: each rule yields what breaks it."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from tests.chaos.history import ENDS, History
from tests.chaos.review_rules import revisions

Rule = Callable[[History], Iterator[str]]

#: what a client may be told while parts of the stack are down; 503 carries Retry-After
HONEST = {200, 201, 202, 204, 400, 404, 409, 422, 503}
ORDER_PATIENCE = 5.0  # seconds in which an owner that is alive, or is replaced, has heard an order
#: facts that happen at most once to a node's attempt
ONCE = {"NODE_STARTED", "NODE_COMPLETED", "NODE_FAILED", "NODE_RETRIED", "NODE_CANCELED"}


def something_happened(history: History) -> Iterator[str]:
    """A history in which nothing happened would keep every other rule."""
    if not history.runs or not history.facts:
        yield "no run was started and told of: this history proves nothing"
    for level in sorted(set(history.scenario.get("tells", ())) - {fact.level for fact in history.facts}):
        yield f"{level} is told of nothing: this history proves nothing of it"
    if history.scenario.get("cuts_reviews") and all(call["outcome"] == "done" for call in history.all("review")):
        yield "no review was cut off: this history proves nothing of it"


def answers_are_honest(history: History) -> Iterator[str]:
    """An answer, a refusal with its reason, or 503 with the time to come again: nothing else, and never silence."""
    for call in history.all("call"):
        where = f"{call['method']} {call['path']}"
        if call["status"] and call["status"] not in HONEST:
            yield f"{where} was answered {call['status']}: {call['answer']}"
        if call["status"] == 503 and not call.get("retry_after"):
            yield f"{where} was answered 503 without Retry-After"
        if call.get("hung"):
            yield f"{where} was not answered within {call['hung']} s"


def accepted_is_kept(history: History) -> Iterator[str]:
    """What was answered 2xx has happened, and is told."""
    queued = Counter(fact.run_id for fact in history.facts if fact.level == "RUN_QUEUED")
    created = Counter(fact.task_id for fact in history.facts if fact.level == "TASK_CREATED")
    for call in history.answered(201, 202):
        answer = call["answer"]
        if (run := answer.get("run_id")) and (run not in history.runs or queued[run] != 1):
            yield f"run {run} was accepted, and is told of {queued[run]} times"
        if call.get("drafts") and created[answer["id"]] != 1:
            yield f"task {answer['id']} was accepted, and is told of {created[answer['id']]} times"
    for task in history.all("task"):
        ends = [f.level for f in history.facts if f.task_id == task["id"] and f.level in ENDS]
        if ends and ENDS[ends[-1]] == "completed" and task["status"] != "completed":
            yield f"the run of task {task['id']} that ended last is completed, the task is {task['status']}"


def orders_take_effect(history: History) -> Iterator[str]:
    """A cancel that was accepted ends the run; only what had begun by then may still finish first."""
    runs_of = Counter(history.launched.values())
    for call in history.answered(200):
        run = history.runs.get(call.get("run", ""), {})
        if call.get("action") != "cancel" or run.get("status") in (None, "canceled"):
            continue
        plan, limit = history.launched.get(run["id"], ""), call["until"] + ORDER_PATIENCE
        own = history.all("model") if runs_of[plan] == 1 else ()
        late = [m for m in own if m["plan"] == plan and m["began"] > limit]
        late_facts = [f for f in history.by_run.get(run["id"], []) if f.at > limit]
        if late or late_facts or run["status"] not in ENDS.values():
            yield f"the cancel of run {run['id']} was accepted; the run went on and is {run['status']}"


def the_same_key_gets_the_same_answer(history: History) -> Iterator[str]:
    answers = defaultdict(set)
    for call in history.all("call"):
        if call.get("key") and 0 < call["status"] < 500 and call["answer"].get("code") != "in_flight":
            answers[call["key"]].add(f"{call['status']} {call['answer'].get('run_id') or call['answer'].get('id')}")
    for key, found in answers.items():
        if len(found) > 1:
            yield f"Idempotency-Key {key} was answered {' and '.join(sorted(found))}"


def each_effect_happens_once(history: History) -> Iterator[str]:
    for id, times in Counter(fact.id for fact in history.facts).items():
        if times > 1:
            yield f"fact {id} is told {times} times"
    told = Counter[tuple[Any, ...]]()
    for fact in history.facts:
        about = fact.run_id, fact.body.get("key"), fact.body.get("attempt")
        if fact.level in ONCE:
            told[fact.level, *about] += 1
        elif fact.level == "NODE_PAUSED" and told["NODE_COMPLETED", *about]:
            told["NODE_COMPLETED", *about] -= 1  # held after all: it may count once more
    for (level, run, key, attempt), times in told.items():
        if times > 1:
            yield f"{level} of {key}, attempt {attempt}, in run {run} is told {times} times"
    runs = Counter(f.body.get("title") for f in history.facts if f.level == "RUN_QUEUED" and f.run_id in history.runs)
    for name in history.plans:
        if (times := runs[f"Chaos {name}"]) > 1:
            yield f"plan {name} was submitted once, and has {times} runs"


def one_active_run_per_task(history: History) -> Iterator[str]:
    """By the times of the facts: the feed may tell two runs' facts in either order."""
    active: dict[str, str] = {}
    begins = {"RUN_QUEUED", "RUN_REOPENED"}  # a run that had ended may be opened again
    moves = [f for f in history.facts if f.task_id and f.run_id and (f.level in ENDS or f.level in begins)]
    for fact in sorted(moves, key=lambda f: f.at):
        task, run = str(fact.task_id), str(fact.run_id)
        if fact.level in ENDS:
            active.pop(task, None) if active.get(task) == run else None
        elif task in active and active[task] != run:
            yield f"{fact.level} of run {run} of task {task} while its run {active[task]} was active"
        else:
            active[task] = run


def every_run_ends(history: History) -> Iterator[str]:
    for late in history.all("late"):
        yield f"{late['what']} did not come in time"
    for run in history.runs.values():
        if run["status"] not in ENDS.values():
            yield f"run {run['id']} is {run['status']}"
        expected = history.scenario.get("expect")
        if expected and run["status"] != expected and run["id"] in history.launched:
            yield f"run {run['id']} is {run['status']} instead of {expected}: {run.get('error')}"


def nothing_finished_is_repeated(history: History) -> Iterator[str]:
    """The model server's own clock against the commit of the completion: no call begins after it, unless it is undone."""
    calls, runs_of = history.model_calls(), Counter(history.launched.values())
    requeued = defaultdict(list)
    for fact in history.facts:
        if fact.level == "NODE_REQUEUED":
            requeued[fact.run_id, fact.body["key"]].append(fact)
    for fact in history.facts:
        plan = history.launched.get(fact.run_id or "", "")
        if fact.level != "NODE_COMPLETED" or runs_of[plan] != 1:  # several runs of a plan: whose call is not said
            continue
        node = plan, fact.body["key"]
        again = next((f.at for f in requeued.get((fact.run_id, node[1]), ()) if f.at >= fact.at), None)
        late = [c for c in calls.get(node, ()) if c["began"] > fact.at and (again is None or c["began"] < again)]
        if late:
            yield f"{node[1]} of run {fact.run_id} was called {late[0]['began'] - fact.at:.3f} s after it had completed"
        if node[1] in history.agents(plan) and not any(call["outcome"] == "done" for call in calls.get(node, ())):
            yield f"{node[1]} of run {fact.run_id} is completed, and no model has answered for it"


def model_calls_are_bounded(history: History) -> Iterator[str]:
    """At most one for each node, one more for each that the provider refused, and what was in flight when somebody died."""
    nodes = sum(len(history.agents(plan)) for plan in history.launched.values())
    calls = history.all("model")
    refused = sum(call["status"] not in (None, 200) or call["outcome"] == "dropped" for call in calls)
    lost = sum(fault.get("executors", 0) for fault in history.all("fault"))
    lost += sum(record["count"] for record in history.all("leases lost"))
    again = sum({call["key"]: call.get("again", 0) for call in history.answered(200, 202)}.values())
    again += len(revisions(history.facts))
    bound = nodes + refused + again + lost * history.scenario.get("in_flight", 0)
    if len(calls) > bound:
        grounds = f"{nodes} nodes, {again} ordered again, {refused} refusals and {lost} lost executors"
        yield f"{len(calls)} calls for {grounds}; at most {bound}"


def the_timeline_has_no_gap(history: History) -> Iterator[str]:
    positions = [fact.position for fact in history.facts]
    first = history.scenario.get("after", 0) + 1
    if positions != list(range(first, first + len(positions))):
        broken = next((p for n, p in enumerate(positions) if p != first + n), None)
        yield f"the positions of the feed have a gap or a repeat at {broken}"
    for run, facts in history.by_run.items():
        if run in history.runs and not any(fact.level in ENDS for fact in facts):
            yield f"the end of run {run} is told to nobody"


def no_watcher_misses_anything(history: History) -> Iterator[str]:
    """What one watcher got over all its connections, resumed by the last id each time, is the run's story, at least up to
    where the feed was when the watchers were given time to catch up."""
    seen: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for event in history.all("seen"):
        seen[event["watcher"], event["run_id"]].append(event["id"])
    until = max((mark["until"] for mark in history.all("watched")), default=sys.maxsize)
    for (watcher, run), ids in seen.items():
        facts = history.by_run.get(run, [])
        story = [fact.id for fact in facts if fact.position <= until]
        if ids != [fact.id for fact in facts[: len(ids)]]:
            yield f"watcher {watcher} of run {run} saw another story than the feed tells"
        elif len(ids) < len(story) and history.runs.get(run, {}).get("status") in ENDS.values():
            yield f"watcher {watcher} of run {run} saw {len(ids)} of {len(story)} facts"
    for event in history.all("stream"):
        if event["event"] == "reset":
            yield f"watcher {event['watcher']} of run {event['run_id']} was told to begin again: {event['data']}"
    for stranger in history.all("resumed"):
        if stranger["expected"] != stranger["found"]:
            yield f"a stream resumed with {stranger['id']!r} began with {stranger['found']}, not {stranger['expected']}"


def the_dead_are_those_expected(history: History) -> Iterator[str]:
    for letters in history.all("dead letters"):
        if letters["found"] != letters["expected"]:
            yield f"{letters['owner']} has {letters['found']} dead letters, not {letters['expected']}"
    for died in history.all("died"):
        yield f"{died['name']} ended by itself with code {died['code']}"


def the_state_does_not_depend_on_delivery(history: History) -> Iterator[str]:
    states = history.all("state")
    for state in states[1:]:
        if state["hash"] != states[0]["hash"]:
            yield f"after {state['after']} the state differs from that of one delivery in order"


def promised_times_are_kept(history: History) -> Iterator[str]:
    for figure in history.all("figure"):
        limit = figure.get("limit")
        if limit is not None and figure["value"] > limit and history.scenario.get("judge_times"):
            yield f"{figure['name']}: {figure['value']:.3g}, promised {limit:g}"
