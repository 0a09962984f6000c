"""What the data plane costs: beside the backend alone, nginx and sglang-router, in the same run."""
