"""What important requests notice of a pool that is asked for twice of what it can serve."""
