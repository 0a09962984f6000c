"""What concerns Redis alone: outages, lost scripts, its clock, its keys."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from structlog.testing import capture_logs

from inferno.core.errors import ConfigurationError, Overloaded
from inferno.limits.base import Limiter, Refused
from inferno.limits.breaker import PATIENCE
from inferno.limits.redis import RedisLimiter
from tests.contract.limits.calls import admitted, enter, refusal
from tests.contract.limits.subject import RedisServer, policy

LIMITS = policy(minute=5, hour=50, tokens=100, concurrent=5)


@pytest.fixture
async def limiter(redis_server: RedisServer, prefix: str) -> AsyncIterator[RedisLimiter]:
    limiter = redis_server.limiter(prefix)
    yield limiter
    await limiter.close()


@pytest.fixture
def client(redis_server: RedisServer) -> Redis:
    return redis_server.client()


async def until_back(limiter: Limiter) -> None:
    """Wait until limits are kept again."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            await limiter.standing("anybody", policy(minute=1))
        except Overloaded:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("The limiter did not notice that Redis is back.")


async def test_flushed_scripts_are_loaded_again(limiter: RedisLimiter, client: Redis) -> None:
    admission = await limiter.admit("a", LIMITS)
    client.script_flush()
    await limiter.reserve(admission, 60)
    client.script_flush()
    await limiter.settle(admission, 30)
    client.script_flush()
    assert await limiter.standing("a", LIMITS) == {
        "requests_per_minute": 1,
        "requests_per_hour": 1,
        "tokens_per_minute": 30,
        "concurrent_requests": 0,
    }


async def test_closed_limits_let_nothing_in_while_redis_is_away(
    own_redis: RedisServer, prefix: str
) -> None:
    limiter = own_redis.limiter(prefix, timeout=1)
    running = await enter(limiter, "a", LIMITS, 50)
    own_redis.stop()
    for _ in range(PATIENCE + 2):
        with pytest.raises(Overloaded, match="cannot be reached") as caught:
            await limiter.admit("a", LIMITS)
        assert caught.value.retry_after == 1
    with pytest.raises(Overloaded):
        await limiter.reserve(running, 10)
    with pytest.raises(Overloaded):
        await limiter.reset("a")
    await limiter.settle(running, 20)
    own_redis.start()
    await until_back(limiter)
    assert await admitted(limiter, "a", LIMITS, 20) == 5
    await limiter.close()


async def test_open_limits_let_everything_in_while_redis_is_away(
    own_redis: RedisServer, prefix: str
) -> None:
    limiter = own_redis.limiter(prefix, timeout=1, on_failure="open")
    own_redis.stop()
    with capture_logs() as logs:
        for _ in range(20):
            admission = await limiter.admit("a", LIMITS)
            assert admission.standing is None
            await limiter.reserve(admission, 1_000_000)
            await limiter.settle(admission, 1_000_000)
    assert [entry["event"] for entry in logs] == ["rate_limiter_away"]
    own_redis.start()
    await until_back(limiter)
    assert await admitted(limiter, "a", LIMITS, 20) == 5
    await limiter.close()


async def test_tokens_are_not_reserved_while_redis_is_away(
    own_redis: RedisServer, prefix: str
) -> None:
    limiter = own_redis.limiter(prefix, timeout=1, on_failure="open")
    admission = await limiter.admit("a", LIMITS)
    own_redis.stop()
    await limiter.reserve(admission, 1_000)
    await limiter.settle(admission, 1_000)
    await limiter.close()


async def test_server_that_hangs_delays_few_requests(own_redis: RedisServer, prefix: str) -> None:
    limiter = own_redis.limiter(prefix, timeout=0.3, on_failure="open")
    running = await enter(limiter, "a", LIMITS, 50)
    own_redis.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    for _ in range(300):
        await limiter.admit("a", LIMITS)
    assert time.monotonic() - start < 300 * 0.3 / 10
    await limiter.settle(running, 10)
    own_redis.send_signal(signal.SIGCONT)
    await until_back(limiter)
    for _ in range(100):  # what could not be settled has been by and by
        used = await limiter.standing("a", LIMITS)
        if used["concurrent_requests"] == 0:
            break
        await asyncio.sleep(0.02)
    assert used["concurrent_requests"] == 0
    assert used["tokens_per_minute"] == 10
    await limiter.close()


async def test_restart_between_two_calls_is_not_noticed(
    own_redis: RedisServer, prefix: str
) -> None:
    limiter = own_redis.limiter(prefix)
    admission = await enter(limiter, "a", LIMITS, 50)
    own_redis.stop()
    own_redis.start()
    await limiter.settle(admission, 10)
    assert await admitted(limiter, "a", LIMITS, 20) == 5  # Redis has forgotten, as it keeps nothing
    await limiter.close()


async def test_clock_that_goes_back_opens_nothing_and_blocks_a_window_at_most(
    redis_server: RedisServer, prefix: str, client: Redis
) -> None:
    limits = policy(minute=3, hour=100, tokens=30, concurrent=9)
    limiter = redis_server.limiter(prefix, minute=1.0, lease_seconds=1.0)
    for _ in range(3):
        await enter(limiter, "a", limits, 10)
    for key in client.scan_iter(f"{prefix}:*"):
        if client.type(key) == b"zset":  # as if all had been counted a day ahead
            shift = "for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
            client.eval(shift + "redis.call('ZINCRBY', KEYS[1], 86400e6, m) end", 1, key)
    refused = await refusal(limiter, "a", limits)
    assert 0 < refused.wait <= 1.0
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 30
    await asyncio.sleep(refused.wait + 0.001)
    await enter(limiter, "a", limits, 30)
    await asyncio.sleep(1.1)  # the leases that ended a day ahead end a lease's time from now
    assert (await limiter.standing("a", limits))["concurrent_requests"] == 0
    await limiter.close()


async def test_keys_expire_by_themselves_and_share_a_slot(
    limiter: RedisLimiter, client: Redis, prefix: str
) -> None:
    for name in ("a", "}{", "b"):
        admission = await enter(limiter, name, LIMITS, 10)
        if name == "b":
            await limiter.settle(admission, 20)
    keys = [key.decode() for key in client.scan_iter(f"{prefix}:*")]
    assert len({key.partition("{")[2].partition("}")[0] for key in keys}) == 3
    assert len(keys) == 20  # seven for each, less the leases of one that has ended
    lifetimes = [client.pttl(key) for key in keys]
    assert min(lifetimes) > 0
    assert max(lifetimes) <= 3_601_000


async def test_full_log_stays_short_and_on_the_safe_side(
    redis_server: RedisServer, prefix: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferno.limits.redis.EXACT_REQUESTS", 10)
    monkeypatch.setattr("inferno.limits.redis.EXACT_RESERVATIONS", 10)
    limits = policy(minute=200, tokens=2_000)
    limiter = redis_server.limiter(prefix, minute=1.5)
    admissions = [await enter(limiter, "a", limits, 10) for _ in range(200)]
    refused = await refusal(limiter, "a", limits)
    [log] = client.scan_iter(f"{prefix}:*:minute")
    assert client.zcard(log) <= 20
    for admission in admissions:
        await limiter.settle(admission, 4)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 800
    await asyncio.sleep(refused.wait)
    assert await admitted(limiter, "a", limits, 1) == 1
    await asyncio.sleep(1.5)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 0
    await limiter.close()


async def test_wait_for_tokens_is_found_among_many_entries(
    redis_server: RedisServer, prefix: str
) -> None:
    limits = policy(tokens=1_000)
    limiter = redis_server.limiter(prefix, minute=6.0)
    for number in range(250):
        await limiter.settle(await enter(limiter, "a", limits, 4), 4 if number % 2 else 3)
        if number == 200:
            middle = time.monotonic()
    with pytest.raises(Refused) as caught:
        await enter(limiter, "a", limits, 125 + 201 * 4 - 100)
    assert caught.value.wait == pytest.approx(middle + 6.0 - time.monotonic(), abs=0.2)
    await limiter.close()


@pytest.mark.parametrize("url", ["", "http://secret@host", "redis://:secret@host:port/0"])
def test_bad_url_is_a_configuration_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisLimiter(url, on_failure="open", lease_seconds=1)
    assert "secret" not in caught.value.message


def test_prefix_cannot_choose_the_slot() -> None:
    with pytest.raises(ConfigurationError):
        RedisLimiter("redis://host", on_failure="open", lease_seconds=1, prefix="a{b")
