"""What the data plane costs: beside the backend alone and other gateways, in the same run."""
