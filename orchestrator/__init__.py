"""The predecessor's name for the command line, kept for its users' scripts."""
