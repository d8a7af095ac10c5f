"""What executes owned runs: one committer, the owner's memory, leases, and the life of a node."""
