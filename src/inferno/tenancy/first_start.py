"""The first start: an admin and an API key, given or generated, shown once."""

from __future__ import annotations

import json
from dataclasses import dataclass

from inferno.core.tenancy import Role
from inferno.data_dir import DataDir, write_private
from inferno.identity import api_keys, passwords
from inferno.tenancy.keys import Keys
from inferno.tenancy.types import NewApiKey, NewUser
from inferno.tenancy.users import Users

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class FirstCredentials:
    """What the first start made.

    Args:
        username: the admin's name.
        password: the admin's password.
        api_key: the admin's API key.
    """

    username: str
    password: str
    api_key: str


async def ensure_admin(
    data_dir: DataDir, users: Users, keys: Keys, *, password: str | None, api_key: str | None
) -> FirstCredentials | None:
    """Make the first admin and its key where there is no user yet.

    What is generated is written to the data folder before it is stored: a crash in between leaves
    credentials that do not work yet, never an admin whom nobody knows. At later starts nothing
    that is given counts: the variable that names a key is also the one that clients read.

    Args:
        data_dir: where generated credentials are left.
        users: the users.
        keys: their keys.
        password: the admin's; generated where None.
        api_key: the admin's; generated where None.

    Returns:
        The credentials, where this was the first start.
    """
    if not await users.is_empty():
        return None
    first = FirstCredentials(
        username=ADMIN,
        password=password or passwords.generate_password(),
        api_key=api_key or api_keys.generate(),
    )
    generated = {"username": first.username}
    if password is None:
        generated["password"] = first.password
    if api_key is None:
        generated["api_key"] = first.api_key
    write_private(data_dir.credentials_file, json.dumps(generated, indent=2) + "\n")
    new = NewUser(username=first.username, password=first.password, role=Role.ADMIN)
    # On loopback any password will do; what is too weak for a public address was refused before.
    await users.create(new, check_password=False)
    await keys.create(ADMIN, NewApiKey(name="first key"), secret=first.api_key)
    return first
