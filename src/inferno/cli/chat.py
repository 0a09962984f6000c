"""Talking to a model in the terminal: one answer, or a chat with history."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from pathlib import Path

from inferno.cli.conversation import Conversation
from inferno.cli.errors import INTERRUPTED, CommandFailed
from inferno.cli.output import printable

PROMPT = ">>> "
HISTORY_LENGTH = 1000
"""Lines typed in chats that are kept for the arrow keys."""
HELP = """\
/clear   forget what was said
/exit    leave, as Ctrl-D does
/help    this text
Ctrl-C   stop the answer"""


def answer_once(conversation: Conversation, prompt: str) -> int:
    """Print the answer to one prompt as it comes; return the exit code."""
    finished = show_answer(conversation, prompt)
    return 0 if finished else INTERRUPTED


def chat(conversation: Conversation, model: str, history: Path) -> int:
    """Read questions and print answers until `/exit` or Ctrl-D; return the exit code.

    Args:
        conversation: which remembers what was said.
        model: named in the greeting.
        history: file of the lines typed, for the arrow keys.
    """
    print(f"Chat with {model}. /help lists commands, /exit or Ctrl-D ends.")
    keep_history = _load_history(history)
    try:
        while (line := _read_line()) is not None:
            if line == "/exit":
                break
            _take(conversation, line)
    finally:
        if keep_history:
            _save_history(history)
    return 0


def _take(conversation: Conversation, line: str) -> None:
    """Do what one line asks for."""
    if line == "/clear":
        conversation.clear()
        print("Forgotten.")
    elif line == "/help":
        print(HELP)
    elif line:
        try:
            show_answer(conversation, line)
        except CommandFailed as error:  # the chat goes on
            print(f"inferno: {error.message}", file=sys.stderr)


def show_answer(conversation: Conversation, prompt: str) -> bool:
    """Print an answer as it comes; return False when Ctrl-C stopped it."""
    finished = False
    # Closing is what stops the model: it must not wait for the garbage collector.
    with suppress(KeyboardInterrupt), closing(conversation.ask(prompt)) as texts:
        for text in texts:
            sys.stdout.write(printable(text))
            sys.stdout.flush()
        finished = True
    if not conversation.answer.content.endswith("\n"):
        print()
    if finished and conversation.answer.finish_reason == "length" and sys.stderr.isatty():
        print("(the answer was cut: it reached its greatest length)", file=sys.stderr)
    return finished


def _read_line() -> str | None:
    """Return the next line; empty after Ctrl-C, None at the end of the input."""
    try:
        return input(PROMPT).strip()
    except KeyboardInterrupt:
        print("\n(/exit or Ctrl-D ends)")
        return ""
    except EOFError:
        print()
        return None


def _load_history(path: Path) -> bool:
    """Switch on line editing with earlier lines; return whether this Python can."""
    try:
        import readline
    except ImportError:
        return False
    readline.set_history_length(HISTORY_LENGTH)
    with suppress(OSError):
        readline.read_history_file(path)
    return True


def _save_history(path: Path) -> None:
    import readline

    with suppress(OSError):
        path.touch(mode=0o600)  # what people ask is their own
        readline.write_history_file(path)
