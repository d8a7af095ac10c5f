"""The figures of search: a library of 200,000 chunks, the way through HTTP, and what people would take instead."""
