"""Reports as Markdown, for people: whatever models and people wrote in them stays text."""

from __future__ import annotations

import json
from collections.abc import Iterator

from starlette.responses import Response

from contracts.executor import RunSummary
from contracts.feedback import NodeQuality, QaReport
from services.gateway.domain.forms import Form
from services.gateway.domain.markdown import block, code, inline, table
from services.gateway.domain.trouble import Signal
from services.gateway.review_schemas import Incident, TroubledNode
from services.gateway.schemas import Event

EVENTS_SHOWN = 5  # of a node; all of them are in the JSON
RECENT_SHOWN = 20
#: of the facts' members, those that say what happened
READ = (
    *(
        "key",
        "attempt",
        "action",
        "error",
        "reason",
        "reasons",
        "warnings",
        "repair",
        "detail",
        "waiting",
        "due_at",
        "until",
    ),
    *("score", "decision", "effect", "source", "reviewer", "failed_criteria", "review_unavailable", "policy"),
    *("by", "fields", "model", "duration_ms", "comment", "unreadable"),
)


def markdown_answer(text: str) -> Response:
    return Response(text, media_type=Form.MARKDOWN.value, headers={"Vary": "Accept"})


def qa_report(report: QaReport, title: str | None) -> str:
    return "\n\n".join(_qa_parts(report, title)) + "\n"


def _qa_parts(report: QaReport, title: str | None) -> Iterator[str]:
    yield f"# Quality of the run {inline(title or report.run_id)}"
    average = "–" if report.average_score is None else f"{report.average_score:.1f}"
    yield (
        f"Run `{report.run_id}`: average score {average}; {report.accepted} accepted, {report.revised} to revise,"
        f" {report.rejected} rejected, {report.critical} critical; {report.reviews} reviews, {report.human_reviews} by"
        " people."
    )
    columns = ("node", "attempt", "score", "decision", "by", "failed criteria")
    yield table(columns, [_quality_row(node) for node in report.nodes])
    if report.failed_criteria:
        yield "## Failed criteria"
        most_first = sorted(report.failed_criteria.items(), key=lambda each: (-each[1], each[0]))
        yield table(("criterion", "nodes"), [(inline(name), str(count)) for name, count in most_first])
    for node in report.nodes:
        if node.comment:
            yield f"## Said of {inline(node.key)}"
            yield block(node.comment)


def _quality_row(node: NodeQuality) -> tuple[str, ...]:
    by = f"{inline(node.reviewer or '')} ({node.source})".strip() if node.source else ""
    score = f"{_score(node.score)}{' (critical)' if node.critical else ''}"
    failed = inline(", ".join(node.failed_criteria))
    return inline(node.key), str(node.attempt), score, _decision(node), by, failed


def _decision(node: NodeQuality) -> str:
    """What counts, and what the model would have done instead."""
    overruled = node.reviewer_decision not in (None, node.decision)
    return f"{node.decision or ''}{f' (the model: {node.reviewer_decision})' if overruled else ''}"


def _cost(summary: RunSummary) -> str:
    if summary.cost_usd is None:
        return "unknown"
    estimated = f", at most for {summary.estimated_calls} calls that were cut off" if summary.estimated_calls else ""
    unpriced = f", and {summary.unpriced_calls} calls of unknown price" if summary.unpriced_calls else ""
    return f"${summary.cost_usd}{estimated}{unpriced}"


def _score(score: int | None) -> str:
    return "–" if score is None else str(score)


def incident_report(incident: Incident) -> str:
    return "\n\n".join(_incident_parts(incident)) + "\n"


def _incident_parts(incident: Incident) -> Iterator[str]:
    run, summary = incident.run, incident.summary
    yield f"# Incident in the run {inline(run.title)}"
    yield (
        f"Run `{run.id}`: {run.status}; {summary.nodes_completed} of {summary.nodes_total} nodes completed,"
        f" {summary.nodes_failed} failed; cost {_cost(summary)}."
    )
    if incident.degraded:
        yield f"Missing right now: {', '.join(incident.degraded)}."
    yield "## Signals"
    columns = ("signal", "times", "what", "nodes", "what ends it")
    yield table(columns, [_signal_row(each) for each in incident.signals]) if incident.signals else "None."
    for node in incident.failed_nodes:
        yield from _node_parts(node)
    if incident.recent_events:
        yield "## Latest events"
        yield _events(incident.recent_events[-RECENT_SHOWN:])


def _signal_row(signal: Signal) -> tuple[str, ...]:
    nodes = inline(", ".join(signal.nodes))
    return inline(signal.kind), str(signal.count), inline(signal.detail), nodes, inline(signal.release or "")


def _node_parts(node: TroubledNode) -> Iterator[str]:
    yield f"## Node {inline(node.key)}: {node.status}"
    yield f"Title: {inline(node.title)}. Attempt {node.attempt}. Model: {inline(node.model or 'none')}."
    if node.error:
        yield block(node.error)
    if node.verdict is not None and node.verdict.critique:
        yield f"Verdict of attempt {node.verdict.attempt}, score {_score(node.verdict.score)}:"
        yield block(node.verdict.critique)
    if node.output_preview:
        yield "Its output begins:"
        yield block(node.output_preview)
    if node.artifacts:
        yield f"It delivered: {', '.join(inline(artifact.name) for artifact in node.artifacts)}."
    if node.events:
        yield _events(node.events[-EVENTS_SHOWN:])


def _events(events: list[Event]) -> str:
    return table(("at", "level", "what"), [(e.timestamp.isoformat(), e.level, _what(e)) for e in events])


def _what(event: Event) -> str:
    """The members of a fact that people read, in their order; the JSON has all of them."""
    told = json.loads(event.message)
    said = [f"{name} {json.dumps(told[name], ensure_ascii=False)}" for name in READ if told.get(name) not in (None, [])]
    return code(", ".join(said)) if said else ""
