"""What feedback does with each request, job and fact."""
