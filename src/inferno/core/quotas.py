"""Quotas: how many requests a model server takes, in all, of a session and for a block. Pure.

They are those of the registry's original, which kept them in an entry's metadata under
`quota_management_data`. A session is what `X-Session-ID` names; a block is a served model, by the
name that the server knows it by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferno.core.errors import InvalidRequest

QUOTA_FIELD = "quota_management_data"
"""Where an entry of the registry has them, in its metadata."""

MAX_COUNT = 2**53

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]


class Quotas(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True, frozen=True):
    """How many requests a server takes; what is left out is not limited.

    Args:
        requests_per_second_total: within any second, whoever sends them.
        requests_per_second_per_session: within any second, of one session.
        requests_per_second_per_block_id: within any second, for one of its models.
        requests_per_session_id: of one session, as long as it lasts.
        requests_per_block_id: for one of its models, as long as it is asked for.
    """

    requests_per_second_total: Count | None = None
    requests_per_second_per_session: Count | None = None
    requests_per_second_per_block_id: Count | None = None
    requests_per_session_id: Count | None = None
    requests_per_block_id: Count | None = None

    @property
    def count_sessions(self) -> bool:
        """Whether it matters whose session a request is of."""
        return (self.requests_per_second_per_session or self.requests_per_session_id) is not None

    @property
    def count_blocks(self) -> bool:
        """Whether it matters which model a request is for."""
        return (self.requests_per_second_per_block_id or self.requests_per_block_id) is not None


NAMES = Quotas.__struct_fields__
"""As an entry of the registry writes them."""


def quotas_in(metadata: Mapping[str, Any], *, path: str) -> Quotas | None:
    """Return the quotas in the metadata of a registry's entry, where it has any.

    What else stands beside them is the entry's own affair.

    Args:
        metadata: of the entry.
        path: of the metadata, for errors.

    Raises:
        InvalidRequest: one of them is no whole number from 1 on; names the field.
    """
    given = metadata.get(QUOTA_FIELD)
    if given is None and QUOTA_FIELD not in metadata:
        return None
    field = f"{path}.{QUOTA_FIELD}"
    if not isinstance(given, dict):
        raise InvalidRequest(
            f"'{field}' must be an object of quotas such as {{\"{NAMES[0]}\": 100}}.", field=field
        )
    found = {name: given[name] for name in NAMES if name in given}
    for name, value in found.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
            raise InvalidRequest(
                f"'{field}.{name}' must be a whole number from 1 to {MAX_COUNT}; leave it out for "
                "no limit.",
                field=f"{field}.{name}",
            )
    return Quotas(**found) if found else None
