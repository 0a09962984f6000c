"""What is revoked stays so for long enough, and not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.identity.revocation import RevocationList


def test_revocations_are_forgotten_long_after_their_tokens_expired() -> None:
    now = [1000.0]
    revoked = RevocationList([("a", 2000), ("b", 9000)], clock=lambda: now[0])
    now[0] = 2000 + 3599
    assert revoked.prune() == 0
    now[0] = 2000 + 3600
    assert revoked.prune() == 1
    assert not revoked.is_revoked("a")
    assert revoked.is_revoked("b")


def test_the_later_end_of_two_holds() -> None:
    now = [0.0]
    revoked = RevocationList([("a", 9000), ("a", 10)], clock=lambda: now[0])
    now[0] = 8000.0
    revoked.prune()
    assert revoked.is_revoked("a")


def test_revocations_do_not_pile_up() -> None:
    now = [0.0]
    revoked = RevocationList(clock=lambda: now[0])
    for i in range(100_000):
        now[0] = float(i)
        revoked.revoke(str(i), i + 10)
    assert len(revoked) < 12_000
    assert revoked.is_revoked("99999")


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 10**6)), st.integers(0, 10**6))
def test_no_revocation_ends_before_its_token(entries: dict[str, int], now: int) -> None:
    revoked = RevocationList(entries.items(), clock=lambda: now)
    revoked.prune()
    assert all(revoked.is_revoked(jti) for jti, until in entries.items() if until >= now)
