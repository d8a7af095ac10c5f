"""What the page says of search: targets judged against the study of the same minutes, and who was left out."""

from __future__ import annotations

import pytest

from bench import page
from bench.knowledge import measuring
from bench.knowledge.rivals import OURS, Scoped, Scores
from bench.knowledge.section import NDCG, SQL, reached, targets
from bench.knowledge.speed import Recall, Speed
from bench.retrieval.metrics import Quality
from bench.verdicts import Verdict, table


def scores(ndcg: float, filling: float = 10.0) -> Scores:
    quality = {name: Quality(ndcg + at / 100, 0.9, 1.0) for at, name in enumerate(NDCG)}
    return Scores(quality, [0.02, 0.03, 0.04], documents=600, rows=900, filling=filling)


@pytest.fixture
def found() -> measuring.Found:
    return measuring.Found(
        measuring.Effort(),
        scores={OURS: scores(0.7), "Chroma, defaults": scores(0.5), "LangChain": scores(0.6)},
        speeds={name: Speed([0.011], [0.01], [0.009], {"exact"}) for name in SQL},
        recalls={".5 %": Recall(1.0, [0.001]), "5 %": Recall(0.999, [0.004]), "50 %": Recall(0.975, [0.02])},
        scoped={
            "Chroma, defaults": {name: Scoped([0.98], [0.07]) for name in SQL},
            "LangChain": {name: Scoped([1.0], [0.05]) for name in SQL},
            "LangChain, with its HNSW index": {name: Scoped([0.05], [0.001]) for name in SQL},
        },
        loaded={"Chroma, defaults": 2000.0},
        answers=[0.03] * 19 + [0.05],
        papers=[1.2, 1.6],
        left_out=["other: it is not there"],
    )


def test_a_figure_is_judged_by_its_aim_and_else_by_what_the_study_took(found: measuring.Found) -> None:
    aims, got = targets(found), reached(found)
    assert got["sql .5 %"] == pytest.approx(10.0)
    assert aims["sql .5 %"].verdict(got["sql .5 %"]) is Verdict.FLOOR, "1.3 times 9 ms, and the aim is 4"
    assert aims["sql 5 %"].verdict(got["sql 5 %"]) is Verdict.AIM
    assert aims["study 5 %"].verdict(got["study 5 %"]) is Verdict.FLOOR
    found.speeds[".5 %"].study[0] = found.speeds["5 %"].study[0] = 0.007
    aims, got = targets(found), reached(found)
    assert aims["sql .5 %"].verdict(got["sql .5 %"]) is Verdict.MISSED
    assert aims["sql 5 %"].verdict(got["sql 5 %"]) is Verdict.AIM
    assert aims["study 5 %"].verdict(got["study 5 %"]) is Verdict.MISSED, "whatever the aim says"


def test_a_lead_is_over_the_best_peer_and_in_scopes_over_those_that_approximate(found: measuring.Found) -> None:
    got = reached(found)
    assert got["better"] == pytest.approx(0.1)
    assert got["better scope"] == pytest.approx(0.019), "who compares all misses nothing, and is no peer in this"
    assert (got["small"], got["large"], got["in"], got["http"]) == (0.999, 0.975, 90.0, 50.0)
    assert got["paper"] == 1.6, "the slowest"
    assert got.keys() == targets(found).keys()


def test_the_page_has_all_tables_and_says_who_was_left_out(found: measuring.Found) -> None:
    shown = page.text(page.Measured(search=found, left_out=["demo: no"]), "1, 2")
    assert "| Chroma, defaults | 0.500 / 0.900 | 0.510 / 0.900 | 0.520 / 0.900 | 30 / 40 ms | 60 |" in shown
    assert "| Chroma, defaults | 0.980 · 70.0 ms | 0.980 · 70.0 ms | 0.980 · 70.0 ms | 2,000 |" in shown
    assert "| scope 5 % | 10.0 / 10.0 ms | 9.0 / 9.0 ms (1.11×) | 11.0 / 11.0 ms | exact | 0.999 |" in shown
    assert "| nDCG@10 cranfield, over HTTP | ≥ 0.420 | ≥ 0.410 | 0.700 | aim reached |" in shown
    assert "- Left out: other: it is not there." in shown
    assert "Left out: demo: no." in shown


def test_a_peer_that_failed_on_the_way_has_no_row_and_no_part_in_the_lead(found: measuring.Found) -> None:
    del found.scores["LangChain"].quality["cnil-fr"]
    assert reached(found)["better"] == pytest.approx(0.2)
    assert "| LangChain | 0.6" not in page.text(page.Measured(search=found), "1, 2")


def test_what_was_not_measured_is_not_judged(found: measuring.Found) -> None:
    nothing = measuring.Found(measuring.QUICK)
    assert reached(nothing) == {}
    assert set(targets(nothing)) == set(targets(found))
    assert "| not measured |" in table(reached(nothing), targets(nothing))
