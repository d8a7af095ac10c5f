"""The local model in its own process, and others by HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chassis.testing.eventually import eventually
from contracts.errors import RetryLater
from contracts.knowledge import Embedder
from deploy.local.environment import CHECKOUT
from services.rag.adapters import local_model
from services.rag.adapters.local_model import LocalModel
from services.rag.adapters.remote_vectors import RemoteVectors
from services.rag.adapters.vectors import Vectors
from services.rag.domain.chunking import cut, embedded_text, short_title
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.questions import NoVectors
from services.rag.embedding import published
from services.rag.embedding.counting import local_window
from tests.rag.embeddings import NOBODY, Embeddings

SENTENCES = ["A ship sails with the tide.", "The boat leaves at high water.", "Taxes are due in March."]


@pytest.fixture
async def model(models: Path) -> AsyncIterator[LocalModel]:
    made = LocalModel(models, threads=1)
    yield made
    await made.close()


async def test_what_means_the_same_is_near(model: LocalModel) -> None:
    rows = await model.vectors(SENTENCES)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    near, far = rows[0] @ rows[1], rows[0] @ rows[2]
    assert near > 0.5 > 0.2 > far


async def test_the_small_weights_say_what_the_published_model_says(model: LocalModel) -> None:
    """First numbers of the published model's vector, as its own library computes it."""
    (row,) = await model.vectors(["This is an example sentence"])
    assert np.allclose(row[:4], [0.0676, 0.0635, 0.0487, 0.0793], atol=0.02)


async def test_many_who_ask_at_once_are_each_told_their_own(model: LocalModel) -> None:
    texts = [f"Text number {n} about {'tides ' * n}" for n in range(40)]
    apart = [(await model.vectors([text]))[0] for text in texts[::8]]
    together = await asyncio.gather(*(model.vectors([text, "else"]) for text in texts))
    for one, rows in zip(apart, together[::8], strict=True):
        assert rows.shape == (2, 384)
        assert np.array_equal(one, rows[0])
        assert one @ rows[1] < 0.95


async def test_who_gives_up_leaves_the_next_one_his_own_answer(model: LocalModel) -> None:
    await model.vectors(["warm"])
    asking = asyncio.create_task(model.vectors(["given up"] * 50))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await model.vectors(SENTENCES)).shape == (3, 384)


async def test_a_model_that_is_killed_is_started_anew(model: LocalModel) -> None:
    before = await model.vectors(SENTENCES)
    assert model._process is not None
    os.kill(model._process.pid, signal.SIGKILL)
    assert np.allclose(await model.vectors(SENTENCES), before)


async def test_who_asked_hears_of_a_failure_nobody_thought_of_and_the_next_is_answered(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise TypeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(model, "_exchange", fails)
        async with asyncio.timeout(30):
            with pytest.raises(TypeError, match="a defect"):
                await model.vectors(SENTENCES)
    assert (await model.vectors(SENTENCES)).shape == (3, 384)


@pytest.mark.parametrize("part", ["answers", "is built"])
async def test_the_model_writes_nothing_beside_its_own_and_reports_to_nobody(
    models: Path, tmp_path: Path, part: str
) -> None:
    """The runtime keeps an id of the machine and reports to its maker when it is merely imported, unless told not to."""
    build = "import sys, pathlib; from services.rag.embedding.graph import _make; _make(pathlib.Path(sys.argv[1]))"
    home, built = tmp_path / "home", tmp_path / "built.onnx"
    home.mkdir()
    command = {
        "answers": (*local_model.COMMAND, str(models), "1", "0"),
        "is built": (sys.executable, "-c", build, str(built)),
    }[part]
    environ = {"HOME": str(home), "PYTHONPATH": str(CHECKOUT)}  # the runtime is quiet where CI is set
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ)
    said, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert b'"ready"' in said if part == "answers" else built.exists()
    assert list(home.rglob("*")) == []


async def test_a_model_without_work_gives_its_memory_back_and_is_there_again_when_asked(models: Path) -> None:
    model = LocalModel(models, threads=1, rest=0.01)
    for _ in range(2):
        assert (await model.vectors(SENTENCES)).shape == (3, 384)
        await eventually(lambda: model._process is None, what="the end of the process")
    await model.close()


async def test_a_model_that_is_closed_while_its_process_is_being_ended_leaves_nothing_of_it(models: Path) -> None:
    """What is left of a process cannot be tidied up once its loop is closed."""
    model = LocalModel(models, threads=1, rest=0.01)
    await model.vectors(SENTENCES)
    process = model._process
    assert process is not None
    while model._process is not None:  # noqa: ASYNC110  # in the next step of the loop
        await asyncio.sleep(0)
    await model.close()
    assert process.returncode is not None


async def test_the_process_ends_with_who_started_it(models: Path, tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
from pathlib import Path
from services.rag.adapters.local_model import LocalModel
async def main():
    model = LocalModel(Path({str(models)!r}), threads=1)
    await model.vectors(["x"])
    print(model._process.pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    process = int(await parent.stdout.readline())
    await parent.wait()

    def is_gone() -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{process}/stat").exists() and " Z " in Path(f"/proc/{process}/stat").read_text()

    await eventually(is_gone, what="the end of the embedding process")


async def test_a_model_that_is_not_installed_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text('print(\'{"error": "not installed; run `make setup`"}\')')
    monkeypatch.setattr(local_model, "COMMAND", (sys.executable, "-I", str(script)))
    model = LocalModel(tmp_path, threads=1)
    for _ in range(2):
        with pytest.raises(NoVectors, match="make setup"):
            await model.vectors(["x"])
    await model.close()


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(published.NoModel, match="not the one that was published"):
        published.certain(tmp_path / "model.safetensors", published.WEIGHTS)


@pytest.mark.parametrize(
    "text", ["word " * 3000, "日本語の文章です。" * 400, "한국어 문장입니다 " * 300, "0123456789abcdef" * 400]
)
def test_no_chunk_is_over_the_window_of_the_model(text: str) -> None:
    window = local_window()
    parsed = parse_markdown(f"# 제목 {text[:60]}\n\n{text}")
    title = short_title("A title " * 30, window)
    chunks = list(cut(parsed, "A title " * 30, 2_000, window))
    sizes = window.count([embedded_text(title, one.header, parsed.text[one.start : one.stop]) for one in chunks])
    assert max(sizes) <= window.most
    assert len(chunks) < len(text) / 60


REMOTE = Embedder(provider="openai", model="text-embedding-3-small", dimension=8)
ROW = [3.0, 4.0] + [0.0] * 6


async def test_another_provider_s_vectors_come_in_order_and_of_length_one(
    server: Embeddings, remote: RemoteVectors
) -> None:
    server.rows(ROW, ROW[::-1])
    rows = await remote.vectors(REMOTE, ["a", "b"], NOBODY)
    assert np.allclose(rows, [[0.6, 0.8] + [0] * 6, [0] * 6 + [0.8, 0.6]])
    (asked,) = server.asked
    assert (asked["path"], asked["key"]) == ("/v1/embeddings", "Bearer secret")
    assert (asked["model"], asked["input"]) == (REMOTE.model, ["a", "b"])


async def test_many_texts_are_asked_in_parts(server: Embeddings, remote: RemoteVectors) -> None:
    rows = await remote.vectors(REMOTE, [f"text {'a' * n}" for n in range(150)], NOBODY)
    assert rows.shape == (150, 8)
    assert [len(one["input"]) for one in server.asked] == [64, 64, 22]


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (200, {"data": [{"index": 0, "embedding": [1, 2]}]}, NoVectors, "set the space's dimension"),
        (401, {"error": "no key"}, NoVectors, "OPENAI_BASE_URL answers 401: .*no key"),
        (200, {"rows": []}, NoVectors, "does not answer as /v1/embeddings does"),
        (429, {}, RetryLater, "429"),
        (503, {}, RetryLater, "503"),
    ],
    ids=["dimension", "key", "shape", "busy", "away"],
)
async def test_a_provider_that_gives_no_vectors_says_why(
    server: Embeddings, remote: RemoteVectors, status: int, body: Any, error: type[Exception], words: str
) -> None:
    server.script(status, body, **{"retry-after": "3"})
    with pytest.raises(error, match=words) as caught:
        await remote.vectors(REMOTE, ["a"], NOBODY)
    assert not isinstance(caught.value, RetryLater) or caught.value.delay == 3


async def test_a_server_that_is_not_there_is_named(remote: RemoteVectors, server: Embeddings) -> None:
    await server.__aexit__()
    with pytest.raises(NoVectors, match="OPENAI_BASE_URL does not answer"):
        await remote.vectors(REMOTE, ["a"], NOBODY)


async def test_a_question_is_asked_once_and_a_busy_provider_is_done_without(
    server: Embeddings, remote: RemoteVectors
) -> None:
    nobody = LocalModel(Path("nowhere"), threads=1)
    vectors = Vectors(nobody, nobody, remote, keep=10)
    assert await vectors.vector(REMOTE, "When is high water?", NOBODY) == await vectors.vector(
        REMOTE, "When is  high water?", NOBODY
    )
    assert len(server.asked) == 1
    server.script(429)
    with pytest.raises(NoVectors, match="429"):
        await vectors.vector(REMOTE, "And low water?", NOBODY)


async def test_a_question_that_comes_when_none_is_bought_any_more_is_done_without(
    server: Embeddings, remote: RemoteVectors
) -> None:
    """Nobody would be there to settle it."""
    nobody = LocalModel(Path("nowhere"), threads=1)
    vectors = Vectors(nobody, nobody, remote, keep=10)
    await vectors.stop_buying()
    with pytest.raises(NoVectors, match="the service is stopping"):
        await vectors.vector(REMOTE, "When is high water?", NOBODY)
    assert server.asked == []


async def test_a_space_that_asks_for_another_local_model_is_told_which_there_is(
    models: Path, remote: RemoteVectors
) -> None:
    vectors = Vectors(LocalModel(models, threads=1), LocalModel(models, threads=1), remote, keep=1)
    with pytest.raises(NoVectors, match="the local model is all-MiniLM-L6-v2"):
        await vectors.vector(Embedder(model="bge-small"), "x", NOBODY)


async def test_a_french_question_is_moved_to_where_the_model_knows_what_is_meant(
    models: Path, remote: RemoteVectors
) -> None:
    questions = LocalModel(models, threads=1)
    vectors = Vectors(questions, questions, remote, keep=10)
    same = "Quelle est la capitale de la Norvège ?", "What is the capital of Norway?"
    as_asked = await questions.vectors(same)
    french, english = [np.array(await vectors.vector(Embedder(), each, NOBODY)) for each in same]
    assert np.isclose(np.linalg.norm(french), 1, atol=1e-5)
    assert french @ english > as_asked[0] @ as_asked[1] + 0.04
    assert np.allclose(english, as_asked[1], atol=1e-6)
    await vectors.close()


async def test_a_model_that_is_woken_starts_before_anybody_asks_and_keeps_to_itself_why_it_cannot(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    woken, missing = LocalModel(models, threads=1), LocalModel(Path("/dev/null/nowhere"), threads=1)
    for each in (woken, missing):
        each.awake()
    await eventually(lambda: woken._process is not None, what="the process")
    await eventually(lambda: missing._worker is None or not missing._waiting, what="the end of the attempt")
    for each in (woken, missing):
        await each.close()
    gc.collect()
    assert "never retrieved" not in caplog.text
