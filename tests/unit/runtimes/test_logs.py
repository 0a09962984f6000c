from pathlib import Path

import pytest

from inferno.runtimes.logs import ReplicaLog


@pytest.fixture
def log(tmp_path: Path) -> ReplicaLog:
    return ReplicaLog(tmp_path / "logs" / "pod.log", limit=100)


def _write(log: ReplicaLog, text: str) -> None:
    with log.open() as file:
        file.write(text.encode())


def test_lines_and_tail(log: ReplicaLog) -> None:
    assert not log.exists()
    assert log.lines(None) == ([], 0)
    _write(log, "one\ntwo\nthree\nunfin")
    assert log.lines(None)[0] == ["one", "two", "three"]
    assert log.lines(2)[0] == ["two", "three"]
    assert log.lines(0)[0] == []
    assert log.lines(99)[0] == ["one", "two", "three"]


def test_following_goes_on_where_the_tail_ended(log: ReplicaLog) -> None:
    _write(log, "one\ntw")
    _, offset = log.lines(None)
    assert log.more(offset) == ([], offset)
    _write(log, "o\nthree\n")
    lines, offset = log.more(offset)
    assert lines == ["two", "three"]
    assert log.more(offset) == ([], offset)


def test_following_survives_rotation(log: ReplicaLog) -> None:
    _write(log, "x" * 200 + "\n")
    _, offset = log.lines(None)
    log.rotate()
    _write(log, "new\n")
    assert log.more(offset)[0] == ["new"]


def test_a_process_writes_on_while_its_log_is_rotated(log: ReplicaLog) -> None:
    with log.open() as file:
        for at in range(100):
            file.write(f"line {at:03}\n".encode())
            log.rotate()
            assert log.path.stat().st_size <= 110
    assert sum(path.stat().st_size for path in log.path.parent.iterdir()) < 300
    assert log.lines(None)[0][-1] == "line 099"


def test_only_the_latest_start_is_diagnosed(log: ReplicaLog) -> None:
    _write(log, "out of memory\n")
    _write(log, "all well\n")
    assert log.since_start() == "all well\n"


def test_removal(log: ReplicaLog) -> None:
    _write(log, "x" * 200)
    log.rotate()
    log.remove()
    assert not list(log.path.parent.iterdir())
    assert log.since_start() == ""
    log.rotate()
    log.remove()
    with pytest.raises(FileNotFoundError):
        log.more(0)
