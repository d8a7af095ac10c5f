"""Answers outputs that are a graph of steps (objects with `id`, `title`, `deps`): a sensible division of labour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chassis.llm.demo.reading import LABEL, Brief
from chassis.llm.demo.sample import sample

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Texts are (English, French); `{}` stands for the subject."""

    id: str
    deps: tuple[str, ...]
    title: tuple[str, str]
    role: tuple[str, str]
    acceptance: tuple[tuple[str, str], ...]
    risk: tuple[str, str]
    deliverables: tuple[str, ...] = ()  # by their kinds


RESEARCH = Step(
    "research",
    (),
    ("Research: {}", "Recherche : {}"),
    ("Researcher", "Chercheur"),
    (
        ("At least five facts, each with its source", "Au moins cinq faits, chacun avec sa source"),
        ("What is not known is named", "Ce qu'on ignore est nommé"),
    ),
    ("Sources are out of date", "Des sources dépassées"),
)
OUTLINE = Step(
    "outline",
    ("research",),
    ("Outline: {}", "Plan détaillé : {}"),
    ("Editor", "Rédacteur en chef"),
    (
        ("Every section has a purpose in one line", "Chaque section a son but en une ligne"),
        ("No section repeats another", "Aucune section n'en répète une autre"),
    ),
    ("The outline is broader than the question", "Le plan déborde la question"),
)
CITING = (" Cite the company's documents.", " Citer les documents de l'entreprise.")
INSTRUCTIONS = (
    "Stay with the subject: {}. Meet every acceptance criterion, and say what stays open.",
    "S'en tenir au sujet : {}. Répondre à chaque critère d'acceptation, et dire ce qui reste ouvert.",
)
DRAFTS = (
    Step(
        "draft-context",
        ("outline",),
        ("Draft the context of: {}", "Rédiger le contexte : {}"),
        ("Writer", "Rédacteur"),
        (("A newcomer understands why it matters", "Un nouveau venu comprend l'enjeu"),),
        ("Too much background", "Trop d'arrière-plan"),
    ),
    Step(
        "draft-analysis",
        ("outline",),
        ("Draft the analysis of: {}", "Rédiger l'analyse : {}"),
        ("Analyst", "Analyste"),
        (("Every claim follows from a fact of the research", "Chaque affirmation découle d'un fait de la recherche"),),
        ("Correlation is read as cause", "Corrélation prise pour cause"),
    ),
    Step(
        "draft-options",
        ("outline",),
        ("Draft the options for: {}", "Rédiger les options : {}"),
        ("Strategist", "Stratège"),
        (("At least two options with cost and benefit", "Au moins deux options avec coût et bénéfice"),),
        ("One option is written to lose", "Une option écrite pour perdre"),
    ),
)
REVIEW = Step(
    "review",
    tuple(draft.id for draft in DRAFTS),
    ("Review the drafts of: {}", "Relire les brouillons : {}"),
    ("Reviewer", "Relecteur"),
    (("Every criterion of the drafts is checked one by one", "Chaque critère des brouillons est vérifié un à un"),),
    ("The review only praises", "La relecture ne fait que louer"),
)
SYNTHESIS = Step(
    "synthesis",
    ("review",),
    ("Synthesis: {}", "Synthèse : {}"),
    ("Editor", "Rédacteur en chef"),
    (
        ("One document that stands on its own", "Un seul document qui se suffit"),
        ("The conclusion answers the question asked", "La conclusion répond à la question posée"),
    ),
    ("Findings of the review are lost", "Des remarques de la relecture se perdent"),
    ("preview",),
)


def claims(schema: Schema) -> bool:
    return _field(schema) is not None


def respond(schema: Schema, brief: Brief) -> dict[str, Any]:
    field = _field(schema)
    assert field is not None, "respond is asked only for what claims accepted"
    nodes = [_node(step, _item(schema, field), schema, brief) for step in plan(brief)]
    others = sample({**schema, "properties": _required(schema, field)}, brief.title)
    return {**others, field: nodes}


def plan(brief: Brief) -> list[Step]:
    """Two or three drafts in parallel, with an outline before them or not: five to seven steps."""
    dice = brief.dice()
    drafts = DRAFTS if dice.random() < 0.5 else DRAFTS[:2]
    steps = [RESEARCH, *([OUTLINE] if len(drafts) == 3 or dice.random() < 0.6 else []), *drafts, REVIEW, SYNTHESIS]
    return [_linked(step, {s.id for s in steps}) for step in steps]


def _linked(step: Step, present: set[str]) -> Step:
    deps = tuple(dep if dep in present else "research" for dep in step.deps if dep in present or dep == "outline")
    return replace(step, deps=deps)


def _field(schema: Schema) -> str | None:
    for name, value in schema.get("properties", {}).items():
        is_list = isinstance(value, Mapping) and value.get("type") == "array"
        if is_list and {"id", "title", "deps"} <= set(_item(schema, name).get("properties", {})):
            return str(name)
    return None


def _item(schema: Schema, field: str) -> Schema:
    item = schema["properties"][field].get("items", {})
    if "$ref" in item:
        item = schema.get("$defs", {}).get(item["$ref"].rsplit("/", 1)[-1], {})
    return dict(item)


def _required(schema: Schema, field: str) -> dict[str, Any]:
    wanted = set(schema.get("required", ())) - {field}
    return {name: value for name, value in schema["properties"].items() if name in wanted}


def _node(step: Step, item: Schema, root: Schema, brief: Brief) -> dict[str, Any]:
    properties = item["properties"]
    known = {name: value for name, value in _content(step, brief).items() if name in properties}
    missing = [name for name in item.get("required", ()) if name not in known]
    made = {name: sample({**properties[name], "$defs": root.get("$defs", {})}, brief.title) for name in missing}
    return {**{name: _fitting(properties[name], value) for name, value in known.items()}, **made}


def _content(step: Step, brief: Brief) -> dict[str, Any]:
    subject = brief.title if len(brief.title) <= 80 else f"{brief.title[:79]}…"
    assumption = ("The task's title says what is wanted", "Le titre de la tâche dit ce qui est voulu")
    return {
        "id": step.id,
        "title": brief.say(*step.title).format(subject),
        "deps": list(step.deps),
        "suggested_agent_role": brief.say(*step.role),
        "role": brief.say(*step.role),
        "instructions": brief.say(*INSTRUCTIONS).format(subject) + _citing(step, brief),
        "acceptance": [brief.say(*criterion) for criterion in step.acceptance],
        "risks": [brief.say(*step.risk)],
        "assumptions": [brief.say(*assumption)],
        "deliverables": [{"kind": kind} for kind in step.deliverables],
        "notes": LABEL,
    }


def _citing(step: Step, brief: Brief) -> str:
    """Where the task asks for citations, research brings them."""
    return brief.say(*CITING) if brief.cites and step.id == RESEARCH.id else ""


def _fitting(schema: Schema, value: Any) -> Any:
    """A list as text where the schema wants text; what is owed by its kind alone where that is to be a text."""
    if not isinstance(value, list):
        return value
    kinds = {schema.get("type"), *(option.get("type") for option in schema.get("anyOf", ()))}
    as_text = "array" not in kinds and "string" in kinds
    if as_text or schema.get("items", {}).get("type") == "string":
        value = [part["kind"] if isinstance(part, dict) else part for part in value]
    return "; ".join(value) if as_text else value
