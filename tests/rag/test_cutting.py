"""Cutting long texts in the process of its own: the same passages, in parts, and a word when it takes too much."""

from __future__ import annotations

import asyncio
import os
import sys
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest

from chassis.confined_worker import Limit
from chassis.testing.eventually import eventually
from contracts.knowledge import Language
from services.rag.adapters import cutter
from services.rag.adapters.cutter import COMMAND, PART, Cutter
from services.rag.domain.kinds import SHORT, Unreadable
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed
from services.rag.domain.passages import Manner, Passage, passages
from services.rag.embedding.counting import window_of

MANNER = Manner("Les marées – tides", Language.FR, 800, "local")
LINES = "".join(f"# Marée {n}\n\nÀ {n} h l\u2019eau est haute. {'Elle revient. ' * (n % 90)}\n" for n in range(600))
TEXTS = {"lines": LINES, "letters": "a\n" * SHORT, "no spaces": "日本語" * (SHORT // 9), "a word": "x" * (2 * SHORT)}


def written(text: str, room: Path) -> Path:
    file = room / "text.json"
    file.write_bytes(Parsed(text, parse_markdown(text).headings, (0, 100_000)).as_json())
    assert file.stat().st_size > SHORT
    return file


async def complaint(room: Path) -> str:
    with pytest.raises(Unreadable) as caught:
        await anext(Cutter().passages(written(LINES, room), MANNER, room))
    return str(caught.value)


@pytest.mark.parametrize("provider", ["local", "openai"])
@pytest.mark.parametrize("what", list(TEXTS))
async def test_a_long_text_is_cut_as_a_short_one_is(what: str, provider: str, tmp_path: Path) -> None:
    manner, file = MANNER._replace(provider=provider), written(TEXTS[what], tmp_path)
    parts = [part async for part in Cutter().passages(file, manner, tmp_path)]
    here = list(passages(Parsed.of_json(file.read_bytes()), manner, window_of(provider)))
    assert [one for part in parts for one in part] == here
    assert {len(part) for part in parts[:-1]} <= {PART}


async def test_the_passages_of_a_long_text_are_never_all_in_memory(tmp_path: Path) -> None:
    parts = Cutter().passages(written(LINES * 4, tmp_path), MANNER, tmp_path)
    await anext(parts)  # the process has come and gone
    tracemalloc.start()
    try:
        assert len([None async for _ in parts]) > 20
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < (tmp_path / "passages").stat().st_size / 3


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (Limit.TIME, "takes too long; split the document"),
        (Limit.MEMORY, "more memory than it may; split the document"),
        (Limit.SIZE, "more passages than are taken of one document; split it"),
    ],
)
async def test_what_cutting_had_too_little_of_is_told_with_the_way_out(
    limit: Limit, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cutter.py").write_text(f'print(\'{{"over": "{limit}"}}\')')
    monkeypatch.setattr(cutter, "COMMAND", (sys.executable, "-I", str(tmp_path / "cutter.py")))
    assert says in await complaint(tmp_path)


async def test_who_cuts_is_bounded_before_it_looks_at_a_text_and_lets_others_go_first(tmp_path: Path) -> None:
    bounds = {
        psutil.RLIMIT_AS: (1 << 30, 1 << 30),
        psutil.RLIMIT_CPU: (120, 121),
        psutil.RLIMIT_FSIZE: (512 << 20, 512 << 20),
        psutil.RLIMIT_NPROC: (0, 0),
    }
    os.mkfifo(tmp_path / "endless")
    where = str(tmp_path / "manner.json"), str(tmp_path / "endless"), str(tmp_path / "passages")
    (tmp_path / "manner.json").write_bytes(MANNER.as_json())
    process = await asyncio.create_subprocess_exec(*COMMAND, *where, env={}, start_new_session=True)
    found = psutil.Process(process.pid)
    await eventually(lambda: {what: found.rlimit(what) for what in bounds} == bounds, what="its limits")
    assert found.nice() > psutil.Process().nice()
    assert found.num_threads() == 1
    process.kill()
    await process.wait()


async def test_a_long_text_does_not_make_a_short_one_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cutter.py").write_text("import signal; signal.pause()")
    monkeypatch.setattr(cutter, "COMMAND", (sys.executable, "-I", str(tmp_path / "cutter.py")))
    cutting, file = Cutter(), written(LINES, tmp_path)

    async def first(of: AsyncGenerator[list[Passage]]) -> list[Passage]:
        return await anext(of)

    long = [asyncio.create_task(first(cutting.passages(file, MANNER, tmp_path))) for _ in range(cutter.AT_ONCE + 1)]
    await eventually(cutting._apart.locked, what="as many as there may be")
    [only] = await anext(cutting.passages(Parsed("Two high waters a day."), MANNER, tmp_path))
    assert only.body == "Two high waters a day."
    for each in long:
        each.cancel()
    await asyncio.gather(*long, return_exceptions=True)
