"""The limiters under test: in memory, and in a Redis server of our own."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from inferno.limits.base import Limiter
from inferno.limits.memory import MemoryLimiter
from tests.contract.limits.subject import MemorySubject, RedisServer, RedisSubject, Subject


def _start_redis() -> Iterator[RedisServer]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("The Redis server is missing; install it: apt-get install redis-server")
    # Not in pytest's folder: a socket's path has to be short.
    folder = tempfile.mkdtemp(prefix="inferno-redis-")
    server = RedisServer(binary, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for all tests that leave it as it is."""
    yield from _start_redis()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may stop."""
    yield from _start_redis()


@pytest.fixture
def prefix() -> str:
    """A part of the server that no other test uses."""
    return f"test:{uuid.uuid4().hex}"


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Limiter]:
    """A limiter as it ships."""
    if request.param == "memory":
        tested: Limiter = MemoryLimiter()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        tested = server.limiter(prefix)
    yield tested
    await tested.close()


@pytest.fixture(params=["memory", "redis"])
async def subject(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Subject]:
    """A limiter with short windows, and its clock."""
    if request.param == "memory":
        tested: Subject = MemorySubject()
    else:
        tested = RedisSubject(request.getfixturevalue("redis_server"), prefix)
    yield tested
    await tested.limiter.close()
