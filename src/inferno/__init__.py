"""Inferno: an inference platform in one process."""
