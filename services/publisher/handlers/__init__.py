"""What publisher does with each request, job and fact."""
