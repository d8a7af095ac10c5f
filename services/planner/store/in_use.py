"""The SQL of what retention spares, however old it is."""

from __future__ import annotations

#: an order whose run is alive: repeated, it is to be answered as it was
ORDERS_A_LIVING_RUN = """
    exists (select from task_runs where run_id = (commands.answer->>'run_id')::uuid
            and state not in ('refused', 'completed', 'failed', 'canceled'))
"""
#: who asks how a task came to be planned or started, or what became of an order to it, asks for its latest job
JOB_OF_A_TASK = "exists (select from tasks where job_id = jobs.id or control_job_id = jobs.id)"
