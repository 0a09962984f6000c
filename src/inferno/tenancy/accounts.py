"""Users and all that is theirs, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from inferno.storage.database import Database
from inferno.tenancy.keys import Keys
from inferno.tenancy.ledger import Ledger
from inferno.tenancy.overrides import Overrides
from inferno.tenancy.revocations import Revocations
from inferno.tenancy.users import Users


@dataclass(frozen=True, slots=True)
class Accounts:
    """Users and all that is theirs, as the database keeps it."""

    ledger: Ledger
    users: Users
    keys: Keys
    overrides: Overrides
    revocations: Revocations

    @classmethod
    def over(cls, database: Database) -> Self:
        """Return the accounts in a database."""
        ledger = Ledger(database)
        return cls(ledger, Users(ledger), Keys(ledger), Overrides(ledger), Revocations(ledger))
