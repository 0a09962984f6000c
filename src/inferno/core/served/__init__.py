"""The kinds of seed 002 as their API versions show them: shapes and conversions. No I/O.

What is stored can say all that any version can. A write through a version that lacks a field
leaves that field as it was.
"""
