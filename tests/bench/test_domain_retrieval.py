"""The ruler of `make eval`: figures that are known, and collections as they lie on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.retrieval.__main__ import Result, _judged
from bench.retrieval.collection import is_held_out, read, without_accents
from bench.retrieval.metrics import Quality, ndcg, quality, recall

RELEVANT = {"a": 3, "b": 1, "c": 0}


def test_ndcg_is_one_for_the_best_order_and_less_for_any_other() -> None:
    assert ndcg(["a", "b", "x"], RELEVANT) == 1.0
    swapped = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert ndcg(["b", "a"], RELEVANT) == pytest.approx(swapped)
    assert ndcg(["c", "x"], RELEVANT) == 0.0
    assert ndcg(["x"] * 10 + ["a"], RELEVANT) == 0.0, "what comes after the tenth counts no more"
    assert ndcg(["a"], {}) == 0.0


def test_recall_counts_what_is_relevant_and_each_question_counts_the_same() -> None:
    assert (recall(["b", "c"], RELEVANT, 10), recall(["x", "a"], RELEVANT, 1)) == (0.5, 0.0)
    found = quality({"1": ["a", "b"], "2": ["x"], "3": ["y"]}, {"1": RELEVANT, "2": {"a": 1}, "3": {"y": 0}})
    assert (found.ndcg_10, found.recall_10, found.recall_100) == (0.5, 0.5, 0.5), "3 has no answer at all"


def test_a_collection_is_read_with_the_questions_that_have_answers(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"lang": "fr"}))
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "Marées", "text": "Deux par jour."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "combien ?"}\n{"_id": "q2", "text": "où ?"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    found = read(tmp_path)
    assert (found.language, found.questions, found.relevant["q1"]) == ("fr", {"q1": "combien ?"}, {"d1": 2})
    assert found.documents[0].title == "Marées"


def test_a_fifth_is_held_out_always_the_same() -> None:
    held = [f"q{n}" for n in range(1000) if is_held_out(f"q{n}")]
    assert 150 < len(held) < 250
    assert held[:3] == [f"q{n}" for n in range(1000) if is_held_out(f"q{n}")][:3]
    assert without_accents("Où est la forêt ?") == "Ou est la foret ?"


def test_a_missed_floor_is_said_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    good, less = Quality(0.71, 0.9, 1.0), Quality(0.70, 0.9, 1.0)
    assert _judged({"cnil-fr": Result(good, good, good, good)}) == 0
    assert _judged({"cnil-fr": Result(good, good, good, less)}) == 1
    assert "0.010 is lost without accents" in capsys.readouterr().out
    assert _judged({"piaf-fr": Result(good, good, good, None)}) == 1
    assert "piaf-fr: nDCG@10 0.710 is below 0.83" in capsys.readouterr().out
