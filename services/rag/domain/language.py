"""In which language a question is put, and what all questions in it have in common, which a model of another language takes
for what they are about."""

from __future__ import annotations

import re
from collections.abc import Mapping

from contracts.knowledge import Language
from services.rag.domain.analysis import STOP, words

APART = re.compile(r"[ '’]")

#: the same questions in each language, which ask for nothing in particular: the mean of their vectors is the language's own
NOTHING_IN_PARTICULAR: Mapping[Language, tuple[str, ...]] = {
    Language.EN: (
        "What is it?",
        "What is the name?",
        "What is the date?",
        "Who is it?",
        "Who has done that?",
        "Where is it?",
        "When did it happen?",
        "How many are there?",
        "Why is it so?",
        "How to do it?",
        "What is it called?",
        "In which year?",
        "What are the main ones?",
        "What should I do?",
        "Can I do it?",
        "Is it allowed?",
        "What is it about?",
        "In which country?",
        "By whom?",
        "What is it for?",
    ),
    Language.FR: (
        "Qu'est-ce que c'est ?",
        "Quel est le nom ?",
        "Quelle est la date ?",
        "Qui est-ce ?",
        "Qui a fait cela ?",
        "Où est-ce que cela se trouve ?",
        "Quand est-ce que cela a eu lieu ?",
        "Combien y en a-t-il ?",
        "Pourquoi cela est-il ainsi ?",
        "Comment faire ?",
        "Comment cela s'appelle-t-il ?",
        "En quelle année ?",
        "Quels sont les principaux ?",
        "Que dois-je faire ?",
        "Est-ce que je peux ?",
        "A-t-on le droit de le faire ?",
        "De quoi s'agit-il ?",
        "Dans quel pays ?",
        "Par qui ?",
        "À quoi cela sert-il ?",
    ),
}


def language_of(question: str) -> Language | None:
    """By its small words; None where they do not tell."""
    said = APART.split(words(question))
    english = sum(word in STOP[Language.EN] for word in said)
    french = sum(word in STOP[Language.FR] for word in said)
    if english == french:
        return None
    return Language.EN if english > french else Language.FR
