"""The databases say themselves that an index leads to what is asked for."""

from __future__ import annotations

import pytest

from benchmarks.registry.plans import explained, indexes, scans
from benchmarks.registry.questions import Question, questions
from inferno.registry import planning
from inferno.registry.compiling import possible
from inferno.registry.deadline import Deadline
from inferno.registry.entries import ID, METADATA
from inferno.registry.examining import Examiner
from inferno.registry.finding import parse
from tests.contract.registry.corner import Corner

VALUES = "ix_registry_values_path_value_seq_level"
UNINDEXED = [
    Question("what an array has at an index", {f"{METADATA}.a.0": 1}),
    Question("an expression", {"$expr": {"$gt": [f"${METADATA}.n", 5]}}),
]


@pytest.mark.parametrize("question", questions(200), ids=lambda question: question.name)
@pytest.mark.parametrize("few", [1000, 0])
def test_an_index_leads(
    corner: Corner, question: Question, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "FEW", few)
    query = question.query()
    lines = corner.run(
        explained(corner.database, lambda: corner.finder.find(query), without_scans=True)
    )
    assert scans(lines) == [], lines
    used = indexes(lines)
    # Of what most entries lack, or of what is common, the index is asked entry by entry.
    is_counter = question.name.startswith(("neither", "null"))
    assert used if is_counter or few == 0 else VALUES in used, lines


@pytest.mark.parametrize("question", UNINDEXED, ids=lambda question: question.name)
def test_without_an_index_all_are_read(corner: Corner, question: Question) -> None:
    query = question.query()
    lines = corner.run(explained(corner.database, lambda: corner.finder.find(query)))
    assert VALUES not in indexes(lines)


def test_a_plan_that_reads_all_would_be_noticed(corner: Corner) -> None:
    async def ask() -> None:
        async with corner.database.read() as connection:
            await connection.exec_driver_sql(
                "SELECT document FROM registry_entries WHERE document LIKE '%x%'"
            )

    assert scans(corner.run(explained(corner.database, ask)))


def test_what_is_rare_names_the_entries(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands among the conditions."""
    monkeypatch.setattr(planning, "FEW", 5)
    rare, common = {ID: "s7"}, {"state": "active"}
    for filter_, is_few in (
        ({**rare, **common}, True),
        ({**common, **rare}, True),
        (common, False),
    ):
        parts = possible(parse(filter_))
        plan = corner.run(
            planning.Planner(corner.database, Examiner()).plan(
                parts, None, Deadline(), is_in_order=False
            )
        )
        assert (plan.named == [8]) is is_few
