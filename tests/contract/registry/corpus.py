"""Two hundred entries made to confuse an index, and queries that meet them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from inferno.registry.entries import (
    EXPIRED,
    ID,
    METADATA,
    NAME,
    REGISTERED,
    STATE,
    TAGS,
    Document,
    new_entry,
)

ENTRIES = 200
KEYS = ("a", "b", "0", "c.d", "c", "")
LONG = "x" * 199

NUMBERS: list[Any] = [
    *range(-3, 4),
    *(0.5, 1.0, -0.0, 5e-324, 1e300, -1e300),
    *(2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63 - 512),
]
TEXTS: list[Any] = [
    *("", "a", "ab", "b", "ä", "Z", "z", "1", "a\nb", "%", "_", "\x01", "a\x01"),
    *("\ud7ff", "\ue000", "\uffff", "\U0001f600", "\U0010ffff", "x" * 200, LONG, LONG + "ä"),
    *(LONG + "xa", LONG + "xb", "large model", "Large, beta Model", "$a", "a.b"),
]
TIMES: list[Any] = [
    "2025-01-01T00:00:00Z",
    "2025-01-01T01:00:00+01:00",
    "2025-01-01T00:00:00.000000001Z",
    "2025-01-01T00:00:00.0005Z",
    "2024-12-31T23:59Z",
    "0001-01-01T00:00:00+01:00",
    "2025-06-01",
    "2026-01-31T12:00:00.000Z",
]
SCALARS: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *TIMES]
WORDS = ("NLP", "LLM", "BERT", "ä", "", "large model")


def entries() -> list[Document]:
    """Return the entries, always the same ones."""
    chance = random.Random(7)
    began = datetime(2026, 1, 31, 12, tzinfo=UTC)
    made = []
    for number in range(ENTRIES):
        given: dict[str, Any] = {
            ID: f"s{number}",
            NAME: chance.choice(
                (f"s{number}", f"{chance.choice(TEXTS)[:100]} {number}".strip(), "")
            ),
            METADATA: _facts(chance),
            TAGS: chance.sample(WORDS, chance.randrange(4)),
        }
        if any(sign < " " for sign in given[NAME]):
            given[NAME] = ""
        if number % 5 == 0:
            given["ttl_seconds"] = 60
        entry = new_entry(given, began + timedelta(milliseconds=250 * (number // 3)))
        if number % 10 == 0:
            entry[STATE] = EXPIRED
        made.append(entry)
    return made


def _facts(chance: random.Random) -> dict[str, Any]:
    facts = {key: _value(chance, 3) for key in chance.sample(KEYS, chance.randrange(len(KEYS)))}
    facts["n"] = chance.choice((chance.randrange(30), chance.choice(SCALARS), _value(chance, 2)))
    return facts


def _value(chance: random.Random, depth: int) -> Any:
    kind = chance.random()
    if depth == 0 or kind < 0.5:
        return chance.choice(chance.choice((NUMBERS, TEXTS, TIMES, SCALARS)))
    if kind < 0.75:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    names = chance.sample(KEYS, chance.randrange(4))
    return {name: _value(chance, depth - 1) for name in names}


PATHS = [TAGS, f"{TAGS}.0", NAME, REGISTERED, STATE, ID, "ttl_seconds", "expires_at", "nowhere"]
SCALAR_OPERANDS = [*SCALARS, *WORDS, "active", "s7"]
PATTERNS = ("^a", "L", ".", "^s1", "^$", "nowhere$", "^x{3}", "^ä|b", r"\Aa", "a$", "^a.?b", "b$")
TYPES = ("string", "number", "int", "null", "array", "object", "bool", "date", "regex")
SEARCHES = ("NLP", "large", '"arge mod"', '"Large, beta"', '"x large model x"', "model -beta", "-a")


class Questions:
    """Queries that meet the entries.

    Args:
        seed: which.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def filter(self, depth: int = 2) -> dict[str, Any]:
        """Return a filter; now and then it is refused."""
        chance = self._chance
        if depth and chance.random() < 0.4:
            operator = chance.choice(("$and", "$or", "$nor"))
            return {operator: [self.filter(depth - 1) for _ in range(chance.randrange(1, 4))]}
        if chance.random() < 0.08:
            return {"$expr": self._expression(depth)}
        if chance.random() < 0.08:
            return {"$text": {"$search": chance.choice(SEARCHES)}}
        return {
            self.path(): self._operand() if chance.random() < 0.3 else self._tests(3)
            for _ in range(chance.choice((1, 1, 1, 2)))
        }

    def path(self) -> str:
        """Return a path, of which many lead somewhere."""
        chance = self._chance
        if chance.random() < 0.25:
            return chance.choice(PATHS)
        if chance.random() < 0.4:
            return f"{METADATA}.{chance.choice(('n', 'a', 'b', 'a.b'))}"
        parts = chance.choices(("a", "b", "0", "c", "n"), k=chance.randrange(1, 4))
        return ".".join([METADATA, *parts])

    def sort(self) -> dict[str, int]:
        """Return what to sort by."""
        fields = self._chance.randrange(1, 4)
        return {self.path(): self._chance.choice((1, -1)) for _ in range(fields)}

    def number(self, least: int, most: int) -> int:
        """Return a number."""
        return self._chance.randrange(least, most)

    def _operand(self) -> Any:
        chance = self._chance
        kind = chance.random()
        if kind < 0.25:
            return chance.randrange(30)
        if kind < 0.75:
            return chance.choice(SCALAR_OPERANDS)
        return {"$date": chance.choice(TIMES[:4])} if kind < 0.8 else self._value(2)

    def _value(self, depth: int) -> Any:
        return _value(self._chance, depth)

    def _tests(self, depth: int) -> dict[str, Any]:
        count = self._chance.choice((1, 1, 2, 3))
        return dict(self._test(depth) for _ in range(count))

    def _test(self, depth: int) -> tuple[str, Any]:
        chance = self._chance
        match chance.randrange(9 if depth else 7):
            case 0:
                name = chance.choice(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"))
                return name, self._operand()
            case 1:
                return chance.choice(("$gt", "$gte", "$lt", "$lte")), chance.randrange(30)
            case 2:
                found = [self._operand() for _ in range(chance.randrange(4))]
                return chance.choice(("$in", "$nin", "$all")), found
            case 3:
                return "$exists", chance.random() < 0.5
            case 4:
                return chance.choice((("$size", chance.randrange(3)), ("$mod", [2, 1])))
            case 5:
                return "$regex", chance.choice(PATTERNS)
            case 6:
                return "$type", chance.choice(TYPES)
            case 7:
                return "$not", self._tests(depth - 1)
        inner: dict[str, Any] = self._tests(depth - 1)
        if chance.random() < 0.6:
            inner = {chance.choice(("a", "b", "0")): inner}
            inner = {"$nor": [inner]} if chance.random() < 0.3 else inner
        return "$elemMatch", inner

    def _expression(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        if depth and chance.random() < 0.4:
            both = [self._expression(depth - 1) for _ in range(2)]
            return {chance.choice(("$and", "$or", "$not")): both[:1] if depth == 1 else both}
        field = f"${self.path()}"
        if chance.random() < 0.3:
            return {"$in": [field, {"$literal": [self._value(1) for _ in range(3)]}]}
        name = chance.choice(("$eq", "$eq", "$ne", "$gt", "$lte"))
        return {name: [field, {"$literal": self._value(1)}]}
