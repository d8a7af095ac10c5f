"""Results are held against declared formats, in a process apart."""
