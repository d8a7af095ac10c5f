"""The systems we are measured against: each with a driver that runs in a locked environment of its own."""
