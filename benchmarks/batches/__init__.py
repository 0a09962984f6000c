"""Batches: how much of the engine they use, and whether any of them survives being killed."""
