"""The brake on guessing passwords, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.identity.slowdown import ACCOUNT, ADDRESS, PAIR, LoginSlowdown, Policy, network_of

HOME = "203.0.113.1"
HOUR = 3600.0


class Logins:
    """Logins of one moment after another."""

    def __init__(self, capacity: int = 65_536) -> None:
        self.now = 0.0
        self.brake = LoginSlowdown(capacity=capacity, clock=lambda: self.now)

    def fail(self, account: str = "alice", address: str = HOME) -> float:
        """Try a wrong password; return the seconds to wait where it was not looked at."""
        wait = self.brake.check(account, address)
        if not wait:
            self.brake.failed(account, address)
        return wait

    def succeed(self, account: str = "alice", address: str = HOME) -> float:
        """Try the right password; return the seconds to wait where it was not looked at."""
        wait = self.brake.check(account, address)
        if not wait:
            self.brake.succeeded(account, address)
        return wait

    def guesses(self, seconds: float, accounts: list[str], addresses: list[str]) -> int:
        """Guess as often as is let through, and return how often that is."""
        end, tried = self.now + seconds, 0
        while self.now < end:
            waits = [self.fail(account, address) for account in accounts for address in addresses]
            tried += waits.count(0.0)
            self.now += max(0.1, min(waits))
        return tried


@pytest.fixture
def logins() -> Logins:
    return Logins()


def test_typing_errors_are_free_and_guessing_is_not(logins: Logins) -> None:
    assert [logins.fail() for _ in range(6)] == [0.0] * 6
    waits = []
    for _ in range(9):
        wait = logins.fail()
        waits.append(wait)
        logins.now += wait
        assert logins.fail() == 0
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_asking_again_makes_nothing_worse(logins: Logins) -> None:
    for _ in range(7):
        logins.fail()
        logins.now += 1
    first = logins.brake.check("alice", HOME)
    assert first > 0
    assert [logins.brake.check("alice", HOME) for _ in range(100)] == [first] * 100


def test_logins_sent_at_once_get_no_more_tries(logins: Logins) -> None:
    allowed = [logins.brake.check("alice", HOME) for _ in range(1000)].count(0.0)
    assert allowed == PAIR.free + 1


def test_a_login_that_is_broken_off_is_a_try(logins: Logins) -> None:
    for _ in range(6):
        assert logins.brake.check("alice", HOME) == 0
    assert logins.brake.check("alice", HOME) > 0


def test_the_delay_begins_when_the_refusal_is_known(logins: Logins) -> None:
    for _ in range(5):
        logins.fail()
    assert logins.brake.check("alice", HOME) == 0
    logins.now += 0.9
    logins.brake.failed("alice", HOME)
    assert logins.brake.check("alice", HOME) == pytest.approx(1.0)


def test_success_forgets_typing_errors(logins: Logins) -> None:
    for _ in range(10):
        for _ in range(5):
            assert logins.fail() == 0
        assert logins.succeed() == 0


def test_failures_are_forgotten_in_time(logins: Logins) -> None:
    logins.guesses(HOUR, ["alice"], [HOME])
    logins.now += 2 * HOUR
    assert [logins.fail() for _ in range(5)] == [0.0] * 5


def test_one_address_guesses_slowly(logins: Logins) -> None:
    assert logins.guesses(HOUR, ["alice"], [HOME]) < 100


def test_one_address_guesses_slowly_over_all_accounts(logins: Logins) -> None:
    accounts = [f"user-{i}" for i in range(50)]
    assert logins.guesses(HOUR, accounts, [HOME]) < 400


def test_many_addresses_guess_slowly_at_one_account(logins: Logins) -> None:
    addresses = [f"198.51.100.{i}" for i in range(100)]
    assert logins.guesses(HOUR, ["alice"], addresses) < 2000


def test_an_attacker_cannot_lock_the_owner_out(logins: Logins) -> None:
    logins.succeed(address=HOME)
    addresses = [f"198.51.100.{i}" for i in range(100)]
    for i in range(10):
        logins.guesses(300, ["alice"], addresses)
        assert logins.succeed(address=f"192.0.2.{i}") == 0  # where the owner never was before
        assert [logins.fail(address=HOME) for _ in range(5)] == [0.0] * 5
        assert logins.succeed(address=HOME) == 0


def attack(logins: Logins, account: str = "alice") -> None:
    """Fail once from each of many addresses, until the account is slowed down."""
    for i in range(80):
        logins.fail(account, f"198.51.100.{i}")


def test_under_attack_only_those_who_failed_lately_are_slowed(logins: Logins) -> None:
    logins.fail(address="192.0.2.1")
    logins.now += PAIR.forgive
    attack(logins)
    assert logins.fail(address="192.0.2.2") == 0
    assert logins.fail(address="192.0.2.2") == ACCOUNT.longest
    assert logins.succeed(address="192.0.2.1") == 0


def test_under_attack_guessing_where_a_login_succeeded_is_slowed(logins: Logins) -> None:
    logins.succeed()
    for _ in range(PAIR.free + 1):
        assert logins.fail() == 0
    attack(logins)
    logins.now += 2
    assert logins.fail() == ACCOUNT.longest - 2


def test_many_logins_that_succeed_slow_nobody(logins: Logins) -> None:
    for i in range(200):
        assert logins.succeed("robot", f"198.51.100.{i}") == 0
        assert logins.succeed(f"user-{i}", HOME) == 0
    for _ in range(PAIR.free):
        assert logins.fail("robot", "192.0.2.1") == 0


def test_others_at_the_attacked_address_are_not_slowed_at_once(logins: Logins) -> None:
    logins.guesses(60, ["alice"], [HOME])
    assert logins.succeed("bob", HOME) == 0


def test_logging_in_to_an_own_account_wipes_no_slate(logins: Logins) -> None:
    tried = 0
    for i in range(2000):
        tried += logins.fail(f"user-{i}") == 0
        logins.succeed("mallory")
        logins.now += 0.1
    assert tried < 100


def test_nobody_can_tell_which_accounts_exist() -> None:
    real, invented = Logins(), Logins()
    real.succeed("alice", "192.0.2.9")
    for step in range(200):
        real.now = invented.now = step * 0.7
        assert real.fail("alice") == invented.fail("nobody")


@pytest.mark.parametrize("same", ["ALICE", "Alice", "ａｌｉｃｅ"])
def test_spellings_of_an_account_count_together(logins: Logins, same: str) -> None:
    for name in ["alice", same] * 3:
        assert logins.fail(name) == 0
    assert logins.fail("alice") > 0
    assert logins.fail(same) > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.1", "203.0.113.1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_an_address_is_what_one_caller_holds(address: str, network: str) -> None:
    assert network_of(address) == network


def test_memory_is_bounded() -> None:
    logins = Logins(capacity=100)
    for i in range(5000):
        logins.fail("x" * 1000 + str(i), f"10.0.{i // 250}.{i % 250}")
    assert len(logins.brake) == 300


def test_a_clock_that_steps_back_is_harmless(logins: Logins) -> None:
    logins.now = 1000.0
    for _ in range(6):
        logins.fail()
    logins.now = 0.0
    assert logins.fail() > 0
    logins.now = 1002.0
    assert logins.fail() == 0


POLICIES = st.builds(
    Policy,
    free=st.integers(0, 20),
    first=st.floats(0.1, 10),
    longest=st.floats(10, 1000),
    forgive=st.floats(1, 1000),
)


@given(POLICIES, st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_failures_never_mean_less_delay(policy: Policy, one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    assert 0 <= policy.delay(fewer) <= policy.delay(more) <= policy.longest
    assert policy.delay(policy.free) == 0
    assert policy.delay(policy.ceiling) == pytest.approx(policy.longest)


NAMES = st.sampled_from(["alice", "bob", "\ud800", "", "x" * 10_000])
PLACES = st.sampled_from([HOME, "2001:db8::1", "nowhere", ""])
STEPS = st.lists(
    st.tuples(st.sampled_from(["fail", "succeed", "leave"]), NAMES, PLACES, st.floats(0, 100)),
    max_size=60,
)


@given(STEPS)
def test_waiting_as_told_is_always_enough(steps: list[tuple[str, str, str, float]]) -> None:
    logins = Logins()
    for act, account, address, elapsed in steps:
        logins.now += elapsed
        wait = logins.brake.check(account, address)
        assert 0 <= wait <= max(PAIR.longest, ACCOUNT.longest, ADDRESS.longest)
        if wait:
            logins.now += wait + 1e-6
            assert logins.brake.check(account, address) == 0
        if act == "fail":
            logins.brake.failed(account, address)
        elif act == "succeed":
            logins.brake.succeeded(account, address)


@given(st.lists(st.floats(0, 30), min_size=50, max_size=200))
def test_no_pace_of_guessing_beats_the_brake(pauses: list[float]) -> None:
    logins = Logins()
    tried = sum(1 for pause in pauses if not _paused(logins, pause))
    # The free ones, those before the longest delay, one a minute, and what was forgiven meanwhile.
    assert tried <= PAIR.ceiling + 1 + logins.now / PAIR.longest + logins.now / PAIR.forgive


def _paused(logins: Logins, pause: float) -> float:
    logins.now += pause
    return logins.fail()
