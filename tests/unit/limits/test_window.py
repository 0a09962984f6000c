"""The log against a list of timestamps."""

import time

from hypothesis import given
from hypothesis import strategies as st

from inferno.limits.window import BLOCK, Window

LENGTH = 1_000

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "take", "clear"]),
        st.integers(0, 1_200),  # nanoseconds that pass before
        st.integers(1, 9),  # weight
        st.integers(0, 200),  # which of the entries
    ),
    max_size=200,
)


class Naive:
    """What was added, as long as it counts."""

    def __init__(self) -> None:
        self.entries: list[list[int]] = []  # time, weight, number

    def counted(self, now: int) -> list[list[int]]:
        return [entry for entry in self.entries if entry[1] and entry[0] > now - LENGTH]

    def total(self, now: int) -> int:
        return sum(weight for _, weight, _ in self.counted(now))

    def wait(self, now: int, weight: int, limit: int) -> int:
        if weight > limit:
            return LENGTH
        leaving = [at + LENGTH for at, _, _ in self.counted(now)]
        return min(then for then in [now, *leaving] if self.total(then) + weight <= limit) - now

    def reset_after(self, now: int) -> int:
        return min((at + LENGTH - now for at, _, _ in self.counted(now)), default=0)


def step(window: Window, naive: Naive, now: int, kind: str, weight: int, which: int) -> None:
    window.advance(now)
    if kind == "add":
        naive.entries.append([now, weight, window.add(now, weight)])
    elif kind == "take" and naive.entries:
        entry = naive.entries[which % len(naive.entries)]
        taken = min(weight, entry[1])
        if taken:
            entry[1] -= taken
            window.take(entry[2], taken)
    elif kind == "clear":
        window.clear()
        for entry in naive.entries:
            entry[0] = -LENGTH  # gone, though somebody may still take from it
    window.advance(now)


@given(STEPS, st.integers(1, 60), st.integers(1, 9))
def test_is_what_a_list_of_timestamps_says(
    steps: list[tuple[str, int, int, int]], limit: int, wanted: int
) -> None:
    window, naive, now = Window(LENGTH, 1_000), Naive(), 0
    for kind, passed, weight, which in steps:
        now += passed // 50
        step(window, naive, now, kind, weight, which)
        assert window.total == naive.total(now)
        assert window.reset_after(now) == naive.reset_after(now)
        assert window.wait(now, wanted, limit) == naive.wait(now, wanted, limit)


@given(STEPS)
def test_full_log_counts_no_less_than_there_was_and_not_much_longer(
    steps: list[tuple[str, int, int, int]],
) -> None:
    exact, now = 5, 0
    window, naive = Window(LENGTH, exact), Naive()
    for kind, passed, weight, which in steps:
        now += passed // 20
        step(window, naive, now, kind, weight, which)
        # An entry is late by a grain at most.
        assert naive.total(now) <= window.total <= naive.total(now - LENGTH // exact)
        assert len(window) <= 2 * exact + 1


def test_entry_leaves_at_the_window_s_edge_and_not_before() -> None:
    window = Window(LENGTH, 10)
    window.add(7, 1)
    window.advance(7 + LENGTH - 1)
    assert window.total == 1
    assert window.wait(7 + LENGTH - 1, 1, 1) == 1
    window.advance(7 + LENGTH)
    assert window.total == 0


def test_memory_of_what_has_left_is_given_back() -> None:
    window = Window(LENGTH, 10**9)
    for now in range(100 * LENGTH):
        window.advance(now)
        window.add(now, 1)
    assert len(window) == LENGTH
    assert len(window._times) <= 2 * LENGTH + BLOCK


def test_search_steps_over_blocks() -> None:
    """A refusal that has to pass 20,000 entries costs about as much as one that passes 200."""
    window = Window(10**12, 10**9)
    for now in range(20_000):
        window.add(now, 1)
    start = time.process_time()
    for _ in range(1_000):
        window.wait(20_000, 19_000, 20_000)
    assert time.process_time() - start < 0.5  # a walk over all of them takes two seconds


def test_entry_taken_back_does_not_make_the_one_before_it_younger() -> None:
    window = Window(LENGTH, 2)
    for now in (0, 10):
        window.add(now, 1)
    window.take(window.add(600, 1), 1)
    window.add(700, 1)
    window.advance(10 + LENGTH)
    assert window.total == 1
