"""How deep, long and many anything may be.

Bodies are bounded before they come here; these bounds keep what is small and hostile from costing
more than its size suggests.
"""

from __future__ import annotations

DEPTH = 100
"""Levels of objects and arrays, in documents, filters and updates: as many as MongoDB takes."""

SIZE = 16 * 1024 * 1024
"""Bytes of a document, counted roughly: as many as MongoDB takes."""

PATH_LENGTH = 1024
"""Characters of a dotted path."""

PATH_PARTS = 100
"""Parts of a dotted path: none can reach deeper than a document goes."""

CLAUSES = 2000
"""Tests in one filter, with the operators of `$expr` and the values of `$all`."""

SEARCH_LENGTH = 1000
"""Characters of `$search`."""

PATTERN_LENGTH = 1000
"""Characters of a regular expression."""

PATTERN_MEMORY = 1 << 20
"""Bytes for one compiled regular expression; RE2 refuses what needs more."""

PATTERNS = 32
"""Regular expressions in one filter."""

PATTERN_INSTRUCTIONS = 10_000
"""What they may be compiled to, all together: each may be a step for each character of a text."""

CHANGES = 1000
"""Paths that one update may name."""

PADDING = 1000
"""Nulls that setting an element beyond the end of an array may add."""

SORT_KEYS = 32
"""Fields to sort by, as many as MongoDB takes."""

PLACES = 100_000
"""Values of one document that one update may change, once `$[]` stands for all elements."""
