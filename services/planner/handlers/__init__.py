"""What the planner does with each request, job and fact."""
