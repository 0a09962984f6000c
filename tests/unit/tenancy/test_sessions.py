"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from inferno.core.errors import AuthenticationFailed
from inferno.identity.revocation import RevocationList
from inferno.identity.slowdown import LoginSlowdown, Policy
from inferno.identity.tokens import TokenIssuer, TokenPair
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.sessions import Sessions, TooManyLogins, signing_secret
from inferno.tenancy.types import User, UserChange
from tests.unit.tenancy.conftest import PASSWORD

WEEK = 7 * 86_400
HERE = "192.0.2.1"


@dataclass
class Process:
    """What one process of the platform has: sessions, and its own memory of revocations."""

    sessions: Sessions
    tokens: TokenIssuer

    async def login(self, password: str = PASSWORD) -> TokenPair:
        return (await self.sessions.login("ada", password, address=HERE))[1]

    def accepts(self, access: str) -> bool:
        try:
            self.tokens.verify(access)
        except AuthenticationFailed:
            return False
        return True


def process_over(accounts: Accounts, slowdown: LoginSlowdown | None = None) -> Process:
    tokens = TokenIssuer("s" * 32, revocations=RevocationList(), refresh_lifetime_seconds=WEEK)
    sessions = Sessions(
        accounts.users,
        accounts.revocations,
        tokens,
        LoginSlowdown() if slowdown is None else slowdown,
        refresh_lifetime=WEEK,
    )
    return Process(sessions, tokens)


@pytest.fixture
def process(accounts: Accounts, ada: User) -> Process:
    return process_over(accounts)


async def refused(process: Process, refresh_token: str) -> None:
    with pytest.raises(AuthenticationFailed):
        await process.sessions.refresh(refresh_token)


class TestLogin:
    async def test_gives_tokens_for_the_user(
        self, process: Process, accounts: Accounts, ada: User
    ) -> None:
        claims = process.tokens.verify((await process.login()).access)
        assert (claims.subject, claims.username) == (ada.id, "ada")
        assert (claims.tenant, claims.role) == ("research", "user")
        assert (await accounts.users.get("ada")).last_login is not None

    async def test_every_refusal_reads_the_same(self, process: Process, accounts: Accounts) -> None:
        said = set()
        for name, password in (("ada", "wrong"), ("eve", PASSWORD), ("eve", "wrong")):
            with pytest.raises(AuthenticationFailed) as error:
                await process.sessions.login(name, password, address=HERE)
            said.add((error.value.message, str(error.value.details)))
        await accounts.users.change("ada", UserChange(disabled=True))
        with pytest.raises(AuthenticationFailed) as error:
            await process.login()
        assert said == {(error.value.message, str(error.value.details))}

    async def test_who_guesses_has_to_wait(self, accounts: Accounts, ada: User) -> None:
        strict = Policy(free=2, first=30, longest=60, forgive=300)
        process = process_over(accounts, LoginSlowdown(pair=strict))
        for _ in range(3):
            with pytest.raises(AuthenticationFailed):
                await process.login("wrong")
        with pytest.raises(TooManyLogins) as error:
            await process.login()
        assert 1 <= error.value.retry_after <= 31

    async def test_a_made_up_account_is_slowed_down_just_so(
        self, accounts: Accounts, ada: User
    ) -> None:
        strict = Policy(free=1, first=30, longest=60, forgive=300)
        waits = []
        for name in ("ada", "eve"):
            sessions = process_over(accounts, LoginSlowdown(pair=strict)).sessions
            for _ in range(2):
                with pytest.raises(AuthenticationFailed):
                    await sessions.login(name, "wrong", address=HERE)
            with pytest.raises(TooManyLogins) as error:
                await sessions.login(name, "wrong", address=HERE)
            waits.append(error.value.retry_after)
        assert abs(waits[0] - waits[1]) <= 1


class TestRefresh:
    async def test_a_refresh_token_works_once(self, process: Process) -> None:
        first = await process.login()
        user, second = await process.sessions.refresh(first.refresh)
        assert user.username == "ada"
        assert second.access_claims.family == first.access_claims.family
        assert process.accepts(second.access)

    async def test_used_twice_it_ends_the_whole_session(self, process: Process) -> None:
        first = await process.login()
        _, second = await process.sessions.refresh(first.refresh)
        await refused(process, first.refresh)
        assert not process.accepts(first.access)
        assert not process.accepts(second.access)
        await refused(process, second.refresh)

    async def test_other_sessions_go_on(self, process: Process) -> None:
        stolen, other = await process.login(), await process.login()
        await process.sessions.refresh(stolen.refresh)
        await refused(process, stolen.refresh)
        assert process.accepts(other.access)
        await process.sessions.refresh(other.refresh)

    async def test_of_many_at_once_one_gets_through(self, process: Process) -> None:
        pair = await process.login()
        results = await asyncio.gather(
            *(process.sessions.refresh(pair.refresh) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(result, AuthenticationFailed) for result in results) >= 4
        assert not process.accepts(pair.access)

    async def test_an_access_token_is_no_refresh_token(self, process: Process) -> None:
        pair = await process.login()
        await refused(process, pair.access)
        assert not process.accepts(pair.refresh)

    @pytest.mark.parametrize("how", ["disabled", "deleted"])
    async def test_a_user_who_may_not_act_stays_out(
        self, process: Process, accounts: Accounts, how: str
    ) -> None:
        pair = await process.login()
        if how == "disabled":
            await accounts.users.change("ada", UserChange(disabled=True))
        else:
            await accounts.users.delete("ada")
        await refused(process, pair.refresh)

    async def test_a_new_role_is_in_the_next_token(
        self, process: Process, accounts: Accounts
    ) -> None:
        pair = await process.login()
        await accounts.users.change("ada", UserChange(tenant="sales"))
        _, fresh = await process.sessions.refresh(pair.refresh)
        assert process.tokens.verify(fresh.access).tenant == "sales"


class TestLogout:
    async def test_ends_the_session(self, process: Process) -> None:
        pair = await process.login()
        await process.sessions.logout(pair.access_claims)
        assert not process.accepts(pair.access)
        await refused(process, pair.refresh)

    async def test_ends_it_in_other_processes(
        self, process: Process, accounts: Accounts, elsewhere: Accounts
    ) -> None:
        pair = await process.login()
        other = process_over(elsewhere)
        await process.sessions.logout(pair.access_claims)
        other.tokens.revocations.load((await elsewhere.revocations.all()).items())
        assert not other.accepts(pair.access)
        await refused(other, pair.refresh)

    async def test_is_remembered_as_long_as_the_newest_token_could_live(
        self, process: Process, accounts: Accounts
    ) -> None:
        """An old token may end a session whose refresh token is a moment old."""
        first = await process.login()
        _, second = await process.sessions.refresh(first.refresh)
        await process.sessions.logout(first.access_claims)
        until = (await accounts.revocations.all())[first.access_claims.family]
        assert until >= second.refresh_claims.expires_at


class TestSigningSecret:
    def test_the_setting_comes_first(self) -> None:
        assert signing_secret("given", b"s" * 32) == "given"

    def test_else_it_is_derived_and_not_the_platforms_own(self) -> None:
        derived = signing_secret(None, b"s" * 32)
        assert derived == signing_secret(None, b"s" * 32)
        assert derived != b"s" * 32
        assert len(derived) >= 32
