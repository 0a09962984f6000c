from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGUFReader, LlamaFileType
from gguf.constants import GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.models.ggml import FILE_TYPES, TENSOR_TYPES
from inferno.models.gguf import GGUFError, GGUFHeader, kv_cache_bytes_per_token, read_header
from tests.unit.models.conftest import MakeModel, write_model


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _file(values: bytes, count: int = 1, *, version: int = 3, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + values


def _value(kind: int, payload: bytes, key: bytes = b"k") -> bytes:
    return _string(key) + struct.pack("<I", kind) + payload


def _tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _string(b"t") + dimensions + struct.pack("<IQ", kind, offset)


def _read(tmp_path: Path, content: bytes) -> GGUFHeader:
    path = tmp_path / "made.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_header_agrees_with_the_reference_reader(tmp_path: Path, make_model: MakeModel) -> None:
    path = make_model(tmp_path / "m.gguf", infill=True)
    header, oracle = read_header(path), GGUFReader(path)

    def value(key: str) -> object:
        return oracle.fields[key].contents()

    assert header.version == value("GGUF.version")
    assert header.architecture == value("general.architecture")
    assert header.name == value("general.name")
    assert header.license == value("general.license")
    assert header.context_length == value("llama.context_length")
    assert header.embedding_length == value("llama.embedding_length")
    assert header.block_count == value("llama.block_count")
    assert header.head_count == value("llama.attention.head_count")
    assert header.head_count_kv == value("llama.attention.head_count_kv")
    assert header.vocabulary_size == len(value("tokenizer.ggml.tokens"))  # type: ignore[arg-type]
    assert header.tensor_count == len(oracle.tensors)
    assert header.parameter_count == sum(int(tensor.n_elements) for tensor in oracle.tensors)
    assert header.file_type == "Q8_0"
    assert header.has_chat_template
    assert header.has_infill
    assert header.size_bytes == path.stat().st_size
    # F16 keys and values, 2 layers of 2 heads that are 64 / 4 wide
    assert kv_cache_bytes_per_token(header) == 2 * 2 * 2 * (16 + 16)


def test_tables_agree_with_the_reference() -> None:
    assert {
        int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType
    } == TENSOR_TYPES
    names = {int(kind): kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    assert names == {**FILE_TYPES, 0: "ALL_F32", 1024: "GUESSED"}


def test_infill_tokens_are_found_in_the_vocabulary(tmp_path: Path) -> None:
    texts = [b"<|fim_prefix|>", b"<|fim_suffix|>", b"<|fim_middle|>"]
    tokens = struct.pack("<IQ", 8, 3) + b"".join(_string(text) for text in texts)
    content = _file(_value(9, tokens, b"tokenizer.ggml.tokens"))
    assert _read(tmp_path, content).has_infill
    assert not _read(tmp_path, content.replace(b"suffix", b"xuffix")).has_infill


def test_figures_given_per_layer(tmp_path: Path) -> None:
    heads = struct.pack("<IQ4i", 5, 4, 0, 8, 8, 2)
    values = (
        _value(8, _string(b"x"), b"general.architecture")
        + _value(9, heads, b"x.attention.head_count_kv")
        + _value(4, struct.pack("<I", 4), b"x.block_count")
        + _value(4, struct.pack("<I", 8), b"x.attention.head_count")
        + _value(4, struct.pack("<I", 512), b"x.embedding_length")
    )
    header = _read(tmp_path, _file(values, 5))
    assert header.head_count_kv == 8
    assert kv_cache_bytes_per_token(header) == 2 * 18 * 128


def test_shard_without_architecture(tmp_path: Path) -> None:
    values = _value(2, struct.pack("<H", 3), b"split.count")
    header = _read(tmp_path, _file(values))
    assert (header.architecture, header.split_count) == ("", 3)


U64_MAX = 2**64 - 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Truncated"),
        (b"GG", "Truncated"),
        (b"GGUF\3\0", "Truncated"),
        (b"GGML" + bytes(60), "NotGGUF"),
        (b"\0" * 64, "NotGGUF"),
        (b"PK\3\4", "NotGGUF"),
        (_file(b"", version=99), "UnsupportedVersion"),
        (_file(b"", version=1), "UnsupportedVersion"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "UnsupportedVersion"),
        (_file(b"", count=U64_MAX), "Corrupt"),
        (_file(b"", tensors=U64_MAX), "Corrupt"),
        (_file(struct.pack("<Q", U64_MAX)), "Corrupt"),
        (_file(struct.pack("<Q", 100) + b"short"), "Truncated"),
        (_file(_value(8, struct.pack("<Q", U64_MAX))), "Corrupt"),
        (_file(_value(8, struct.pack("<Q", 1 << 20))), "Truncated"),
        (_file(_value(77, b"")), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 4, U64_MAX))), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 4, 1 << 31))), "Truncated"),
        (_file(_value(9, struct.pack("<IQ", 8, 1 << 31))), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 8, 1000))), "Truncated"),
        (_file(_value(9, struct.pack("<IQQ", 8, 2, U64_MAX))), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 9, U64_MAX))), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 9, 1) * 50)), "Corrupt"),
        (_file(_value(9, struct.pack("<IQ", 99, 1))), "Corrupt"),
        (_file(_value(7, b"\1") * 2, 2), "Corrupt"),
        (_file(_value(4, bytes(4), b"general.architecture")), "Corrupt"),
        (_file(_value(4, bytes(4), b"general.alignment")), "Corrupt"),
        (_file(_value(8, _string(b"x"), b"general.alignment")), "Corrupt"),
        (_file(_value(5, b"\xff" * 4, b"split.count")), "Corrupt"),
        (_file(_tensor((32,)), 0, tensors=1), "Truncated"),
        (_file(_tensor((32,), offset=7), 0, tensors=1), "Corrupt"),
        (_file(_tensor((2**40, 2**40)), 0, tensors=1), "Corrupt"),
        (_file(_tensor((1,) * 9), 0, tensors=1), "Corrupt"),
        (_file(_tensor((31,), kind=8), 0, tensors=1), "Corrupt"),
        (_file(_tensor((32,), kind=999, offset=1 << 20), 0, tensors=1), "Truncated"),
    ],
)
def test_hostile_files(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(GGUFError) as caught:
        _read(tmp_path, content)
    assert caught.value.reason == reason
    assert caught.value.message.endswith(".")


def test_every_proper_beginning_is_truncated(tmp_path: Path, make_model: MakeModel) -> None:
    content = make_model(tmp_path / "m.gguf").read_bytes()
    for length in [*range(0, 3000, 7), *range(3000, len(content) - 32, 97)]:
        with pytest.raises(GGUFError) as caught:
            _read(tmp_path, content[:length])
        assert caught.value.reason == "Truncated"


def test_special_files_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GGUFError, match="regular file"):
        read_header(tmp_path / "pipe.gguf")
    with pytest.raises(GGUFError):
        read_header(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.gguf")


def test_large_vocabularies_are_walked_fast(tmp_path: Path) -> None:
    count = 150_000
    strings = b"".join(_string(b"token%d" % number) for number in range(count))
    path = tmp_path / "large.gguf"
    tokens = _value(9, struct.pack("<IQ", 8, count) + strings, b"tokenizer.ggml.tokens")
    path.write_bytes(_file(tokens))
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        assert read_header(path).vocabulary_size == count
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.1  # a loose bound: about 0.012 s on one idle core


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("valid") / "m.gguf").read_bytes()


@settings(
    max_examples=400, deadline=500, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutations_never_raise_anything_else(
    valid: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(
            st.binary(min_size=1, max_size=8)
            | st.integers(0, U64_MAX).map(lambda number: struct.pack("<Q", number))
            | st.sampled_from([b"\xff" * 8, b"\xff" * 4, b"\0" * 8, b"\t\0\0\0"])
        )
        content[place : place + data.draw(st.sampled_from([0, len(noise)]))] = noise
    tracemalloc.start()
    try:
        _read(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))]))
    except GGUFError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 << 20
