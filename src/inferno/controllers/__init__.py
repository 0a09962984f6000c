"""Level-triggered loops that make desired state real; plans are pure functions."""
