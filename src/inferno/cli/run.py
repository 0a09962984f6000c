"""`inferno run`: one answer, or a chat in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import ApiKey, DataDir, Json, Url

if TYPE_CHECKING:  # these load settings and an HTTP client, which `--help` does not need
    from inferno.cli.client import Client
    from inferno.cli.conversation import Conversation
    from inferno.settings import Settings

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Name of the model, as `inferno models list` shows it."),
]
Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        show_default=False,
        help="What to ask. Text piped into the command is added to it, or is the prompt where "
        "none is given. Without either, a chat begins.",
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", show_default=False, help="The system message."),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        min=1,
        show_default=False,
        help="Longest answer, in tokens. Default: the server's.",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="X",
        min=0,
        show_default=False,
        help="0 always takes the likeliest token. Default: the server's.",
    ),
]


def run(
    model: Model,
    prompt: Prompt = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> int:
    """Ask a model, or chat with it.

    Uses the server that runs on DATA_DIR, or, where no folder was named, the only one of this
    user's that runs; where none runs, starts one of its own and stops it at the end. Ctrl-C stops
    the answer, at the server too.

    In a chat, /clear forgets what was said, and /exit or Ctrl-D ends.
    """
    from inferno import settings
    from inferno.cli.conversation import Conversation, Sampling

    asked = _prompt(prompt)
    if asked is None and as_json:
        raise CommandFailed("--json needs a prompt", exit_code=2)
    chosen = settings.load({"data_dir": data_dir})
    with _client(chosen, url, api_key) as client:
        conversation = Conversation(client, Sampling(model, system, max_tokens, temperature))
        if as_json and asked is not None:
            return _print_as_json(conversation, model, asked)
        return _talk(conversation, model, asked, chosen)


def _talk(conversation: Conversation, model: str, asked: str | None, chosen: Settings) -> int:
    from inferno.cli.chat import answer_once, chat

    if asked is not None:
        return answer_once(conversation, asked)
    return chat(conversation, model, chosen.data_dir / "chat_history")


def _print_as_json(conversation: Conversation, model: str, asked: str) -> int:
    from inferno.cli.output import print_json

    for _ in conversation.ask(asked):
        pass
    answer = conversation.answer
    print_json(
        {
            "model": model,
            "content": answer.content,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
        }
    )
    return 0


def _prompt(given: str | None) -> str | None:
    """Return what to ask: the argument and what is piped in; None begins a chat."""
    import sys

    piped = _piped()
    if piped is None and given is None and not (sys.stdin and sys.stdin.isatty()):
        piped = ""  # nobody is there to chat with
    parts = [part for part in (given, piped and piped.strip()) if part]
    if parts:
        return "\n\n".join(parts)
    if given is not None or piped is not None:
        raise CommandFailed("the prompt is empty", exit_code=2)
    return None


def _piped() -> str | None:
    """Return what is piped in; None where nothing is.

    Only pipes and files are read: a service's or a container's standard input can be a socket or
    a device that never ends.
    """
    import os
    import stat
    import sys

    if sys.stdin is None:
        return None
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _neighbour(chosen: Settings, api_key: str | None) -> Client | None:
    """Return a client for the server that runs on another folder, where no folder was named.

    Raises:
        CommandFailed: several do; says where.
    """
    import os
    import sys

    import msgspec

    from inferno.cli import discovery, neighbours
    from inferno.settings import default_data_dir

    if chosen.data_dir != default_data_dir(os.environ):
        return None
    folders = neighbours.folders()
    if len(folders) > 1:
        listed = ", ".join(map(str, folders))
        raise CommandFailed(
            f"servers run on {listed}; say which one is meant with --data-dir", exit_code=2
        )
    server = discovery.find(folders[0]) if folders else None
    if server is None:
        return None
    sys.stderr.write(f"inferno: using the server on {folders[0]}\n")
    return discovery.local_client(
        msgspec.structs.replace(chosen, data_dir=folders[0]), server, api_key
    )


@contextmanager
def _client(chosen: Settings, url: str | None, api_key: str | None) -> Iterator[Client]:
    """Yield a client for the server asked for, for the one that runs, or for one of our own."""
    from inferno.cli import discovery, spawn

    client = discovery.connect(chosen, url, api_key)
    if client is None and url is None:
        client = _neighbour(chosen, api_key)
    if client is not None:
        yield client
        return
    with spawn.server(chosen.data_dir, grace_period=chosen.grace_period) as server:
        yield discovery.local_client(chosen, server, api_key)
