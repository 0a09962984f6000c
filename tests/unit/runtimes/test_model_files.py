from pathlib import Path

import pytest

from inferno.core.errors import InvalidRequest
from inferno.runtimes.keys import replica_key
from inferno.runtimes.leftovers import kill_leftover
from inferno.runtimes.model_files import local_file


def test_local_files() -> None:
    path = Path("/models/a b#1.gguf")
    assert local_file(path.as_uri()) == path
    assert local_file(str(path)) == path
    assert local_file("file://localhost/m.gguf") == Path("/m.gguf")


@pytest.mark.parametrize("uri", ["", "m.gguf", "s3://b/m", "file://host/m.gguf", "file:"])
def test_everything_else_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        local_file(uri)


def test_replica_keys_are_derived() -> None:
    key = replica_key(b"secret", "uid")
    assert len(key) == 64
    assert key == replica_key(b"secret", "uid")
    assert key != replica_key(b"secret", "uid2")
    assert key != replica_key(b"other", "uid")


def test_processes_of_others_are_left_alone() -> None:
    assert not kill_leftover(1, "some uid")
    assert not kill_leftover(2**22 + 1, "some uid")
