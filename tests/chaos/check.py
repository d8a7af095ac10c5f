"""The offline judge: reads histories, applies every rule. `python -m tests.chaos.check history.jsonl …`"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import review_rules, rules
from tests.chaos.history import History
from tests.chaos.money import no_budget_is_exceeded
from tests.chaos.moves import only_legal_moves
from tests.chaos.node_rules import orders_to_nodes_take_effect
from tests.chaos.rules import Rule

RULES: tuple[Rule, ...] = (
    rules.something_happened,
    rules.answers_are_honest,
    rules.accepted_is_kept,
    rules.orders_take_effect,
    orders_to_nodes_take_effect,
    rules.the_same_key_gets_the_same_answer,
    rules.each_effect_happens_once,
    only_legal_moves,
    rules.one_active_run_per_task,
    rules.every_run_ends,
    rules.nothing_finished_is_repeated,
    rules.model_calls_are_bounded,
    no_budget_is_exceeded,
    rules.the_timeline_has_no_gap,
    rules.no_watcher_misses_anything,
    rules.the_dead_are_those_expected,
    rules.the_state_does_not_depend_on_delivery,
    rules.promised_times_are_kept,
    review_rules.nothing_counts_without_its_verdict,
    review_rules.each_result_is_judged_once,
    review_rules.a_held_result_is_not_built_upon,
    review_rules.reviews_are_bounded,
    review_rules.runs_cost_what_was_called,
    review_rules.the_verdict_in_force_is_obeyed,
    review_rules.whoever_waits_says_why,
    review_rules.reruns_take_effect,
)


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule.replace('_', ' ')}: {self.what}"


def judge(history: History) -> list[Violation]:
    """Empty when nothing was lost, repeated or illegal."""
    return [Violation(rule.__name__, what) for rule in RULES for what in rule(history)]


def summary(history: History) -> str:
    """How much was witnessed: a history in which nothing happened proves nothing."""
    statuses = Counter(run["status"] for run in history.runs.values())
    ends = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    facts, calls, faults = len(history.facts), len(history.all("model")), len(history.all("fault"))
    reviews = f", {len(found)} reviews" if (found := history.all("review")) else ""
    return f"{faults} faults, {len(history.runs)} runs ({ends or 'none'}), {calls} model calls{reviews}, {facts} facts"


def main(paths: Sequence[str]) -> int:
    """0 when all rules hold, 1 when one is broken, 2 without a history."""
    if not paths:
        sys.stderr.write("which history? python -m tests.chaos.check history.jsonl …\n")
        return 2
    broken = 0
    for path in paths:
        history = History.read(Path(path))
        violations = judge(history)
        broken += len(violations)
        print(f"{path}: {summary(history)}; {len(violations)} violations")
        for violation in violations:
            print(f"  {violation}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
