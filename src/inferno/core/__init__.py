"""The vocabulary of Inferno: errors, resources and inference types.

No I/O and no framework here: only the standard library and msgspec.
"""
