"""The model server of the chaos stacks: `python -m tests.chaos.model_server`. Authors grade their own results in words, a
judge reads the grade.

`say:grade:35 …` makes a result that the judge gives 35, and that names the call it came from; `learns:90` is its grade once
its author is told what was wrong; `ponders:0.3` is how long the judge takes.
"""

from __future__ import annotations

import asyncio
import re

from chassis.testing.fake_answers import Call
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI

JUDGE = "fake-2"
ENOUGH = 60  # points; as FEEDBACK_CRITICAL_THRESHOLD has it
GRADE = re.compile(r"\bgrade:(\d+)")
RESULT = re.compile(r"\bgrade:(\d+)[^\n#]*#(\d+)")
NUMBER = re.compile(r" #\d+$")
LEARNS = re.compile(r"\blearns:(\d+)")
PONDERS = re.compile(r"\bponders:([\d.]+)")
CRITICIZED = "## What a review found wrong"


class ModelServer(FakeOpenAI):
    def _behaviour(self, call: Call) -> Behaviour:
        if call.model == JUDGE:
            return _judged(call.user)
        behaviour = super()._behaviour(call)
        if behaviour.text is None or not GRADE.search(behaviour.text):
            return behaviour
        return behaviour.model_copy(update={"text": f"{_learned(behaviour.text, call.user)} #{call.number}"})


def judged_result(text: str) -> tuple[int, int]:
    """The grade of the last result that a text holds, and the number of the call it came from; -1 when there is none."""
    found = RESULT.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else (-1, -1)


def unnumbered(text: str) -> str:
    """What the author was told to say, without the number of the call."""
    return NUMBER.sub("", text) if RESULT.search(text) else text


def _learned(text: str, prompt: str) -> str:
    better = LEARNS.search(prompt) if CRITICIZED in prompt else None
    return GRADE.sub(f"grade:{better[1]}", text) if better else text


def _judged(prompt: str) -> Behaviour:
    grade, _ = judged_result(prompt)
    ponders, decision = PONDERS.search(prompt), "accept" if grade >= ENOUGH else "revise"
    said = {"overall_score": max(0, grade), "decision": decision, "comment": f"I give it {grade}."}
    return Behaviour(output=said, first_token_s=float(ponders[1]) if ponders else 0)


async def _main() -> None:
    async with ModelServer() as server:
        print(server.base_url, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
