"""The management API on the control plane."""
