"""Which replica a request goes to: pickers of ours and sglang-router, in the same run."""
