"""What SQLAlchemy has no one word for in both databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Listed(FunctionElement[Any]):
    """The texts of a JSON array, as rows of one column `value`.

    One parameter, however many they are: ten thousand parameters take longer to write down, and
    to plan, than to look up.
    """

    inherit_cache = True


@compiles(Listed, "sqlite")
def _on_sqlite(element: Listed, compiler: Any, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(Listed, "postgresql")
def _on_postgres(element: Listed, compiler: Any, **options: Any) -> str:
    given = compiler.process(element.clauses, **options)
    return f"json_array_elements_text(CAST({given} AS json))"


def listed(texts: Sequence[str]) -> sa.Select[Any]:
    """Return a query for some texts."""
    given = sa.literal(msgspec.json.encode(texts).decode(), sa.String)
    rows = Listed(given).table_valued("value")
    return sa.select(rows.c.value)
