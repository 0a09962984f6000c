"""Platforms and model files for the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED
from tests.acceptance.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the bundled model, shared by tests that leave it as they found it."""
    with Platform(tmp_path_factory.mktemp("platform") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models or limits, shared by tests that only use its registry."""
    folder = tmp_path_factory.mktemp("directory") / "data"
    with Platform(folder, environment={**NO_MODEL, **UNLIMITED}) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Start platforms of the test's own; they are stopped at its end."""
    started: list[Platform] = []

    def start_one(
        *arguments: str, environment: dict[str, str] | None = None, data: str = "data"
    ) -> Platform:
        platform = Platform(tmp_path / data, *arguments, environment=environment)
        started.append(platform)
        return platform.start()

    yield start_one
    for platform in started:
        if platform.process is not None and platform.process.poll() is None:
            platform.kill()
