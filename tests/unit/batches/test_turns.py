from __future__ import annotations

from dataclasses import dataclass

import pytest

from inferno.batches.turns import LONGEST_PAUSE, Verdict, next_in_turn, pause_after, verdict
from inferno.core import errors
from inferno.core.errors import InfernoError


@dataclass
class Contender:
    tenant: str
    running: int


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Verdict.KEEP),
        (errors.InvalidRequest("x"), Verdict.KEEP),
        (errors.ContextLengthExceeded(prompt_tokens=2, context_size=1), Verdict.KEEP),
        (errors.PermissionDenied("x"), Verdict.KEEP),
        (errors.AuthenticationFailed("x"), Verdict.KEEP),
        (errors.ModelNotFound("m", []), Verdict.KEEP),
        (errors.ModelLoadFailed("m", reason="NotGGUF", message="x"), Verdict.KEEP),
        (errors.ModelNotLoaded("m"), Verdict.LATER),
        (errors.Overloaded("x"), Verdict.LATER),
        (errors.Preempted(), Verdict.LATER),
        (errors.QuotaExceeded("requests_per_block_id", limit=1, retry_after=1), Verdict.LATER),
        (errors.InferenceFailed("x"), Verdict.AGAIN),
        (errors.ReplicaLost("x"), Verdict.AGAIN),
        (errors.DeadlineExceeded("x"), Verdict.AGAIN),
        (InfernoError("x"), Verdict.AGAIN),
    ],
)
def test_verdicts(error: InfernoError | None, expected: Verdict) -> None:
    assert verdict(error, tries=1, attempts=5) is expected
    last = Verdict.KEEP if expected is Verdict.AGAIN else expected
    assert verdict(error, tries=5, attempts=5) is last


def test_pauses_grow_and_have_an_end() -> None:
    for strikes in range(100):
        assert 0 < pause_after(strikes) <= LONGEST_PAUSE
    assert max(pause_after(0) for _ in range(50)) < min(pause_after(4) for _ in range(50))


def test_whoever_has_least_is_next() -> None:
    large = [Contender("north", 10), Contender("north", 3)]
    small = Contender("south", 5)
    everybody = [*large, small]
    assert next_in_turn([], everybody) is None
    assert next_in_turn(everybody, everybody) == 2
    assert next_in_turn(large, everybody) == 1


def test_turns_are_spread_evenly() -> None:
    contenders = [Contender("a", 0), Contender("a", 0), Contender("b", 0)]
    for _ in range(40):
        place = next_in_turn(contenders, contenders)
        assert place is not None
        contenders[place].running += 1
    assert [one.running for one in contenders] == [10, 10, 20]
