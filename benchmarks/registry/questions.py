"""What is asked: the seed's example queries, and others that an index should help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferno.core.documents.sorting import parse_sort
from inferno.registry.entries import METADATA, NAME, REGISTERED, TAGS
from inferno.registry.finding import Query, parse

PAGE = 20


@dataclass(frozen=True)
class Question:
    """A query.

    Args:
        name: for people.
        filter: in the language.
        sort: in the language; empty is the order of registration.
        count: whether it asks how many there are.
        limit: of the page.
    """

    name: str
    filter: dict[str, Any]
    sort: dict[str, int] | None = None
    count: bool = False
    limit: int = PAGE

    def query(self) -> Query:
        """Return it as the registry takes it."""
        sort = parse_sort(self.sort)
        return Query(filter=parse(self.filter), sort=sort, limit=self.limit, count=self.count)


def questions(entries: int) -> list[Question]:
    """Return what to ask of so many entries."""
    zone, gpu, number = (
        f"{METADATA}.availability_zone",
        f"{METADATA}.gpu_available",
        f"{METADATA}.n",
    )
    newest, name = {REGISTERED: -1}, f"server-{entries * 3 // 4}"
    many = [f"server-{entries - 1 - 7 * at}" for at in range(10_000)]
    return [
        Question("by zone and GPU (seed)", {zone: "us-east-1a", gpu: True}),
        Question("on AWS (seed)", {f"{METADATA}.provider": "AWS"}),
        Question("with NLP or LLM (seed)", {TAGS: {"$in": ["NLP", "LLM"]}}),
        Question("registered after (seed)", {REGISTERED: {"$gte": "2025-01-01T00:00:00Z"}}),
        Question("by name", {NAME: name}),
        Question("by a rare tag", {TAGS: "rare"}),
        Question("a range of numbers", {number: {"$gte": 500, "$lt": 510}}),
        Question("either of two", {"$or": [{number: 5}, {f"{METADATA}.cluster_id": "cluster-7"}]}),
        Question("neither of two", {"$nor": [{f"{METADATA}.provider": "AWS"}, {gpu: True}]}),
        Question("not null", {f"{METADATA}.gone": {"$ne": None}}),
        Question("null or missing", {number: None}),
        Question("pattern, few texts", {f"{METADATA}.region": {"$regex": "nowhere$"}}),
        Question("pattern, with prefix", {NAME: {"$regex": f"^{name[:-1]}"}}),
        Question("pattern, all texts", {NAME: {"$regex": f"{name[-4:]}$"}}),
        Question("search for a word", {"$text": {"$search": name.replace("-", " ")}}),
        Question("10,000 values in $in", {NAME: {"$in": many}}),
        Question("newest (sort)", {}, newest),
        Question("newest on AWS (sort)", {f"{METADATA}.provider": "AWS"}, newest),
        Question("by name (sort)", {}, {NAME: 1}),
        Question("greatest number (sort)", {}, {number: -1}),
        Question("least number (sort)", {}, {number: 1}),
        Question("number, then name (sort)", {gpu: True}, {number: -1, NAME: 1}),
        Question("count on AWS", {f"{METADATA}.provider": "AWS"}, count=True, limit=1),
        Question("count of two tags", {TAGS: {"$in": ["NLP", "LLM"]}}, count=True, limit=1),
    ]
