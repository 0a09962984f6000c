from hypothesis import given
from hypothesis import strategies as st

from inferno.engines.base import Failure
from inferno.runtimes.restarts import History, RestartPolicy, restart_delay

POLICY = RestartPolicy()
CRASH = Failure("Crashed", "")


def _delays(served: list[float | None]) -> list[float | None]:
    history, delays = History(), []
    for seconds in served:
        history = history.after_failure(served=seconds, policy=POLICY)
        delays.append(restart_delay(history, CRASH, POLICY))
    return delays


def test_the_first_restart_is_quick_and_pauses_double_up_to_a_minute() -> None:
    assert _delays([1.0] * 10) == [0.2, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_minute_of_health_forgets_earlier_failures() -> None:
    assert _delays([1.0, 1.0, 61.0, 1.0]) == [0.2, 1, 0.2, 1]


def test_what_was_never_ready_is_tried_twice() -> None:
    assert _delays([None, None]) == [0.2, None]


def test_what_was_ready_once_is_never_given_up() -> None:
    assert None not in _delays([1.0] + [None] * 50)


def test_permanent_failures_are_not_retried() -> None:
    failure = Failure("FileMissing", "", permanent=True)
    assert restart_delay(History(was_ready=True, failures=1), failure, POLICY) is None


@given(st.integers(1, 10_000), st.booleans())
def test_pauses_are_bounded(failures: int, was_ready: bool) -> None:
    delay = restart_delay(History(was_ready=was_ready, failures=failures), CRASH, POLICY)
    assert delay is None or 0 < delay <= POLICY.max_delay
