"""A brake on guessing passwords: who fails often waits longer and longer.

Failures are counted per account and address together (strictly), per account and per address.
Nothing here knows which accounts exist, so nothing here can tell. Nothing waits either: callers
are told for how long to come back, and refuse the login unread. Counts are kept in the memory of
one process and within bounds.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How failures are answered.

    Args:
        free: failures that cost nothing.
        first: seconds to wait after the next one; each further one doubles them.
        longest: seconds that nobody waits longer than.
        forgive: seconds after which one failure is forgotten.
    """

    free: int
    first: float
    longest: float
    forgive: float

    @property
    def ceiling(self) -> float:
        """The count above which nothing gets worse, so that forgetting never takes forever."""
        return self.free + 1 + math.ceil(math.log2(max(1.0, self.longest / self.first)))

    def delay(self, count: float) -> float:
        """Return the seconds to wait after so many failures."""
        excess = math.ceil(min(count, self.ceiling)) - self.free
        return min(self.longest, self.first * 2.0 ** (excess - 1)) if excess > 0 else 0.0


PAIR = Policy(free=5, first=1, longest=60, forgive=300)
"""One account from one address: a person mistypes a few times, a program does not stop."""

ACCOUNT = Policy(free=50, first=1, longest=8, forgive=30)
"""One account from everywhere: many machines share the guessing, and the owner must get through."""

ADDRESS = Policy(free=50, first=1, longest=60, forgive=30)
"""All accounts from one address: an office behind one address, or somebody with a list of names."""


@dataclass(slots=True)
class _Record:
    """What is known of one key.

    Args:
        count: failures, as of `at`; attempts under way count as failures.
        at: when the count was right.
        blocked_until: no attempt before.
        is_known: whether a login succeeded here.
    """

    count: float = 0.0
    at: float = 0.0
    blocked_until: float = -math.inf
    is_known: bool = False


class _Counter:
    """Failures by key, of the most recently seen keys."""

    def __init__(self, policy: Policy, capacity: int) -> None:
        self._policy = policy
        self._capacity = capacity
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def wait(self, key: bytes, now: float) -> float:
        """Return the seconds until the next attempt is allowed."""
        record = self._records.get(key)
        return max(0.0, record.blocked_until - now) if record is not None else 0.0

    def is_trusted(self, key: bytes, now: float) -> bool:
        """Return whether nothing has failed here lately, or little since a login succeeded."""
        record = self._records.get(key)
        if record is None:
            return True
        count = self._count(record, now)
        return count == 0 or (record.is_known and count <= self._policy.free)

    def charge(self, key: bytes, now: float) -> None:
        """Count a failure."""
        record = self._record(key, now)
        record.count = min(record.count + 1, self._policy.ceiling)
        record.blocked_until = now + self._policy.delay(record.count)

    def restart(self, key: bytes, now: float) -> None:
        """Let the delay of the failures so far begin now."""
        record = self._record(key, now)
        record.blocked_until = max(record.blocked_until, now + self._policy.delay(record.count))

    def refund(self, key: bytes, now: float) -> None:
        """Take one failure back."""
        record = self._record(key, now)
        record.count = max(0.0, record.count - 1)
        record.blocked_until = min(record.blocked_until, now + self._policy.delay(record.count))

    def clear(self, key: bytes, now: float) -> None:
        """Forget the failures: a login succeeded."""
        record = self._record(key, now)
        record.count, record.blocked_until, record.is_known = 0.0, -math.inf, True

    def _record(self, key: bytes, now: float) -> _Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(at=now)
            if len(self._records) > self._capacity:
                self._records.popitem(last=False)
        self._records.move_to_end(key)
        record.count = self._count(record, now)
        record.at = now
        return record

    def _count(self, record: _Record, now: float) -> float:
        """Return the failures that are not forgotten yet."""
        # A clock that steps back forgives nothing.
        elapsed = max(0.0, now - record.at)
        return max(0.0, record.count - elapsed / self._policy.forgive)


class LoginSlowdown:
    """Says whether a login may be tried now.

    Ask `check` before looking at the password, then report `failed` or `succeeded`. An attempt
    that was let through counts as failed until `succeeded` says otherwise: a thousand logins sent
    at once get no more tries than a thousand sent in turn, and one that is broken off is a try
    as well.

    Guessing from elsewhere slows down an account for those who have failed at it themselves, and
    neither the first try from an address nor the typing errors of an owner whose logins succeed
    there: an attacker with many machines gets few tries, and cannot lock the owner out.

    Args:
        pair: for one account from one address.
        account: for one account from all addresses.
        address: for all accounts from one address.
        capacity: records kept of each kind; the least recently used go first.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        pair: Policy = PAIR,
        account: Policy = ACCOUNT,
        address: Policy = ADDRESS,
        capacity: int = 65_536,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._pairs = _Counter(pair, capacity)
        self._accounts = _Counter(account, capacity)
        self._addresses = _Counter(address, capacity)
        # Keyed, so that nobody can choose names that share a record.
        self._salt = secrets.token_bytes(16)

    def __len__(self) -> int:
        return len(self._pairs) + len(self._accounts) + len(self._addresses)

    def check(self, account: str, address: str) -> float:
        """Return 0 where a login may be tried, which counts as a try; else seconds to wait.

        Asking again while one has to wait makes nothing worse.

        Args:
            account: the name as it was typed, whether it exists or not.
            address: the caller's.
        """
        now = self._clock()
        pair_key, account_key, address_key = self._keys(account, address)
        wait = max(self._pairs.wait(pair_key, now), self._addresses.wait(address_key, now))
        if not self._pairs.is_trusted(pair_key, now):
            wait = max(wait, self._accounts.wait(account_key, now))
        if wait > 0:
            return wait
        self._pairs.charge(pair_key, now)
        self._accounts.charge(account_key, now)
        self._addresses.charge(address_key, now)
        return 0.0

    def failed(self, account: str, address: str) -> None:
        """Report that the login was refused: the delay counts from now, not from `check`."""
        now = self._clock()
        pair_key, account_key, address_key = self._keys(account, address)
        self._pairs.restart(pair_key, now)
        self._accounts.restart(account_key, now)
        self._addresses.restart(address_key, now)

    def succeeded(self, account: str, address: str) -> None:
        """Report that the login succeeded.

        The other failures of the address and of the account stay: an attacker who owns an account
        must not be able to wipe the slate by logging in to it.
        """
        now = self._clock()
        pair_key, account_key, address_key = self._keys(account, address)
        self._pairs.clear(pair_key, now)
        self._accounts.refund(account_key, now)
        self._addresses.refund(address_key, now)

    def _keys(self, account: str, address: str) -> tuple[bytes, bytes, bytes]:
        """Return the keys of the three records: digests, so that long names cost no memory."""
        name = self._digest(b"account", unicodedata.normalize("NFKC", account).casefold())
        network = self._digest(b"address", network_of(address))
        return name + network, name, network

    def _digest(self, kind: bytes, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._salt, person=kind).digest()


def network_of(address: str) -> str:
    """Return what one caller holds: an IPv4 address, or the 64-bit network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
