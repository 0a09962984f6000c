"""The registry: its queries and updates over many entries."""
