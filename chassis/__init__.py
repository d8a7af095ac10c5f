"""What every service stands on: bus, outbox, jobs, pool, telemetry. Plumbing without one domain word."""
