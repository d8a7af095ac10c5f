"""The executor owns runs, their nodes and attempts, and every model call made for them.

Accepts: rpc.executor.run.* (start, get, list, control), rpc.executor.node.* (get, list), rpc.executor.llm.describe.
Emits: executor.run.* (queued, started, paused, resumed, completed, failed, canceled) and
    executor.node.* (started, completed, retried, failed, skipped, canceled); live: executor.node.token.
Consumes: nothing; people's wishes arrive as rows of `signals`, written by the handlers of orders.
Never: moves a run it does not own by lease, holds a message while a model works, or starts a node before what it
    depends on is committed.
"""
