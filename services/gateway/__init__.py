"""Gateway: the HTTP front of the house.

Owns     API keys and roles, the timeline (the feed of all facts) and its streams to watchers
Accepts  HTTP requests, which it turns into requests to the owner of the answer; every fact (`evt.>`)
Emits    no fact yet; rings `sig.gateway.timeline` when the timeline has grown
Never    keeps a copy of somebody else's aggregate, or decides what its owner decides
"""
