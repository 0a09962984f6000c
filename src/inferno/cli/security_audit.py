"""`inferno security audit`: who did what, and whether the record of it is whole."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import DataDir, Json
from inferno.cli.security_session import administer, load_settings

if TYPE_CHECKING:
    from inferno.settings import Settings
    from inferno.telemetry.audit import Filter, RecordedEvent, Verdict
    from inferno.tenancy.administration import Administration


def audit(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="At most so many.")
    ] = 50,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", metavar="USER", show_default=False, help="Done by this user (id or name)."
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            "--action",
            metavar="ACTION",
            show_default=False,
            help="This act (user.create), or all that begin so (user.).",
        ),
    ] = None,
    outcome: Annotated[
        Literal["success", "refused", "failed"] | None,
        typer.Option("--outcome", show_default=False, help="How it ended."),
    ] = None,
    failures_only: Annotated[
        bool, typer.Option("--failures-only", help="Only what did not succeed.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            show_default=False,
            help="From this time on: 2026-01-31, 2026-01-31T13:00 (local time), or with a zone.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", show_default=False, help="Before this time."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check that no event was changed, removed or slipped in; show none."
        ),
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="FILE",
            show_default=False,
            help="Write all events to a file as JSON lines, oldest first; - for standard output.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> int:
    """Show the audit trail, newest first.

    With --verify, exit code 1 if the trail was tampered with.
    """
    from inferno.telemetry.audit import Filter

    settings = load_settings(data_dir)
    wanted = Filter(
        actor=user or "",
        action=action or "",
        outcome=outcome or "",
        failures_only=failures_only,
        since=_instant("--since", since),
        until=_instant("--until", until),
        limit=limit,
    )
    narrowed = wanted != Filter(limit=limit)
    if (verify and export is not None) or (narrowed and (verify or export is not None)):
        raise CommandFailed("--verify and --export take the whole trail, each alone", exit_code=2)
    if verify:
        return _verify(settings, as_json=as_json)
    if export is not None:
        _export(settings, export)
    else:
        _show(settings, wanted, as_json=as_json)
    return 0


def _show(settings: Settings, wanted: Filter, *, as_json: bool) -> None:
    import msgspec

    from inferno.cli.output import print_json, print_table

    async def work(administration: Administration) -> list[RecordedEvent]:
        return await administration.audit.query(wanted)

    events = administer(settings, work)
    if as_json:
        print_json({"events": msgspec.to_builtins(events)})
        return
    columns = ("SEQ", "TIME", "ACTOR", "ACTION", "OUTCOME", "TARGET", "ADDRESS", "REASON")
    print_table(columns, [_row(event) for event in events])


def _verify(settings: Settings, *, as_json: bool) -> int:
    """Check the chain, say what was found, and return the exit code."""
    from inferno.cli.output import print_json

    async def work(administration: Administration) -> Verdict:
        return await administration.audit.verify()

    verdict = administer(settings, work)
    intact = verdict.broken_at is None
    if as_json:
        found = {"intact": intact, "events": verdict.events, "last_hash": verdict.last_hash}
        print_json({**found, "broken_at": verdict.broken_at})
    elif intact:
        print(f"The audit trail is whole: {verdict.events} events.")
        print(f"Hash of the newest, to keep elsewhere: {verdict.last_hash}")
    else:
        print(
            f"The audit trail was tampered with at event {verdict.broken_at}; the "
            f"{verdict.events} events before it are whole."
        )
    return 0 if intact else 1


def _export(settings: Settings, target: str) -> None:
    """Write all events as JSON lines."""

    async def write_to(file: IO[bytes], administration: Administration) -> None:
        import msgspec

        async for event in administration.audit.export():
            file.write(msgspec.json.encode(event) + b"\n")

    async def work(administration: Administration) -> None:
        if target == "-":
            await write_to(sys.stdout.buffer, administration)
            sys.stdout.buffer.flush()
            return
        # Who did what is nobody else's business.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            await write_to(file, administration)

    administer(settings, work)


def _instant(option: str, text: str | None) -> str:
    """Return a time as the trail writes it, so that texts compare as times do."""
    from inferno.telemetry.audit import moment

    if text is None:
        return ""
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise CommandFailed(
            f"{option}: '{text}' is not a time like 2026-01-31T13:00", exit_code=2
        ) from None


def _row(event: RecordedEvent) -> tuple[str, ...]:
    named = (str(event.seq), event.at, event.actor, event.action, event.outcome)
    return (*named, event.target, event.address, event.reason)
