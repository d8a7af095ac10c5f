"""Writes the demo's free-text answers: Markdown that takes up title, role, criteria and earlier results, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.llm.demo.reading import LABEL, Brief
from chassis.llm.demo.sources import Source

Pair = tuple[str, str]  # English, French


@dataclass(frozen=True, slots=True)
class Manner:
    """How a kind of work is written up. `{}` stands for the subject."""

    words: re.Pattern[str]
    heading: Pair
    opening: Pair
    points: tuple[Pair, ...]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})", re.IGNORECASE)


SPECIAL = (
    Manner(
        _words(r"review|relire|relecture|check|critique|valid"),
        ("Findings", "Constats"),
        ("The drafts were read against what was asked.", "Les brouillons ont été relus au regard de la demande."),
        (
            ("**Structure**: the argument can be followed; two paragraphs say the same and should become one.",
             "**Structure** : le raisonnement se suit ; deux paragraphes disent la même chose et n'en feraient qu'un."),
            ("**Evidence**: figures are named with their origin, except one estimate that must be marked as such.",
             "**Preuves** : les chiffres ont leur origine, sauf une estimation à signaler comme telle."),
            ("**Tone**: plain and direct; jargon was replaced where a common word does.",
             "**Ton** : simple et direct ; le jargon cède là où un mot courant suffit."),
            ("**Decision**: fit for the next step once these points are settled.",
             "**Décision** : bon pour l'étape suivante, ces points une fois réglés."),
        ),
    ),
    Manner(
        _words(r"research|recherch|investigat|collect|study|étude|veille"),
        ("What was found", "Ce qui a été trouvé"),
        ("The question was split into what is known, what is disputed and what must be measured.",
         "La question a été divisée : ce qui est connu, ce qui est disputé, ce qui reste à mesurer."),
        (
            ("**Known**: the need is recurrent, and those who meet it agree on its main causes.",
             "**Connu** : le besoin revient souvent, et ceux qui le rencontrent s'accordent sur ses causes."),
            ("**Disputed**: how much of the effect stays after the first months.",
             "**Disputé** : ce qui reste de l'effet après les premiers mois."),
            ("**To measure**: the cost of doing nothing, which nobody has written down.",
             "**À mesurer** : le coût de l'inaction, que personne n'a chiffré."),
            ("**Sources**: three kinds were weighed, from first-hand accounts to public statistics.",
             "**Sources** : trois sortes ont été pesées, du témoignage direct à la statistique publique."),
        ),
    ),
    Manner(
        _words(r"outline|plan\b|structure|sommaire|canevas"),
        ("Structure", "Structure"),
        ("The structure leads from the question to a decision, one idea per section.",
         "La structure mène de la question à la décision, une idée par section."),
        (
            ("**The question**: why it is asked now, and by whom.",
             "**La question** : pourquoi maintenant, et posée par qui."),
            ("**The facts**: what the research supports, in order of weight.",
             "**Les faits** : ce que la recherche soutient, par ordre de poids."),
            ("**The options**: what each one gives, costs and risks.",
             "**Les options** : ce que chacune apporte, coûte et risque."),
            ("**The proposal**: one choice, and the first step to take.",
             "**La proposition** : un choix, et le premier pas à faire."),
        ),
    ),
    Manner(
        _words(r"synth|summar|résum|conclu|final"),
        ("In short", "En bref"),
        ("The parts were brought together into one text that stands on its own.",
         "Les parties ont été réunies en un texte qui se suffit."),
        (
            ("**Answer**: yes, in steps; the first can be taken with what is already there.",
             "**Réponse** : oui, par étapes ; la première est possible avec ce qui existe."),
            ("**Why**: the benefits come early and the risks can be undone.",
             "**Pourquoi** : les bénéfices viennent tôt et les risques sont réversibles."),
            ("**What it takes**: one person responsible, a date, and a measure agreed beforehand.",
             "**Ce qu'il faut** : un responsable, une date, une mesure convenue d'avance."),
            ("**What to watch**: the first weeks, when habits compete with the new way.",
             "**À surveiller** : les premières semaines, où les habitudes résistent."),
        ),
    ),
)  # fmt: skip

USUAL = Manner(
    _words(r"draft|rédig|writ|écri"),
    ("Main points", "Points principaux"),
    ("This part develops the subject for a reader who has ten minutes.",
     "Cette partie développe le sujet pour un lecteur qui a dix minutes."),
    (
        ("**Context**: the subject touches several teams, each with its own measure of success.",
         "**Contexte** : le sujet touche plusieurs équipes, chacune avec sa mesure du succès."),
        ("**Analysis**: two causes explain most of what is seen, and only one can be acted on now.",
         "**Analyse** : deux causes expliquent l'essentiel, et une seule est à portée maintenant."),
        ("**Proposal**: begin small, measure for a month, then decide with figures.",
         "**Proposition** : commencer petit, mesurer un mois, puis décider sur chiffres."),
        ("**Limit**: without a baseline the effect cannot be told from chance.",
         "**Limite** : sans point de départ, l'effet ne se distingue pas du hasard."),
    ),
)  # fmt: skip
MANNERS = (*SPECIAL, USUAL)

NEXT: tuple[Pair, ...] = (
    (
        "name who decides, and agree on the one figure that will show whether it worked.",
        "nommer qui décide, et convenir du seul chiffre qui dira si cela a marché.",
    ),
    (
        "show this to someone who was not involved, and keep what they could repeat.",
        "le montrer à quelqu'un d'extérieur, et garder ce qu'il saura redire.",
    ),
    (
        "settle the open points above before anything is built on them.",
        "régler les points ouverts ci-dessus avant de bâtir dessus.",
    ),
)


def write(brief: Brief, sources: Sequence[Source] = ()) -> str:
    manner = _manner(brief.title)
    label, points = _label(brief), _points(brief, manner)
    if brief.as_json:
        return _json(brief, label, points)
    blocks = [
        f"> {label}",
        f"## {brief.title}",
        _opening(brief, manner),
        _earlier(brief),
        f"### {brief.say(*manner.heading)}\n\n" + "\n".join(f"- {point}" for point in points),
        _sources(brief, sources),
        _criteria(brief),
        _next(brief),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def told(brief: Brief) -> tuple[str, str, list[str]]:
    """Label, opening and points of the same answer, as plain texts."""
    manner = _manner(brief.title)
    return _label(brief), brief.say(*manner.opening), [point.replace("**", "") for point in _points(brief, manner)]


def next_step(brief: Brief) -> str:
    return brief.say(*brief.dice().choice(NEXT))


def _label(brief: Brief) -> str:
    return brief.say(f"{LABEL} No model was called.", f"{LABEL} Aucun modèle n'a été appelé.")


def _points(brief: Brief, manner: Manner) -> list[str]:
    left_out = brief.dice().choice(manner.points)
    return [brief.say(*point) for point in manner.points if point is not left_out]


def _json(brief: Brief, label: str, points: Sequence[str]) -> str:
    said = {"simulated": label, "title": brief.title, "points": [point.replace("**", "") for point in points]}
    taken_up = {"criteria": list(brief.criteria), "earlier": list(brief.earlier)}
    return json.dumps(said | {name: lines for name, lines in taken_up.items() if lines}, ensure_ascii=False, indent=2)


def _manner(title: str) -> Manner:
    """The one whose word comes first: in "Draft the plan" the work is drafting."""
    found = [(match.start(), index) for index, m in enumerate(MANNERS) if (match := m.words.search(title))]
    return MANNERS[min(found)[1]] if found else USUAL


def _opening(brief: Brief, manner: Manner) -> str:
    who = brief.say(f"*Written as {brief.role}.* ", f"*Rédigé en tant que {brief.role}.* ") if brief.role else ""
    return who + brief.say(*manner.opening)


def _earlier(brief: Brief) -> str:
    if not brief.earlier:
        return ""
    lead = brief.say("It builds on what came before:", "Elle s'appuie sur ce qui précède :")
    return lead + "\n\n" + "\n".join(f"- {line}" for line in brief.earlier)


def _sources(brief: Brief, sources: Sequence[Source]) -> str:
    if not sources:
        return ""
    heading = brief.say("From the company's documents", "D'après les documents de l'entreprise")
    return f"### {heading}\n\n" + "\n".join(f"- {source.sentence} [{source.n}]" for source in sources)


def _criteria(brief: Brief) -> str:
    if not brief.criteria:
        return ""
    heading = brief.say("Acceptance criteria", "Critères d'acceptation")
    return f"### {heading}\n\n" + "\n".join(f"- [x] {criterion}" for criterion in brief.criteria)


def _next(brief: Brief) -> str:
    return f"**{brief.say('Next step', 'Étape suivante')}**{brief.say(': ', ' : ')}{next_step(brief)}"
