"""Whether the platform's memory stays flat over very many requests."""
