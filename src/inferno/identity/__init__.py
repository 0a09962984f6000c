"""Credentials and who they stand for."""
