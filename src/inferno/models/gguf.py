"""GGUF headers: what a model file says about itself, read without touching its tensors.

The reader trusts nothing in the file. Every count and length has a limit, values that nobody
asks for are stepped over, and work is bounded by the limits below, whatever the file claims.
It reads with `pread` and never maps the file: a file that shrinks meanwhile would otherwise
kill the process with SIGBUS.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inferno.models.ggml import FILE_TYPES, TENSOR_TYPES

Reason = Literal["NotGGUF", "UnsupportedVersion", "Truncated", "Corrupt"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_WINDOW = 1 << 20  # bytes per read
_MAX_KEY_VALUES = 4096
_MAX_TENSORS = 100_000
_MAX_KEY_LENGTH = 65_535  # bytes, by the specification
_MAX_KEPT_STRING = 1024  # bytes; longer strings are known to be there, and not kept
_MAX_STRING = 1 << 26  # bytes
_MAX_STEPS = 4_000_000  # strings and inner arrays walked over; the largest vocabularies have 0.6 M
_MAX_ARRAY = 1 << 32  # elements
_MAX_SUMMED_ARRAY = 4096  # elements; longest array of per-layer figures
_MAX_DEPTH = 4  # arrays within arrays
_MAX_DIMENSIONS = 8
_MAX_TOKENS_SEARCHED = 1 << 26  # bytes of vocabulary searched for special tokens

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: _U32,
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: _U64,
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_STRING, _ARRAY = 8, 9
_GUESSED_FILE_TYPE = 1024  # llama.cpp's mark for "not said"
_INTEGERS = (0, 1, 2, 3, 4, 5, 10, 11)

# llama.cpp finds these in the vocabulary of files that do not name their infill tokens by id
_INFILL_TEXTS = (
    ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>", "<｜fim▁begin｜>"),
    ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "▁<SUF>", "<｜fim▁hole｜>"),
    ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "▁<MID>", "<｜fim▁end｜>"),
)
_INFILL_KEYS = (
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"),
    ("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"),
    ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"),
)


class GGUFError(Exception):
    """A file is not a GGUF file that can be used.

    Args:
        reason: `NotGGUF`, `UnsupportedVersion`, `Truncated` (more bytes may still come) or
            `Corrupt`.
        message: one sentence for a person, without the file's path.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFHeader:
    """What a GGUF file says about itself. Figures that it does not give are 0, texts are empty.

    Args:
        version: version of the file format.
        type: `general.type`: `model`, `adapter`, `imatrix`, …; `model` where the file is silent.
        architecture: `llama`, `qwen2`, …; empty in every shard of a split model but the first.
        name: the model's title.
        license: SPDX identifier or free text.
        file_type: the quantization's name (`Q4_K_M`); the name of the type that holds most
            weights where the file does not say.
        context_length: tokens that the model was trained for.
        embedding_length: width of the model.
        block_count: layers.
        head_count: attention heads; the largest, where layers differ.
        head_count_kv: key and value heads; the largest, where layers differ.
        kv_heads_total: key and value heads of all layers together.
        key_length, value_length: width of one head's key and value.
        vocabulary_size: tokens.
        parameter_count: weights of all tensors in this file.
        tensor_count: tensors in this file.
        has_chat_template: whether the file brings one.
        has_infill: whether it has the tokens for filling in the middle.
        split_count: shards that the whole model has; 0 when it is not split.
        size_bytes: size of the file when its header was read.
    """

    version: int
    type: str
    architecture: str
    name: str
    license: str
    file_type: str
    context_length: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    kv_heads_total: int
    key_length: int
    value_length: int
    vocabulary_size: int
    parameter_count: int
    tensor_count: int
    has_chat_template: bool
    has_infill: bool
    split_count: int
    size_bytes: int


def read_header(path: Path | str) -> GGUFHeader:
    """Reads a file's header and checks that all its tensors lie within the file.

    Takes milliseconds; a vocabulary of 150,000 tokens costs about ten. Blocks on the disk.

    Args:
        path: the file.

    Raises:
        GGUFError: the file is not a complete GGUF file of a version that engines read.
        OSError: the file cannot be opened or read.
    """
    with _opened(path) as (descriptor, size):
        cursor = _Cursor(descriptor, size)
        version, tensor_count, key_count = _read_start(cursor)
        values = _read_values(cursor, key_count)
        tensors = _read_tensors(cursor, tensor_count, values)
        return _header(version, size, values, tensors)


def kv_cache_bytes_per_token(header: GGUFHeader) -> int:
    """Estimates the memory that one token of context takes in an F16 cache, in bytes.

    An upper bound for models that share, compress or window their cache; 0 for models without
    attention.
    """
    return 2 * header.kv_heads_total * (header.key_length + header.value_length)


@dataclass(slots=True)
class _Sequence:
    """What is kept of an array: its length, and sum and maximum of short ones of integers."""

    count: int
    total: int = 0
    largest: int = 0


@dataclass(slots=True)
class _Values:
    """The file's metadata, as far as somebody asks for it."""

    scalars: dict[str, int | float | bool] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)  # empty for long ones
    sequences: dict[str, _Sequence] = field(default_factory=dict)
    infill_tokens: bool = False

    def __contains__(self, key: str) -> bool:
        return key in self.scalars or key in self.strings or key in self.sequences

    def text(self, key: str) -> str:
        """The string under a key, or nothing."""
        if key in self.scalars or key in self.sequences:
            raise GGUFError("Corrupt", f"The file's '{key}' should be text.")
        return self.strings.get(key, "")

    def number(self, key: str, default: int = 0) -> int:
        """The count under a key: a scalar, or the largest of a list of them."""
        if key in self.sequences:
            return self.sequences[key].largest
        value = self.scalars.get(key, default)
        if key in self.strings or isinstance(value, float) or value < 0:
            raise GGUFError("Corrupt", f"The file's '{key}' should be a count.")
        return int(value)


@dataclass(slots=True)
class _Tensors:
    """What the list of tensors adds up to."""

    count: int = 0
    parameters: int = 0
    weights_by_type: dict[int, int] = field(default_factory=dict)


class _Cursor:
    """Reads forward through a file by windows, and can step over what nobody needs."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.steps_left = _MAX_STEPS
        self._descriptor = descriptor
        self._window = b""
        self._base = 0
        self._at = 0  # within the window; beyond its end after a skip

    @property
    def position(self) -> int:
        return self._base + self._at

    def take(self, length: int) -> bytes:
        self._need(length)
        start = self._at
        self._at += length
        return self._window[start : self._at]

    def skip(self, length: int) -> None:
        if length > self.size - self.position:
            raise _truncated()
        self._at += length

    def scalar(self, layout: struct.Struct) -> int:
        self._need(layout.size)
        value: int = layout.unpack_from(self._window, self._at)[0]
        self._at += layout.size
        return value

    def text_bytes(self, limit: int) -> bytes:
        length = self.scalar(_U64)
        if length > limit:
            raise GGUFError("Corrupt", f"A text in the header claims to be {length} bytes long.")
        return self.take(length)

    def skip_string(self) -> None:
        self.skip(_plausible(self.scalar(_U64), _MAX_STRING, "bytes of text"))

    def step(self, count: int) -> None:
        self.steps_left -= count
        if self.steps_left < 0:
            raise GGUFError("Corrupt", f"The header holds more than {_MAX_STEPS} list entries.")

    def skip_strings(self, count: int) -> None:
        """Steps over strings; the hot loop, at about 60 ns for each."""
        self.step(count)
        length_at = _U64.unpack_from
        while count:
            self._need(8)
            window, at, done = self._window, self._at, 0
            try:
                for done in range(1, count + 1):  # noqa: B007
                    at += 8 + length_at(window, at)[0]
            except (struct.error, OverflowError):
                done -= 1  # the last one's length lies beyond the window
            count -= done
            self._at = at
            if self.position > self.size:
                _plausible(self.position - self.size, _MAX_STRING, "bytes of text")
                raise _truncated()

    def contains(self, start: int, end: int, texts: tuple[tuple[str, ...], ...]) -> bool:
        """Whether the strings between two positions have one of each group of texts."""
        if end - start > _MAX_TOKENS_SEARCHED:
            return False
        region = os.pread(self._descriptor, end - start, start)
        return all(any(_encoded(text) in region for text in group) for group in texts)

    def _need(self, length: int) -> None:
        if len(self._window) - self._at >= length:
            return
        position = self.position
        if length > self.size - position:
            raise _truncated()
        self._window = os.pread(self._descriptor, max(length, _WINDOW), position)
        self._base, self._at = position, 0
        if len(self._window) < length:  # it shrank since it was opened
            raise _truncated()


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[int, int]]:
    # O_NONBLOCK: a FIFO that took the file's place must not block the reader for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise GGUFError("NotGGUF", "It is not a regular file.")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read_start(cursor: _Cursor) -> tuple[int, int, int]:
    magic = cursor.take(min(len(_MAGIC), cursor.size))
    if not magic or not _MAGIC.startswith(magic):
        detail = "The file is empty." if not magic else "It does not begin with 'GGUF'."
        raise GGUFError("NotGGUF" if magic else "Truncated", detail)
    version = cursor.scalar(_U32)
    if version not in _VERSIONS:
        big_endian = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        detail = "it is big-endian" if big_endian else f"version {version}"
        raise GGUFError(
            "UnsupportedVersion",
            f"The GGUF file cannot be read ({detail}); engines read versions 2 and 3, "
            "little-endian. Convert the model again with a current tool.",
        )
    tensors = _plausible(cursor.scalar(_U64), _MAX_TENSORS, "tensors")
    return version, tensors, _plausible(cursor.scalar(_U64), _MAX_KEY_VALUES, "metadata entries")


def _read_values(cursor: _Cursor, count: int) -> _Values:
    values = _Values()
    for _ in range(count):
        key = cursor.text_bytes(_MAX_KEY_LENGTH).decode("utf-8", "replace")[:_MAX_KEPT_STRING]
        if key in values:
            raise GGUFError("Corrupt", f"The header has '{key}' twice.")
        _read_value(cursor, key, cursor.scalar(_U32), values)
    return values


def _read_value(cursor: _Cursor, key: str, kind: int, values: _Values) -> None:
    if kind == _STRING:
        values.strings[key] = _kept_string(cursor)
    elif kind == _ARRAY:
        start = cursor.position
        values.sequences[key] = _read_array(cursor)
        if key == "tokenizer.ggml.tokens":
            values.infill_tokens = cursor.contains(start, cursor.position, _INFILL_TEXTS)
    elif kind in _SCALARS:
        values.scalars[key] = cursor.scalar(_SCALARS[kind])
    else:
        raise _unknown_kind(kind)


def _kept_string(cursor: _Cursor) -> str:
    length = _plausible(cursor.scalar(_U64), _MAX_STRING, "bytes of text")
    if length > _MAX_KEPT_STRING:
        cursor.skip(length)
        return ""
    return cursor.take(length).decode("utf-8", "replace")


def _read_array(cursor: _Cursor, depth: int = 1) -> _Sequence:
    kind = cursor.scalar(_U32)
    count = _plausible(cursor.scalar(_U64), _MAX_ARRAY, "list entries")
    if kind == _STRING:
        cursor.skip_strings(count)
    elif kind == _ARRAY:
        _skip_arrays(cursor, count, depth)
    elif kind not in _SCALARS:
        raise _unknown_kind(kind)
    elif kind in _INTEGERS and count <= _MAX_SUMMED_ARRAY and depth == 1:
        return _summed(cursor, _SCALARS[kind], count)
    else:
        cursor.skip(count * _SCALARS[kind].size)
    return _Sequence(count)


def _skip_arrays(cursor: _Cursor, count: int, depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise GGUFError("Corrupt", f"Lists in the header are nested deeper than {_MAX_DEPTH}.")
    cursor.step(count)
    for _ in range(count):
        _read_array(cursor, depth + 1)


def _summed(cursor: _Cursor, layout: struct.Struct, count: int) -> _Sequence:
    numbers = [number for (number,) in layout.iter_unpack(cursor.take(count * layout.size))]
    return _Sequence(count, max(0, sum(numbers)), max(0, *numbers, 0))


def _read_tensors(cursor: _Cursor, count: int, values: _Values) -> _Tensors:
    tensors = _Tensors(count)
    alignment = values.number("general.alignment", 32)
    if alignment == 0 or alignment & (alignment - 1):
        raise GGUFError("Corrupt", f"The alignment {alignment} is not a power of two.")
    end = 0
    for _ in range(count):
        end = max(end, _read_tensor(cursor, tensors, alignment))
    start = -(-cursor.position // alignment) * alignment
    if count and start + end > cursor.size:
        raise _truncated()
    return tensors


def _read_tensor(cursor: _Cursor, tensors: _Tensors, alignment: int) -> int:
    """Adds one tensor to the totals and returns where its data ends, from the data's start."""
    cursor.skip_string()
    dimensions = _plausible(cursor.scalar(_U32), _MAX_DIMENSIONS, "dimensions of a tensor")
    shape = struct.unpack(f"<{dimensions}Q", cursor.take(8 * dimensions))
    kind, offset = cursor.scalar(_U32), cursor.scalar(_U64)
    weights = 1
    for length in shape:
        weights = _plausible(weights * length, 1 << 62, "weights in a tensor")
    if offset % alignment or offset > 1 << 62:
        raise GGUFError("Corrupt", "A tensor begins at a place where none can begin.")
    tensors.parameters += weights
    tensors.weights_by_type[kind] = tensors.weights_by_type.get(kind, 0) + weights
    if kind not in TENSOR_TYPES:  # newer than this table: the engine knows its size
        return offset
    _, block_weights, block_bytes = TENSOR_TYPES[kind]
    if shape and shape[0] % block_weights:
        raise GGUFError("Corrupt", "A tensor's rows are not whole blocks of its type.")
    return int(offset + weights // block_weights * block_bytes)


def _header(version: int, size: int, values: _Values, tensors: _Tensors) -> GGUFHeader:
    architecture = values.text("general.architecture")

    def figure(name: str, default: int = 0) -> int:
        return values.number(f"{architecture}.{name}", default)

    heads = figure("attention.head_count")
    head_length = figure("embedding_length") // heads if heads else 0
    return GGUFHeader(
        version=version,
        type=values.text("general.type") or "model",
        architecture=architecture,
        name=values.text("general.name"),
        license=values.text("general.license"),
        file_type=_file_type(values, tensors),
        context_length=figure("context_length"),
        embedding_length=figure("embedding_length"),
        block_count=figure("block_count"),
        head_count=heads,
        head_count_kv=figure("attention.head_count_kv", heads),
        kv_heads_total=_kv_heads_total(values, architecture, heads),
        key_length=figure("attention.key_length", head_length),
        value_length=figure("attention.value_length", head_length),
        vocabulary_size=_vocabulary_size(values, architecture),
        parameter_count=tensors.parameters,
        tensor_count=tensors.count,
        has_chat_template="tokenizer.chat_template" in values,
        has_infill=values.infill_tokens
        or all(any(key in values for key in keys) for keys in _INFILL_KEYS),
        split_count=values.number("split.count"),
        size_bytes=size,
    )


def _kv_heads_total(values: _Values, architecture: str, heads: int) -> int:
    key = f"{architecture}.attention.head_count_kv"
    if key in values.sequences:
        return values.sequences[key].total
    return values.number(key, heads) * values.number(f"{architecture}.block_count")


def _vocabulary_size(values: _Values, architecture: str) -> int:
    tokens = values.sequences.get("tokenizer.ggml.tokens")
    return tokens.count if tokens else values.number(f"{architecture}.vocab_size")


def _file_type(values: _Values, tensors: _Tensors) -> str:
    named = FILE_TYPES.get(values.number("general.file_type", _GUESSED_FILE_TYPE))
    if named or not tensors.weights_by_type:
        return named or ""
    most = max(tensors.weights_by_type, key=lambda kind: tensors.weights_by_type[kind])
    return TENSOR_TYPES[most][0] if most in TENSOR_TYPES else ""


def _plausible(number: int, limit: int, what: str) -> int:
    if number > limit:
        raise GGUFError("Corrupt", f"The header claims {number} {what}; at most {limit} can be.")
    return number


def _encoded(text: str) -> bytes:
    raw = text.encode()
    return _U64.pack(len(raw)) + raw


def _unknown_kind(kind: int) -> GGUFError:
    return GGUFError("Corrupt", f"The header has a value of unknown type {kind}.")


def _truncated() -> GGUFError:
    return GGUFError("Truncated", "The file ends early: it is incomplete, or still being copied.")
