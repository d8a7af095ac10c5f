"""One class per part of rag: its requests and jobs."""
