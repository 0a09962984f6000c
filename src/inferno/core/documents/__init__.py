"""MongoDB's language over JSON documents: filters, updates, sort and projection, as pure functions.

This is the one definition of what a query means. A compiler to SQL may push down what it can of a
filter, and asks `matching.matches` about the rest.

    limits.py        how deep, long and many anything may be
    values.py        what a document may hold; equality and order of values; instants
    literals.py      operands as they are written: extended JSON, checked
    patterns.py      regular expressions, bounded in time
    paths.py         dotted paths, and what they reach
    tree.py          the types that a filter is parsed into
    filters.py       `parse_filter`
    expressions.py   `$expr`: parsed and evaluated
    matching.py      `matches`
    weight.py        how much work a filter is
    update_tree.py   the types that an update is parsed into
    updates.py       `parse_update`
    applying.py      `apply_update`
    arrays.py        what `$push`, `$pull` and their like make of an array
    positions.py     `$`, `$[]` and `$[identifier]` made into indices
    projections.py   `parse_projection`, `project`
    sorting.py       `parse_sort`, `sorted_documents`, `sort_key`

Documents are plain JSON: `None`, `bool`, `int`, `float`, `str`, `list` and `dict`. Dates are text
in RFC 3339. Nothing here reads a clock, a file or a setting. docs/reference/query-language.md says
where an answer differs from MongoDB's.
"""
