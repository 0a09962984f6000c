"""The parts of batches, wired."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferno.batches.base import Answerer, Outbox, UrlCheck
from inferno.batches.bell import Bell
from inferno.batches.desk import Desk
from inferno.batches.files import Files
from inferno.batches.records import Records
from inferno.batches.runner import Runner
from inferno.batches.sweeping import Sweeper
from inferno.batches.types import Bounds
from inferno.storage.database import Database


@dataclass(frozen=True, slots=True)
class Batching:
    """Where batches are handed in, and what works on them.

    Args:
        desk: takes them in.
        records: where they are kept.
        bell: between the desk and the runner.
        sweeper: clears away.
    """

    desk: Desk
    records: Records
    bell: Bell = field(repr=False)
    sweeper: Sweeper = field(repr=False)

    @classmethod
    def over(
        cls,
        database: Database,
        bounds: Bounds,
        *,
        holder: str,
        outbox: Outbox | None = None,
        check_url: UrlCheck | None = None,
    ) -> Batching:
        """Wire batches over a database.

        Args:
            database: where they are kept.
            bounds: what may be handed in, and how it is worked on.
            holder: this process, as leases name it; the same after a restart.
            outbox: told of ends.
            check_url: looks at webhook addresses; None where there are no webhooks.
        """
        bell = Bell()
        records = Records(database, holder, outbox)
        sweeper = Sweeper(database, bounds)
        files = Files(database, bounds)
        desk = Desk(records, files, bounds, check_url=check_url, bell=bell, sweeper=sweeper)
        return cls(desk, records, bell, sweeper)

    def runner(self, answerer: Answerer) -> Runner:
        """Return what works on the batches that this process claims."""
        desk = self.desk
        return Runner(self.records, desk.files, answerer, desk.bounds, self.bell, self.sweeper)
