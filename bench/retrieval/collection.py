"""Collections for evaluation: documents, questions, and which document answers which; read where they lie."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

NAMES = ("cranfield", "piaf-fr", "cnil-fr")
HELD_OUT = 5  # one question of so many is told apart: whoever chooses weights must leave it out


@dataclass(frozen=True, slots=True)
class Text:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Collection:
    """`relevant` maps a question's id to its documents and how well each answers."""

    name: str
    language: str
    documents: tuple[Text, ...]
    questions: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]


def read(folder: Path) -> Collection:
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            relevant[row["query-id"]][row["corpus-id"]] = int(row["score"])
    lines = (json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines())
    asked = (json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines())
    return Collection(
        name=folder.name,
        language=str(json.loads((folder / "meta.json").read_text())["lang"]),
        documents=tuple(Text(each["_id"], each.get("title", ""), each.get("text", "")) for each in lines),
        questions={each["_id"]: each["text"] for each in asked if relevant.get(each["_id"])},
        relevant=relevant,
    )


def is_held_out(question_id: str) -> bool:
    return crc32(question_id.encode()) % HELD_OUT == 0


def without_accents(text: str) -> str:
    """As many people type French."""
    return "".join(each for each in unicodedata.normalize("NFD", text) if not unicodedata.combining(each))
