"""Chroma as it comes: a persistent client, its default index, its default embedding function."""
