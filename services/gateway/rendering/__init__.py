"""Documents become pages, in a process apart."""
