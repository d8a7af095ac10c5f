"""One file per group of commands. Their heavy imports are made when a command runs: `--help` answers at once."""
