"""Rate limits and quotas: how much a caller may ask for, exactly."""
