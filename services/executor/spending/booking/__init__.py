"""The books of nodes: what others have called models for, on behalf of one of their attempts."""
