"""A sliding-window log in memory: what was counted in the last so many seconds, exactly.

Times are whole nanoseconds of a clock that never goes back, so that nothing is rounded.
"""

from __future__ import annotations

from array import array

NEVER = 2**63 - 1

BLOCK = 64
"""Entries whose sum is kept, so that a search can step over them at once."""


class Window:
    """Entries (time, weight) of one stretch of time, and their sum.

    An entry is known by its number, which is never used again while somebody may change the entry.
    Sixteen bytes hold it, and all that happens to it takes constant time, but for `wait`, which
    steps over `BLOCK` entries at once.

    Args:
        length: of the window, in nanoseconds.
        exact: entries that are told apart; beyond, those of one `exact`-th of the window share an
            entry with the time of the latest.
    """

    __slots__ = (
        "_base",
        "_due",
        "_exact",
        "_grain",
        "_grain_end",
        "_head",
        "_sums",
        "_times",
        "_weights",
        "length",
        "total",
    )

    def __init__(self, length: int, exact: int) -> None:
        self.length = length
        self.total = 0
        self._exact = exact
        self._grain = length // exact
        self._due = NEVER  # before which `advance` has nothing to do
        self._times = array("q")
        self._weights = array("q")
        self._sums = array("q")
        self._base = 0  # the number of the first entry held; a multiple of BLOCK
        self._head = 0  # the number of the first entry that counts; after `advance` it has a weight
        self._grain_end = 0

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._base + len(self._times) - self._head

    def advance(self, now: int) -> None:
        """Let go of what is as old as the window is long, or older."""
        if now < self._due:
            return
        index, times = self._head - self._base, self._times
        edge, weights, sums, end = now - self.length, self._weights, self._sums, len(times)
        while index < end and (times[index] <= edge or not weights[index]):
            weight = weights[index]
            self.total -= weight
            sums[index // BLOCK] -= weight
            index += 1
        self._head = self._base + index
        self._due = times[index] + self.length if index < end else NEVER
        if index >= BLOCK and index * 2 >= end:  # half of the memory at least is given back
            self._compact(index // BLOCK)

    def add(self, now: int, weight: int) -> int:
        """Count a weight, at least 1, and return the number of its entry. Advance before."""
        times, weights = self._times, self._weights
        index = len(times)
        self.total += weight
        if now < self._grain_end and index + self._base - self._head >= self._exact:
            times[-1] = now
            weights[-1] += weight
            self._sums[-1] += weight
            return self._base + index - 1
        times.append(now)
        weights.append(weight)
        self._grain_end = now + self._grain
        if self._due == NEVER:
            self._due = now + self.length
        if index % BLOCK:
            self._sums[-1] += weight
        else:
            self._sums.append(weight)
        return self._base + index

    def take(self, number: int, weight: int) -> None:
        """Take back a part of what was added to an entry, unless the window has let go of it."""
        if number < self._head:
            return
        index = number - self._base
        self._weights[index] -= weight
        self._sums[index // BLOCK] -= weight
        self.total -= weight
        if number == self._head:
            self._due = 0  # it may have no weight any more
        if not self._weights[-1]:
            self._drop_tail()

    def wait(self, now: int, weight: int, limit: int) -> int:
        """Return the nanoseconds until `weight` more fits; the window's length where it never does.

        Advance before.
        """
        excess = self.total + weight - limit
        if excess <= 0:
            return 0
        if excess > self.total:
            return self.length
        times, weights, sums = self._times, self._weights, self._sums
        block = (self._head - self._base) // BLOCK  # what it has lost is not in its sum
        while excess > sums[block]:
            excess -= sums[block]
            block += 1
        index = max(self._head - self._base, block * BLOCK)
        while excess > weights[index]:
            excess -= weights[index]
            index += 1
        return times[index] + self.length - now

    def reset_after(self, now: int) -> int:
        """Return the nanoseconds until the oldest entry leaves; 0 without one. Advance before."""
        if not self.total:
            return 0
        return self._times[self._head - self._base] + self.length - now

    def clear(self) -> None:
        """Forget all entries; those who may change one find that it has gone."""
        self._compact((len(self._times) + BLOCK - 1) // BLOCK)
        self._head = self._base
        self._due = NEVER
        self.total = 0

    def _compact(self, blocks: int) -> None:
        count = blocks * BLOCK
        del self._times[:count], self._weights[:count], self._sums[:blocks]
        self._base += count

    def _drop_tail(self) -> None:
        """Drop entries at the end that weigh nothing: all who added to them took it back."""
        weights = self._weights
        index, head = len(weights) - 1, self._head - self._base
        while index >= head and not weights[index]:
            del weights[index], self._times[index]
            if index % BLOCK == 0:
                del self._sums[-1]
            index -= 1
            self._grain_end = 0  # what is last now is older
