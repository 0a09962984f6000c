"""How many connections each address may have open at once.

Every connection costs memory and a file, before anybody knows who is calling.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from inferno.web.address import UNKNOWN, Network, is_within, limit_subject


class Places:
    """The places that addresses take with their connections.

    Args:
        most: for one address, or one /64 of IPv6; 0 for any number.
        proxies: networks of trusted proxies, who connect for many: they may have any number.
    """

    def __init__(self, most: int = 0, proxies: Sequence[Network] = ()) -> None:
        self.most = most
        self._proxies = proxies
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken.total()

    def take(self, transport: asyncio.BaseTransport) -> str | None:
        """Take a place for a connection; give it back.

        Returns:
            Whose it is; None where there are too many. Empty where they are not counted.
        """
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else UNKNOWN
        if not self.most or address == UNKNOWN or is_within(address, self._proxies):
            return ""
        holder = limit_subject(address)
        if self._taken[holder] >= self.most:
            return None
        self._taken[holder] += 1
        return holder

    def give_back(self, holder: str | None) -> None:
        """Give back what `take` returned."""
        if holder:
            self._taken[holder] -= 1
            if not self._taken[holder]:
                del self._taken[holder]
