"""How a database says that it finds what it is asked for: `EXPLAIN` of all that a query sends."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from inferno.storage.database import Database

Sent = tuple[str, Any]
"""A statement, and its parameters."""


@contextmanager
def listening() -> Iterator[list[Sent]]:
    """Give a list that every statement sent meanwhile is added to."""
    sent: list[Sent] = []

    def note(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def explained(
    database: Database, ask: Callable[[], Awaitable[object]], *, without_scans: bool = False
) -> list[str]:
    """Return the lines of the plans of all that a call sends.

    Args:
        database: which is asked.
        ask: the call.
        without_scans: whether Postgres may read whole tables only where nothing else will do; it
            always does where they are small.
    """
    with listening() as sent:
        await ask()
    lines: list[str] = []
    async with database.read() as connection:
        if database.is_postgres and without_scans:
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in sent:
            if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
                continue
            explain = "EXPLAIN " if database.is_postgres else "EXPLAIN QUERY PLAN "
            rows = (await connection.exec_driver_sql(explain + statement, parameters)).all()
            lines += [str(row[-1]).strip() for row in rows]
    return lines


def indexes(lines: list[str]) -> list[str]:
    """Return the indexes of the registry's tables that plans name, without repetition."""
    named = re.compile(r"\b(?:ix|pk|uq)_registry_\w+|\bPRIMARY KEY\b")
    return list(dict.fromkeys(name for line in lines for name in named.findall(line)))


def scans(lines: list[str]) -> list[str]:
    """Return what plans read as a whole: tables that no index leads through."""
    whole = re.compile(r"^SCAN registry_\w+(?! USING)$|Seq Scan on registry_\w+")
    return list(dict.fromkeys(line for line in lines if whole.search(line)))
