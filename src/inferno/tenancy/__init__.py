"""Users and their keys: who may use the platform."""
