"""The executor owns runs, their nodes and attempts, and every model call made for them.

Accepts: rpc.executor.run.* (start, get, list, control, waiting, runtime), rpc.executor.node.* (get, list, control,
    review_case, rerun, attempts, held), rpc.executor.review.book,
    rpc.executor.llm.describe, rpc.executor.provider.list, rpc.executor.budget.* (list, set, remove),
    rpc.executor.spend.* (reserve, settle).
Emits: executor.run.*, executor.node.*, executor.provider.* and executor.budget.* (docs/messages.md has them all);
    live: executor.node.token.
Consumes: feedback.verdict.given; like people's wishes it becomes a row of `signals`, for the run's owner.
Never: moves a run it does not own by lease, holds a message while a model works, or starts a node before what it
    depends on is committed.
"""
