"""The HTTP kit that all APIs share: request ids, bodies, errors, streams."""
