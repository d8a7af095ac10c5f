"""Serves previews to browsers: plain ASGI on a port of its own, from manifests and the object store."""
