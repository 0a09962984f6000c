"""The version, read by the build and by `inferno --version`."""

__version__ = "0.1.0"
