"""Stands in for `python -P -m inferno serve`, in tests of commands that start a server.

What it does can be chosen by the file `DATA_DIR/behaviour`: `refuse` ends at once with an error.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.unit.cli.conftest import announce, serving


def main(arguments: list[str]) -> int:
    data_dir = Path(arguments[arguments.index("--data-dir") + 1])
    (data_dir / "pid").write_text(str(os.getpid()))
    (data_dir / "arguments").write_text(" ".join(arguments))
    if (data_dir / "behaviour").exists():
        print("some log line\ninferno: the models folder cannot be read", file=sys.stderr)
        return 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with serving() as platform:
        announce(data_dir, platform.url, os.getpid())
        signal.sigwait({signal.SIGTERM})
        (data_dir / "left").write_text(str(platform.left.wait(1)))
    (data_dir / "run.json").unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
