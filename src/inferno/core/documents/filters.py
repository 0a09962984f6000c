"""Parses filters: JSON as callers write it, into the tree of `tree.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from inferno.core.documents import limits
from inferno.core.documents.expressions import calls_in, parse_expression
from inferno.core.documents.literals import check_nesting, is_date, is_extended, is_literal, literal
from inferno.core.documents.paths import parse_field_path
from inferno.core.documents.patterns import Pattern, parse_pattern
from inferno.core.documents.tree import (
    AnyOf,
    Both,
    Compare,
    Comparison,
    ElementMatches,
    ElementPasses,
    Every,
    Exists,
    Expression,
    Field,
    Filter,
    HasSize,
    HasType,
    Matches,
    Modulo,
    NoneOf,
    Not,
    OneOf,
    Path,
    Test,
    Text,
)
from inferno.core.documents.values import (
    identities,
    instant_of,
    is_64_bit,
    is_number,
    is_whole,
    joined,
)
from inferno.core.errors import InvalidRequest

REFUSED = {
    "$where": "it runs code",
    "$function": "it runs code",
    "$accumulator": "it runs code",
    "$jsonSchema": "say it with $type, $exists and comparisons",
    "$near": "there are no places here",
    "$nearSphere": "there are no places here",
    "$geoWithin": "there are no places here",
    "$geoIntersects": "there are no places here",
    "$bitsAllSet": "there are no bit fields here",
    "$bitsAllClear": "there are no bit fields here",
    "$bitsAnySet": "there are no bit fields here",
    "$bitsAnyClear": "there are no bit fields here",
    "$sampleRate": "answers do not depend on chance",
}
"""Operators of MongoDB that are refused, and why."""

TYPES: dict[object, str] = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    8: "bool",
    9: "date",
    10: "null",
    16: "int",
    18: "long",
    "double": "double",
    "string": "string",
    "object": "object",
    "array": "array",
    "bool": "bool",
    "date": "date",
    "null": "null",
    "int": "int",
    "long": "long",
    "number": "number",
}
"""Types of `$type`, by name and by MongoDB's number."""

_ABSENT = {5, 6, 7, 11, 13, 14, 15, 17, 19, -1, 127} | {
    "binData",
    "undefined",
    "objectId",
    "regex",
    "dbPointer",
    "javascript",
    "symbol",
    "javascriptWithScope",
    "timestamp",
    "decimal",
    "minKey",
    "maxKey",
}
"""Types of MongoDB that no value here has: asking for them is no error, and finds nothing."""


def parse_filter(value: object, *, text_paths: tuple[Path, ...] = ()) -> Filter:
    """Return the filter that JSON stands for.

    Args:
        value: `{"tags": {"$in": ["NLP", "LLM"]}}`, say; `None` is the empty filter.
        text_paths: the fields that `$text` searches; without any, `$text` is refused.

    Raises:
        InvalidRequest: it is malformed, too deep, or uses what is unknown or refused; names the
            operator and the path.
    """
    if value is None:
        return Every(())
    check_nesting(value, "filter")
    return _Parser(text_paths).filter(value, "")


def parse_test(operand: object, where: str) -> Test:
    """Return the test that an operand asks of a field.

    Args:
        operand: a value, or an object of operators; not nested too deep.
        where: its path, for errors.

    Raises:
        InvalidRequest: see `parse_filter`.
    """
    return _Parser(()).test(operand, where)


def parse_inner_filter(value: object, where: str) -> Filter:
    """Return a filter that is part of something else, and names its place there in errors.

    Raises:
        InvalidRequest: see `parse_filter`.
    """
    check_nesting(value, "filter")
    return _Parser(()).filter(value, where)


def parse_condition(value: object, where: str) -> Test | Filter:
    """Return what `$pull` removes: elements that pass a test, or objects that match a filter.

    Args:
        value: a value, an object of operators, or a filter; not nested too deep.
        where: its path, for errors.

    Raises:
        InvalidRequest: see `parse_filter`.
    """
    is_filter = isinstance(value, dict) and is_literal(value) and not is_extended(value)
    return parse_inner_filter(value, where) if is_filter else parse_test(value, where)


def wrong(operator: str, message: str, where: str) -> InvalidRequest:
    """Return the error for an operator with a wrong operand.

    Args:
        operator: `$in`, say.
        message: what it takes instead: `takes an array`.
        where: its path.
    """
    return InvalidRequest(f"{operator} {message}.", field=where or None, operator=operator)


def unknown(operator: str, where: str) -> InvalidRequest:
    """Return the error for an operator that is refused, or that nobody knows."""
    if operator in REFUSED:
        return wrong(operator, f"is refused: {REFUSED[operator]}", where)
    return wrong(_brief(operator), "is no operator that is known here", where)


def _brief(operator: str) -> str:
    return operator if len(operator) <= 50 else f"{operator[:50]}…"


class _Parser:
    """Parses one filter, and counts what it has.

    Args:
        text_paths: what `$text` searches.
    """

    def __init__(self, text_paths: tuple[Path, ...]) -> None:
        self._text_paths = text_paths
        self._clauses = 0
        self._patterns = 0
        self._instructions = 0

    def filter(self, value: object, where: str) -> Filter:
        """Return the filter of an object of fields and logical operators."""
        if not isinstance(value, dict):
            raise InvalidRequest("A filter is a JSON object.", field=where or None)
        clauses = tuple(
            clause
            for name, operand in value.items()
            for clause in self._clause(name, operand, joined(where, name))
        )
        return clauses[0] if len(clauses) == 1 else Every(clauses)

    def _clause(self, name: str, operand: object, where: str) -> Iterator[Filter]:
        self._count(1, where)
        match name:
            case "$comment":
                return
            case "$and":
                yield Every(self._filters(name, operand, where))
            case "$or":
                yield AnyOf(self._filters(name, operand, where))
            case "$nor":
                yield NoneOf(self._filters(name, operand, where))
            case "$expr":
                expression = parse_expression(operand, where)
                self._count(calls_in(expression), where)
                yield Expression(expression)
            case "$text":
                yield self._text(operand, where)
            case _ if name.startswith("$"):
                raise unknown(name, where)
            case _:
                yield Field(parse_field_path(name, where), self.test(operand, where))

    def _count(self, tests: int, where: str) -> None:
        self._clauses += tests
        if self._clauses > limits.CLAUSES:
            raise InvalidRequest(f"A filter may have {limits.CLAUSES} tests.", field=where)

    def _filters(self, name: str, operand: object, where: str) -> tuple[Filter, ...]:
        if not isinstance(operand, list) or not operand:
            raise wrong(name, "takes an array of filters, with at least one", where)
        return tuple(self.filter(each, f"{where}[{at}]") for at, each in enumerate(operand))

    def _text(self, operand: object, where: str) -> Text:
        if not self._text_paths:
            raise wrong("$text", "is refused: there is no text to search here", where)
        if not isinstance(operand, dict) or not isinstance(operand.get("$search"), str):
            raise wrong("$text", 'takes an object as {"$search": "words"}', where)
        for name in operand:
            if name != "$search":
                raise unknown(name, joined(where, name))
        if len(operand["$search"]) > limits.SEARCH_LENGTH:
            raise wrong("$search", f"takes {limits.SEARCH_LENGTH} characters at most", where)
        search = operand["$search"].casefold()
        phrases = tuple(re.findall(r'"([^"]+)"', search))
        rest = re.sub(r'"[^"]*"', " ", search).split()
        return Text(
            paths=self._text_paths,
            words=frozenset(
                word for part in rest if not part.startswith("-") for word in words_of(part)
            ),
            phrases=phrases,
            excluded=frozenset(
                word for part in rest if part.startswith("-") for word in words_of(part)
            ),
        )

    def test(self, operand: Any, where: str) -> Test:
        """Return the test that a field's operand asks for: equality, or operators."""
        if isinstance(operand, dict) and "$regularExpression" in operand:
            return Matches(self._regular_expression(operand, where))
        if is_literal(operand):
            return _compare("$eq", operand, where)
        return self._tests(operand, where)

    def _tests(self, operators: dict[str, object], where: str) -> Test:
        tests: list[Test] = []
        for name, operand in operators.items():
            at = joined(where, name)
            self._count(1, at)
            if not name.startswith("$"):
                raise InvalidRequest(
                    f"The field '{name}' stands beside operators; put fields into a filter, and "
                    "operators into an object of their own.",
                    field=at,
                )
            if name == "$options":
                if "$regex" not in operators:
                    raise wrong(name, "needs a $regex beside it", at)
            elif name == "$regex":
                tests.append(Matches(self._pattern(operand, operators.get("$options", ""), at)))
            elif name in _COMPARISONS:
                tests.append(_compare(_COMPARISONS[name], operand, at))
            elif name in _TESTS:
                tests.append(_TESTS[name](self, operand, at))
            else:
                raise unknown(name, at)
        return tests[0] if len(tests) == 1 else Both(tuple(tests))

    def differs(self, operand: object, where: str) -> Test:
        """Parse `$ne`."""
        return Not(_compare("$eq", operand, where))

    def one_of(self, operand: object, where: str) -> Test:
        """Parse `$in`."""
        return self._among("$in", operand, where)

    def none_of(self, operand: object, where: str) -> Test:
        """Parse `$nin`."""
        return Not(self._among("$nin", operand, where))

    def _among(self, name: str, operand: object, where: str) -> OneOf:
        if not isinstance(operand, list):
            raise wrong(name, "takes an array", where)
        values, patterns = [], []
        for at, each in enumerate(operand):
            if isinstance(each, dict) and "$regularExpression" in each:
                patterns.append(self._regular_expression(each, f"{where}[{at}]"))
            else:
                values.append(_value(name, each, f"{where}[{at}]"))
        instants = (instant_of(value) for value in values if isinstance(value, str))
        return OneOf(
            values=tuple(values),
            patterns=tuple(patterns),
            keys=identities(values),
            instants=frozenset(instant for instant in instants if instant),
        )

    def all_of(self, operand: object, where: str) -> Test:
        """Parse `$all`: each value is somewhere; no values are nowhere."""
        if not isinstance(operand, list):
            raise wrong("$all", "takes an array", where)
        if not operand:
            return OneOf(())
        self._count(len(operand), where)
        return Both(
            tuple(self._one_of_all(each, f"{where}[{i}]") for i, each in enumerate(operand))
        )

    def _one_of_all(self, operand: object, where: str) -> Test:
        if isinstance(operand, dict) and set(operand) == {"$elemMatch"}:
            return self.element(operand["$elemMatch"], joined(where, "$elemMatch"))
        if isinstance(operand, dict) and "$regularExpression" in operand:
            return Matches(self._regular_expression(operand, where))
        if not is_literal(operand):
            raise wrong("$all", "takes values, or $elemMatch in all places", where)
        return _compare("$eq", operand, where)

    def exists(self, operand: object, where: str) -> Test:
        """Parse `$exists`."""
        if not isinstance(operand, bool | int | float):
            raise wrong("$exists", "takes true or false", where)
        return Exists() if operand else Not(Exists())

    def has_type(self, operand: object, where: str) -> Test:
        """Parse `$type`."""
        asked = operand if isinstance(operand, list) else [operand]
        if not asked:
            raise wrong("$type", "takes at least one type", where)
        return HasType(frozenset(_type(each, where) for each in asked))

    def modulo(self, operand: object, where: str) -> Test:
        """Parse `$mod`."""
        numbers = operand if isinstance(operand, list) else []
        if len(numbers) != 2 or not all(is_number(each) and is_64_bit(each) for each in numbers):
            raise wrong("$mod", "takes an array of two numbers, divisor and remainder", where)
        divisor, remainder = map(int, numbers)
        if divisor == 0:
            raise wrong("$mod", "cannot divide by 0", where)
        return Modulo(divisor, remainder)

    def size(self, operand: Any, where: str) -> Test:
        """Parse `$size`."""
        if not (is_whole(operand) and 0 <= operand < 2**63):
            raise wrong("$size", "takes a whole number, 0 or more", where)
        return HasSize(int(operand))

    def element(self, operand: object, where: str) -> Test:
        """Parse `$elemMatch`: a filter of objects, or tests of values."""
        if not isinstance(operand, dict):
            raise wrong("$elemMatch", "takes an object", where)
        if not _TEST_NAMES.isdisjoint(operand):
            return ElementPasses(self._tests(operand, where))
        if "$text" in operand:
            raise wrong("$text", "searches whole documents", joined(where, "$text"))
        return ElementMatches(self.filter(operand, where))

    def negated(self, operand: Any, where: str) -> Test:
        """Parse `$not`."""
        if isinstance(operand, dict) and "$regularExpression" in operand:
            return Not(Matches(self._regular_expression(operand, where)))
        if not operand or is_literal(operand):
            raise wrong("$not", "takes an object of operators", where)
        return Not(self._tests(operand, where))

    def _pattern(self, source: object, options: object, where: str) -> Pattern:
        self._patterns += 1
        if self._patterns > limits.PATTERNS:
            raise wrong("$regex", f"may be used {limits.PATTERNS} times in a filter", where)
        if isinstance(source, dict) and "$regularExpression" in source:
            return self._regular_expression(source, where)
        pattern = parse_pattern(source, options, where=where)
        self._instructions += pattern.size
        if self._instructions > limits.PATTERN_INSTRUCTIONS:
            raise wrong("$regex", "is too large, with all others in the filter", where)
        return pattern

    def _regular_expression(self, operand: dict[str, Any], where: str) -> Pattern:
        inner = operand["$regularExpression"]
        if len(operand) != 1 or not isinstance(inner, dict) or "pattern" not in inner:
            raise wrong("$regularExpression", "takes a pattern and options", where)
        return self._pattern(inner["pattern"], inner.get("options", ""), where)


_COMPARISONS: dict[str, Comparison] = {
    "$eq": "$eq",
    "$gt": "$gt",
    "$gte": "$gte",
    "$lt": "$lt",
    "$lte": "$lte",
}

_TESTS: dict[str, Callable[[_Parser, object, str], Test]] = {
    "$ne": _Parser.differs,
    "$in": _Parser.one_of,
    "$nin": _Parser.none_of,
    "$all": _Parser.all_of,
    "$exists": _Parser.exists,
    "$type": _Parser.has_type,
    "$mod": _Parser.modulo,
    "$size": _Parser.size,
    "$elemMatch": _Parser.element,
    "$not": _Parser.negated,
}


_TEST_NAMES = frozenset({*_COMPARISONS, *_TESTS, "$regex"})


def words_of(text: str) -> list[str]:
    """Return the words of casefolded text."""
    return re.findall(r"\w+", text)


def _compare(operator: Comparison, operand: object, where: str) -> Compare:
    value = _value(operator, operand, where)
    instant = instant_of(value) if isinstance(value, str) else None
    return Compare(operator, value, instant, is_date(operand))


def _value(operator: str, operand: object, where: str) -> object:
    if not is_literal(operand):
        raise wrong(operator, "takes a value, and no operators", where)
    return literal(operand, where)


def _type(asked: object, where: str) -> str:
    if is_number(asked) or isinstance(asked, str):
        if asked in TYPES:
            return TYPES[asked]
        if asked in _ABSENT:
            return f"no {asked}"
    raise wrong("$type", f"takes names of types: {', '.join(sorted(set(TYPES.values())))}", where)
