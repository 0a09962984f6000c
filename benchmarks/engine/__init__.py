"""Tokens/s through the whole platform, beside its replica called directly and llama-cpp-python."""
