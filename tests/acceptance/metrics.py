"""What a platform's `/metrics` says, as a scraper reads it."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.platform import MODEL, Platform

Key = tuple[str, tuple[tuple[str, str], ...]]


class Scraped:
    """The samples of one scrape.

    Args:
        text: in Prometheus' format.
    """

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: dict[Key, float] = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's value; 0 for a series that does not exist."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)

    def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return all samples of a name by their labels."""
        return {labels: value for (own, labels), value in self.samples.items() if own == name}


def scrape(platform: Platform) -> Scraped:
    """Return what a platform's `/metrics` says."""
    with platform.http() as client:
        return Scraped(client.get("/metrics").raise_for_status().text)


def chat(client: httpx.Client, *, model: str = MODEL, **fields: Any) -> httpx.Response:
    """Ask for a few tokens."""
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": model, "messages": messages, "max_tokens": 4, **fields}
    return client.post("/v1/chat/completions", json=body)
