"""The executor owns runs, their nodes and attempts, and every model call made for them.

Accepts: rpc.executor.run.* (start, get, list, control, waiting, runtime), rpc.executor.node.* (get, list, control),
    rpc.executor.llm.describe, rpc.executor.provider.list.
Emits: executor.run.*, executor.node.* and executor.provider.* (docs/messages.md has them all); live: executor.node.token.
Consumes: nothing; people's wishes arrive as rows of `signals`, written by the handlers of orders.
Never: moves a run it does not own by lease, holds a message while a model works, or starts a node before what it
    depends on is committed.
"""
