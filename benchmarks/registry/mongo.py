"""The same questions to mongomock, a MongoDB in memory and in Python."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import mongomock

from benchmarks.registry.entries import entry_of
from benchmarks.registry.questions import Question, questions

LEFT_OUT = ("search for a word", "10,000 values in $in")
"""What mongomock refuses, and what takes it minutes."""


def measured(entries: int, seconds: float) -> dict[str, float]:
    """Fill a collection, ask it, and return the medians in milliseconds.

    Args:
        entries: how many.
        seconds: most for each question, though it is asked at least once.
    """
    began = time.monotonic()
    collection: Any = mongomock.MongoClient().db.collection
    for name in ("inference_server_id", "inference_server_name"):
        collection.create_index(name)
    for number in range(entries):
        collection.insert_one({"_id": number, **entry_of(number)})
    print(f"{entries} entries in {time.monotonic() - began:.0f} s")
    asked: dict[str, Callable[[], object]] = {
        question.name: lambda question=question: _ask(collection, question)  # type: ignore[misc]
        for question in questions(entries)
        if question.name not in LEFT_OUT
    }
    asked["one by its id"] = lambda: collection.find_one({"inference_server_id": "s500"})
    asked["update (seed)"] = lambda: collection.update_one(
        {"inference_server_id": f"s{random.randrange(entries)}"},
        {"$set": {"inference_server_metadata.region": f"r{random.randrange(9)}"}},
    )
    asked["push (seed)"] = lambda: collection.update_one(
        {"inference_server_id": f"s{random.randrange(entries)}"},
        {"$push": {"inference_server_tags": f"tag-{random.randrange(9)}"}},
    )
    return {name: _median(name, ask, seconds) for name, ask in asked.items()}


def _ask(collection: Any, question: Question) -> object:
    if question.count:
        return collection.count_documents(question.filter)
    cursor = collection.find(question.filter)
    if question.sort:
        cursor = cursor.sort(list(question.sort.items()))
    return list(cursor.limit(question.limit))


def _median(name: str, ask: Callable[[], object], seconds: float) -> float:
    taken: list[float] = []
    end = time.monotonic() + seconds
    while not taken or (len(taken) < 20 and time.monotonic() < end):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    median = sorted(taken)[len(taken) // 2]
    print(f"{name:28}{median:8.2f}", flush=True)
    return median
