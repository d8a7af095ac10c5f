"""May this order be given to a run in this state, and what does the order make people want of it?"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import Code, Rejection
from contracts.executor import RunAction, RunStatus, Wanted

#: in which states an order makes sense; repeating one that took effect is no mistake
LEGAL: Mapping[RunAction, frozenset[RunStatus]] = {
    RunAction.PAUSE: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED}),
    RunAction.RESUME: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED}),
    RunAction.CANCEL: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.CANCELED}),
    RunAction.SKIP_FAILED_AND_RESUME: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED}),
}

ASKED_FOR: Mapping[RunAction, RunStatus] = {
    RunAction.PAUSE: RunStatus.PAUSED,
    RunAction.RESUME: RunStatus.RUNNING,
    RunAction.CANCEL: RunStatus.CANCELED,
    RunAction.SKIP_FAILED_AND_RESUME: RunStatus.RUNNING,
}

WANTS: Mapping[RunAction, Wanted] = {
    RunAction.PAUSE: Wanted.PAUSE,
    RunAction.RESUME: Wanted.RUN,
    RunAction.CANCEL: Wanted.CANCEL,
    RunAction.SKIP_FAILED_AND_RESUME: Wanted.RUN,
}


def judge(action: RunAction, status: RunStatus, wanted: Wanted, failed_nodes: int) -> bool:
    """Whether the run's owner must be told; False when the order has long been given. Raises Rejection."""
    under_way = wanted is Wanted.CANCEL and action is not RunAction.CANCEL
    if status not in LEGAL[action] or under_way:
        state = "being canceled" if under_way and status is not RunStatus.CANCELED else status
        raise Rejection(
            Code.ILLEGAL_STATE,
            f"the run is {state}; {action} is possible when it is {' or '.join(sorted(LEGAL[action]))}",
            state=status,
            legal=sorted(LEGAL[action]),
        )
    if action is RunAction.SKIP_FAILED_AND_RESUME:
        if not failed_nodes:
            raise Rejection(Code.NOTHING_TO_SKIP, "no node of this run has failed", state=status)
        return True
    return wanted is not WANTS[action]
