"""The fake server itself, as a process: other suites start it beside real services and steer it by prompts."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "chassis.testing.fake_openai", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removesuffix("/v1")
        process.terminate()


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=60) as answer:
        return json.load(answer)


def chat(url: str, prompt: str) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return ask(f"{url}/v1/chat/completions", "POST", body)["choices"][0]["message"]["content"]


def status_of(url: str, method: str, body: Any) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(url, method, body)
    caught.value.close()
    return caught.value.code


def test_it_answers_lists_models_and_keeps_a_ledger(url: str) -> None:
    ask(f"{url}/ledger", "DELETE")
    assert chat(url, "say:hello there") == "hello there"
    assert ask(f"{url}/v1/models")["data"][0]["id"] == "fake-1"
    (call,) = ask(f"{url}/ledger")
    assert (call["user"], call["outcome"], call["status"]) == ("say:hello there", "done", 200)
    assert ask(f"{url}/ledger?marked=hello%20there") == [call]
    assert ask(f"{url}/ledger?marked=nobody") == []


def test_magic_words_fail_the_first_calls_of_a_prompt(url: str) -> None:
    prompt = "fail:429:2 retry-after:0 say:at last"
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as caught:
            chat(url, prompt)
        assert caught.value.headers["retry-after"] == "0"
        caught.value.close()
    assert chat(url, prompt) == "at last"


def test_it_can_be_scripted_over_http(url: str) -> None:
    assert ask(f"{url}/script", "POST", [{"text": "scripted"}]) == {"scripted": 1}
    assert [chat(url, "say:mine"), chat(url, "say:mine")] == ["scripted", "mine"]
    assert status_of(f"{url}/script", "POST", [{"txt": "?"}]) == 422


def test_a_request_that_makes_no_sense_is_refused(url: str) -> None:
    assert status_of(f"{url}/v1/chat/completions", "POST", {"model": "m"}) == 400
    assert status_of(f"{url}/v1/nothing", "POST", {}) == 404
