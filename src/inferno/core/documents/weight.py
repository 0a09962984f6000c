"""How much work a filter is, before anybody has done it."""

from __future__ import annotations

from inferno.core.documents.expressions import calls_in
from inferno.core.documents.tree import (
    AnyOf,
    Both,
    ElementMatches,
    ElementPasses,
    Every,
    Expression,
    Field,
    Filter,
    Matches,
    NoneOf,
    Not,
    OneOf,
    Test,
    Text,
)

OF_TEXT = 10
"""All text of a document is cut into words for it."""


def weight(filter: Filter) -> int:  # noqa: A002
    """Return how much a filter asks of each value of a document: about one for each test.

    A pattern counts as many as it has instructions: so many steps RE2 may need for a character.
    """
    match filter:
        case Field(_, test):
            return _of_test(test)
        case Every(clauses) | AnyOf(clauses) | NoneOf(clauses):
            return 1 + sum(map(weight, clauses))
        case Expression(operand):
            return 1 + calls_in(operand)
        case Text():
            return OF_TEXT


def _of_test(test: Test) -> int:
    match test:
        case Not(inner) | ElementPasses(inner):
            return 1 + _of_test(inner)
        case Both(tests):
            return sum(map(_of_test, tests))
        case ElementMatches(wanted):
            return 1 + weight(wanted)
        case Matches(pattern):
            return pattern.size
        case OneOf():
            return 1 + sum(pattern.size for pattern in test.patterns)
    return 1
