"""The planner's decisions, without I/O: graphs, differences, assignments, the life of a task."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Code, Rejection
from contracts.plan import Assignment, Edge, Gate, ModelRef, PlanGraph, PlanNode
from contracts.planner import LaunchTask, PlanDiff, PlanStatus, TaskSpec, TaskStatus
from services.planner.domain import graph as rules
from services.planner.domain.assignment import freeze, recruited, slug, unknown_nodes, with_acceptance
from services.planner.domain.demo import DEMO
from services.planner.domain.diff import diff
from services.planner.domain.drafted import DraftedPlan, read
from services.planner.domain.facts import MAX_ASSIGNED, portions, shortened
from services.planner.domain.launch import run_id_of
from services.planner.domain.source import Brief, Explicit, gate_of, source
from services.planner.domain.task import (
    LEGAL,
    OVER,
    UNCONFIRMED,
    IllegalMove,
    RunState,
    TaskRun,
    accepted,
    after_planning,
    is_latest,
    moved,
    shown,
    told,
)
from tests.planner.graphs import chain, needs, sound_graphs

# graphs


@given(sound_graphs())
def test_a_sound_graph_breaks_no_rule(graph: PlanGraph) -> None:
    assert rules.violations(graph) == []


@given(sound_graphs())
def test_the_order_has_every_node_once_and_after_all_it_needs(graph: PlanGraph) -> None:
    order = rules.order(graph)
    assert sorted(order) == sorted(node.id for node in graph.plan)
    place = {key: index for index, key in enumerate(order)}
    assert all(place[dep] < place[key] for key, deps in needs(graph).items() for dep in deps)


@given(sound_graphs())
def test_edges_and_dependencies_say_the_same_once_a_graph_is_completed(graph: PlanGraph) -> None:
    whole = rules.completed(graph)
    assert {node.id: set(node.deps) for node in whole.plan} == needs(graph)
    assert {(e.source, e.target) for e in whole.edges} == {(d, k) for k, deps in needs(graph).items() for d in deps}
    assert rules.completed(whole) == whole


@st.composite
def broken_graphs(draw: st.DrawFn) -> tuple[PlanGraph, list[list[str]]]:
    """A graph with some of the known faults planted, and for each fault the words its violation must contain."""
    graph = draw(sound_graphs(8))
    nodes, edges, expected = [*graph.plan], [*graph.edges], []
    faults = draw(st.lists(st.sampled_from(["twice", "self", "dep", "edge", "cycle"]), min_size=1, unique=True))
    victim = draw(st.sampled_from(nodes))
    if "self" in faults:
        nodes.append(PlanNode(id="selfish", title="s", deps=["selfish", victim.id]))
        expected.append(["'selfish'", "depends on itself"])
    if "dep" in faults:
        nodes.append(PlanNode(id="orphan", title="o", deps=["ghost"]))
        expected.append(["'orphan'", "'ghost'", "not in the plan"])
    if "edge" in faults:
        edges.append(Edge(source="nowhere", target=victim.id))
        expected.append(["'nowhere'", repr(victim.id), "not in the plan"])
    for number in range(draw(st.integers(1, 3)) if "cycle" in faults else 0):
        ring = [f"ring{number}_{i}" for i in range(draw(st.integers(2, 5)))]
        needed = [ring[-1], *ring[:-1]]
        nodes += [PlanNode(id=key, title=key, deps=[dep]) for key, dep in zip(ring, needed, strict=True)]
        expected.append([*ring, "cycle"])
    if "twice" in faults:
        nodes.append(PlanNode(id=victim.id, title="again"))
        expected.append([repr(victim.id), "used 2 times"])
    return PlanGraph(plan=draw(st.permutations(nodes)), edges=edges), expected


@given(broken_graphs())
def test_every_planted_fault_is_named_and_nothing_else(broken: tuple[PlanGraph, list[list[str]]]) -> None:
    graph, expected = broken
    found = rules.violations(graph)
    for words in expected:
        assert [v for v in found if all(word in v for word in words)], f"{words} not named in {found}"
    assert len(found) == len(expected)


def test_a_cycle_is_named_in_the_direction_of_the_work() -> None:
    graph = PlanGraph.model_validate(
        [
            {"id": "a", "title": "a", "deps": ["c"]},
            {"id": "b", "title": "b", "deps": ["a"]},
            {"id": "c", "title": "c", "deps": ["b"]},
        ]
    )
    assert rules.violations(graph) == ["the dependencies form a cycle: a → b → c → a"]


@pytest.mark.parametrize(("count", "sound"), [(0, False), (1, True), (200, True), (201, False)])
def test_a_plan_has_one_to_two_hundred_nodes(count: int, sound: bool) -> None:
    graph = PlanGraph.model_validate([{"id": f"n{i}", "title": "t"} for i in range(count)])
    assert (rules.violations(graph) == []) is sound
    if not sound:
        assert rules.violations(graph) == [f"the plan has {count} nodes; it must have 1 to 200"]


def test_a_graph_far_beyond_the_limit_is_refused_in_linear_time_and_without_deep_recursion() -> None:
    ring = [{"id": f"n{i}", "title": "t", "deps": [f"n{(i - 1) % 20_000}"]} for i in range(20_000)]
    found = rules.violations(PlanGraph.model_validate(ring))
    assert len(found) == 2
    assert len(found[1]) < 500


def test_an_unsound_graph_is_rejected_with_all_that_is_wrong() -> None:
    graph = PlanGraph.model_validate(
        [{"id": "a", "title": "a", "deps": ["x"]}, {"id": "a", "title": "a", "deps": ["a"]}]
    )
    with pytest.raises(Rejection) as refused:
        rules.sound(graph)
    assert refused.value.failure.code is Code.INVALID
    assert len(refused.value.failure.details["errors"]) == 3


# differences

PLAN = UUID(int=1)


@st.composite
def changed_graphs(draw: st.DrawFn) -> tuple[PlanGraph, PlanGraph]:
    """Two graphs over the same kind of ids, so that they share, miss and change nodes."""
    before = rules.completed(draw(sound_graphs(8)))
    return before, draw(st.one_of(st.just(before), sound_graphs(8).map(rules.completed)))


def applied(graph: PlanGraph, change: PlanDiff) -> dict[str, PlanNode]:
    nodes = {node.id: node for node in graph.plan}
    for node in change.removed_nodes:
        del nodes[node.id]
    nodes |= {node.id: node for node in change.added_nodes}
    for changed in change.changed_nodes:
        fields = nodes[changed.id].model_dump() | {name: c.current for name, c in changed.changes.items()}
        nodes[changed.id] = PlanNode.model_validate(fields)
    return nodes


def by_id(graph: PlanGraph) -> dict[str, dict[str, object]]:
    return {n.id: {**n.model_dump(), "deps": sorted(n.deps)} for n in graph.plan}


@given(changed_graphs())
def test_a_difference_applied_to_the_first_version_gives_the_second(pair: tuple[PlanGraph, PlanGraph]) -> None:
    before, after = pair
    change = diff(PLAN, (1, before), (2, after))
    got = {key: {**node.model_dump(), "deps": sorted(node.deps)} for key, node in applied(before, change).items()}
    assert got == by_id(after)
    edges = {(e.source, e.target) for e in before.edges}
    edges -= {(e["source"], e["target"]) for e in change.removed_edges}
    edges |= {(e["source"], e["target"]) for e in change.added_edges}
    assert edges == {(e.source, e.target) for e in after.edges}


@given(changed_graphs())
def test_a_difference_is_empty_exactly_when_the_versions_are_equal(pair: tuple[PlanGraph, PlanGraph]) -> None:
    change = diff(PLAN, (1, pair[0]), (2, pair[1]))
    parts = (change.added_nodes, change.removed_nodes, change.changed_nodes, change.added_edges, change.removed_edges)
    assert (not any(parts)) is (by_id(pair[0]) == by_id(pair[1]))


def test_a_version_without_a_graph_is_compared_as_an_empty_one() -> None:
    change = diff(PLAN, (1, None), (2, chain("a", "b")))
    assert [node.id for node in change.added_nodes] == ["a", "b"]
    assert change.added_edges == [{"source": "a", "target": "b"}]


# assignments


@given(sound_graphs(), st.data())
def test_a_frozen_plan_has_every_node_after_what_it_needs_with_its_assignment(
    graph: PlanGraph, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from([n.id for n in graph.plan]), unique=True))
    items = [Assignment(node_id=key, role="editor", llm_backend="openai", llm_model="m") for key in chosen]
    frozen = freeze(graph, items, llm_backend="ollama", llm_model="llama")
    seen: set[str] = set()
    for node in frozen:
        assert set(node.deps) == needs(graph)[node.key]
        assert set(node.deps) <= seen
        seen.add(node.key)
        expected = ("openai", "m", "editor") if node.key in chosen else ("ollama", "llama", None)
        assert (node.llm_backend, node.llm_model, node.role) == expected
    assert len(frozen) == len(graph.plan)


def test_a_default_model_is_never_mixed_with_another_provider() -> None:
    [node] = freeze(chain("a"), [Assignment(node_id="a", llm_backend="anthropic")], llm_backend="openai", llm_model="m")
    assert (node.llm_backend, node.llm_model) == ("anthropic", None)


@pytest.mark.parametrize("fallbacks", [None, [], [ModelRef(provider="ollama", model="m")]])
def test_who_may_stand_in_for_the_model_is_passed_on(fallbacks: list[ModelRef] | None) -> None:
    [node] = freeze(chain("a"), [Assignment(node_id="a", fallbacks=fallbacks)])
    assert node.fallbacks == fallbacks


def test_params_of_the_assignment_win_over_the_nodes_and_those_over_the_runs() -> None:
    graph = PlanGraph(plan=[PlanNode(id="a", title="a", params={"x": 2, "y": 2})])
    items = [Assignment(node_id="a", params={"x": 3})]
    [node] = freeze(graph, items, params={"x": 1, "y": 1, "z": 1})
    assert node.params == {"x": 3, "y": 2, "z": 1}


@given(sound_graphs())
def test_recruiting_assigns_exactly_the_nodes_that_nobody_does(graph: PlanGraph) -> None:
    first = [Assignment(node_id=node.id, agent_id="human") for node in graph.plan[::2]]
    new = recruited(graph, first, "demo", "demo-1")
    assert {item.node_id for item in new} == {node.id for node in graph.plan[1::2]}
    assert recruited(graph, [*first, *new], "demo", "demo-1") == []


def test_a_recruit_is_named_after_its_role() -> None:
    graph = PlanGraph(plan=[PlanNode(id="a", title="a", suggested_agent_role="Senior Copy-Writer!")])
    [item] = recruited(graph, [], "demo", "demo-1")
    assert item == Assignment(
        node_id="a",
        role="Senior Copy-Writer!",
        agent_id="auto-senior-copy-writer",
        llm_backend="demo",
        llm_model="demo-1",
    )
    assert slug("…") == "generalist"


def test_assignments_of_unknown_nodes_are_all_named() -> None:
    assert unknown_nodes(chain("a"), [Assignment(node_id=key) for key in ("x", "a", "y", "x")]) == ["x", "y"]


def test_acceptance_of_the_whole_is_asked_of_the_last_nodes_only() -> None:
    graph = with_acceptance(chain("a", "b"), ["in French"])
    assert [node.acceptance for node in graph.plan] == [[], ["in French"]]


# the life of a task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STATES = [s for s in RunState if s not in UNCONFIRMED]


def test_the_mapping_names_every_status_and_only_moves_that_change_something() -> None:
    assert set(LEGAL) == set(TaskStatus)
    assert all(status not in after for status, after in LEGAL.items())


@given(st.sampled_from(TaskStatus), st.sampled_from(TaskStatus))
def test_illegal_moves_raise_and_legal_ones_arrive(current: TaskStatus, wanted: TaskStatus) -> None:
    if wanted == current or wanted in LEGAL[current]:
        assert moved(current, wanted) is wanted
    else:
        with pytest.raises(IllegalMove):
            moved(current, wanted)


@given(st.sampled_from(TaskStatus), st.sampled_from(PlanStatus))
def test_a_changed_plan_never_asks_for_an_illegal_move(status: TaskStatus, plan: PlanStatus) -> None:
    after = after_planning(status, plan)
    assert after is status or after in LEGAL[status]
    assert (
        (after is TaskStatus.READY) or plan is not PlanStatus.READY or status in (TaskStatus.RUNNING, TaskStatus.PAUSED)
    )


def _told(run: TaskRun, facts: list[tuple[int, RunState]]) -> TaskRun:
    for sequence, state in facts:
        run = told(run, state, sequence, activation=1) or run
    return run


@given(st.lists(st.sampled_from(STATES[1:]), min_size=1, max_size=5), st.data())
def test_facts_of_a_run_shuffled_and_repeated_leave_the_newest(states: list[RunState], data: st.DataObject) -> None:
    facts = list(enumerate(states, start=2))
    shuffled = data.draw(st.permutations(facts * 3))
    start = TaskRun(uuid4(), 1, RunState.ACCEPTED)
    assert _told(start, shuffled) == _told(start, facts)
    assert _told(start, shuffled).state is states[-1]


def test_a_late_fact_of_an_older_run_is_not_shown() -> None:
    older, newer = TaskRun(uuid4(), 1, RunState.COMPLETED, 9), TaskRun(uuid4(), 2, RunState.RUNNING, 2)
    assert is_latest(newer, older)
    assert not is_latest(older, newer)
    assert not is_latest(TaskRun(uuid4(), 3, RunState.ASKED), newer), "nobody knows whether that one exists"


@given(st.permutations(range(4)))
def test_a_run_that_is_reopened_after_a_newer_one_ended_is_shown_in_whatever_order_it_is_told(order: list[int]) -> None:
    first = TaskRun(uuid4(), 1, RunState.ACCEPTED, activation=7)
    second = TaskRun(uuid4(), 2, RunState.ACCEPTED, activation=8)
    story = [
        (first, RunState.FAILED, 3, 7),
        (second, RunState.FAILED, 2, 8),
        (first, RunState.RUNNING, 5, 9),
        (first, RunState.COMPLETED, 6, 9),
    ]
    runs, showing = {run.run_id: run for run in (first, second)}, None
    for run, state, sequence, activation in (story[at] for at in order):
        news = told(runs[run.run_id], state, sequence, activation)
        if news is not None:
            runs[run.run_id] = news
            showing = news if is_latest(news, showing) else showing
    assert showing is not None
    assert (showing.run_id, showing.state) == (first.run_id, RunState.COMPLETED)


def test_an_answer_that_comes_after_the_facts_changes_nothing() -> None:
    done = TaskRun(uuid4(), 1, RunState.COMPLETED, 9)
    assert accepted(done, 3) == done
    assert accepted(TaskRun(done.run_id, 1, RunState.REFUSED), 3).state is RunState.ACCEPTED


@pytest.mark.parametrize(
    ("state", "dry_run", "plan"), list(itertools.product(STATES, [True, False], [*PlanStatus, None]))
)
def test_what_a_task_shows_follows_from_its_run_and_plan(
    state: RunState, dry_run: bool, plan: PlanStatus | None
) -> None:
    status = shown(TaskRun(uuid4(), 1, state, 5, dry_run), plan)
    idle = TaskStatus.READY if plan is PlanStatus.READY else TaskStatus.DRAFT
    if state is RunState.CANCELED or (dry_run and state in OVER):
        assert status is idle, "a canceled run and a rehearsal leave the task to be started again"
    elif state is RunState.ACCEPTED:
        assert status is TaskStatus.RUNNING
    else:
        assert status == state.value


def test_the_run_of_an_order_is_always_the_same_and_a_version_4_id() -> None:
    order = uuid4()
    assert run_id_of(order) == run_id_of(order) != run_id_of(uuid4())
    assert (run_id_of(order).version, run_id_of(order).variant) == (4, uuid4().variant)


# sources of ad-hoc runs


def launch(**fields: object) -> LaunchTask:
    return LaunchTask.model_validate({"command_id": uuid4(), "title": "T", **fields})


def test_each_source_of_a_plan_is_recognised() -> None:
    nodes = [{"id": "a", "title": "a"}]
    assert source(launch(task=nodes)) == Explicit(chain("a"), "explicit")
    assert source(launch(task_spec={"plan": {"plan": nodes}})) == Explicit(chain("a"), "explicit")
    assert source(launch(task_spec={"type": "Demo"})) == Explicit(DEMO, "demo")
    assert source(launch(task_spec={"description": "d"})) == Brief(title="T", description="d")
    assert source(launch(task_spec={}, description="d")) == Brief(title="T", description="d")
    assert source(launch(task_spec={}, options={"use_supervisor": True})) == Brief(title="T")
    assert source(launch(task_file="x.json"), chain("a")) == Explicit(chain("a"), "explicit")
    assert source(launch(task_file="x.json"), TaskSpec(description="d")) == Brief(title="T", description="d")


def test_a_source_that_says_nothing_or_two_things_is_refused_with_advice() -> None:
    with pytest.raises(Rejection, match="type 'report' is unknown"):
        source(launch(task_spec={"type": "report"}))
    with pytest.raises(Rejection, match="drop one"):
        source(launch(task=[{"id": "a", "title": "a"}], options={"use_supervisor": True}))


def test_the_gate_of_the_body_wins_over_the_specs_and_that_over_the_options() -> None:
    spec = TaskSpec(gate=Gate.OBSERVE)
    assert gate_of(launch(task_spec={}, gate="off", options={"gate": "gate"}), spec) is Gate.OFF
    assert gate_of(launch(task_spec={}, options={"gate": "gate"}), spec) is Gate.OBSERVE
    assert gate_of(launch(task_spec={}, options={"gate": "gate"}), TaskSpec()) is Gate.GATE
    assert gate_of(launch(task_spec={}), TaskSpec()) is None


def test_the_demo_plan_is_sound_and_has_work_in_parallel() -> None:
    assert rules.violations(DEMO) == []
    frozen = freeze(DEMO, [])
    assert len(frozen) >= 6
    assert len([node for node in frozen if node.deps == ["brief"]]) == 2
    assert all(node.role and node.instructions and node.acceptance for node in frozen)


# what a model drafted


def test_ids_that_a_model_spells_freely_become_keys_and_their_dependencies_follow() -> None:
    first = {"id": "Step 1", "title": "a", "suggested_agent_role": "r"}
    second = {"id": "2", "title": "b", "suggested_agent_role": "r", "deps": ["Step 1"], "acceptance": "one"}
    plan = DraftedPlan.model_validate({"plan": [first, second]})
    graph, errors = read(plan)
    assert (errors, [(n.id, n.deps, n.acceptance) for n in graph.plan] if graph else None) == (
        [],
        [("Step-1", [], []), ("2", ["Step-1"], ["one"])],
    )


def test_a_draft_that_is_not_sound_comes_with_all_its_faults() -> None:
    node = {"title": "a", "suggested_agent_role": "r"}
    graph, errors = read(DraftedPlan.model_validate({"plan": [{"id": "a", "deps": ["b", "a"], **node}]}))
    assert graph is None
    assert len(errors) == 2
    graph, errors = read(DraftedPlan.model_validate({"plan": [{"id": "…", **node, "title": ""}]}))
    assert graph is None
    assert [e.split(":")[0] for e in errors] == ["plan.0.id", "plan.0.title"]


def test_what_a_draft_says_a_step_owes_is_in_the_plan_or_refused_with_what_is_wrong() -> None:
    def drafted(*owed: object) -> tuple[PlanGraph | None, list[str]]:
        step = {"id": "page", "title": "a", "suggested_agent_role": "r", "deliverables": list(owed)}
        return read(DraftedPlan.model_validate({"plan": [step]}))

    preview, report = {"kind": "preview", "path": "site/index.html"}, {"kind": "document", "path": "report.md"}
    graph, errors = drafted(preview, report, {"kind": "link"})
    assert errors == []
    assert graph is not None
    assert [item.model_dump(mode="json", exclude_none=True) for item in graph.plan[0].deliverables] == [
        *(preview, report, {"kind": "link"})
    ]
    for owed, wrong in (
        ({"kind": "file", "path": "../a.md"}, "plan.0.deliverables.0.path: a path is relative"),
        ({"kind": "link", "path": "a.md"}, "node 'page' owes a link with the path 'a.md'"),
        ({"kind": "preview", "path": "app.js"}, "node 'page' owes a preview that opens with 'app.js'"),
    ):
        graph, errors = drafted(owed)
        assert (graph, len(errors)) == (None, 1)
        assert errors[0].startswith(wrong)


def test_what_calls_no_model_owes_nothing() -> None:
    plan = PlanGraph.model_validate([{"id": "a", "title": "a", "kind": "noop", "deliverables": ["report.md"]}])
    assert rules.violations(plan) == ["node 'a' is a noop, which delivers nothing; leave its `deliverables` out"]


# facts


@given(st.lists(st.integers(1, 200), max_size=200))
def test_assignments_are_told_in_portions_that_fit_and_none_is_left_out(sizes: list[int]) -> None:
    items = [Assignment(node_id=f"n{i}", role="é" * n, params={"x": "y" * 99}) for i, n in enumerate(sizes)]
    told_of = list(portions(items))
    assert [item.node_id for portion in told_of for item in portion] == [item.node_id for item in items]
    for portion in told_of:
        assert sum(len(item.model_dump_json()) for item in portion) <= MAX_ASSIGNED
        assert all(item.params == {} for item in portion)


def test_a_long_list_of_errors_is_shortened_for_a_fact_and_says_so() -> None:
    assert shortened(["x"]) == ["x"]
    told_of = shortened(["é" * 1000] * 150)
    assert len(told_of) == 101
    assert told_of[-1] == "and 50 more; the plan has them all"
    assert sum(len(e.encode()) for e in told_of) < 64 * 1024
