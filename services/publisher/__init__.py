"""Publisher owns what was delivered: artifacts, previews with their versions, pins and shared links, and their retention.

Accepts: rpc.publisher.artifact.* (list, count, get, add, set_visibility, remove, delivered), rpc.publisher.preview.*
    (submit, list, get, pin, unpin, compare), rpc.publisher.share.* (create, list, revoke), rpc.publisher.retention.*
    (sweep, removals), rpc.publisher.tool.* (write_file, publish_preview, add_link).
Emits: publisher.artifact.*, publisher.preview.*.
Consumes: executor.node.completed and executor.node.reused: each becomes a job that collects what the attempt has delivered.
Serves: previews and shared links over HTTP on an origin of their own.
Never: deletes an object that it did not put or that something names, or unpacks what was sent in its own process.
"""
