"""Make a GGUF model of any size with random weights, for benchmarks and tests.

`python -m training.random_gguf --layers 12 --width 768 --heads 12 --ffn 2048 --type Q8_0 OUT.gguf`

The model loads and generates in llama.cpp; what it says means nothing. Its tokenizer is that of
inferno-tiny, cut or padded to the wanted vocabulary. Needs numpy and gguf only.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind

_BUNDLED = Path(__file__).parents[1] / "src/inferno/engines/bundled/inferno-tiny.gguf"
_CONTROL_AND_BYTES = 3 + 256
_SPREAD = 0.02
"""Standard deviation of the weights: small enough that no layer's numbers run away."""

_FILE_TYPES = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "F32": gguf.LlamaFileType.ALL_F32,
}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Shape:
    """Sizes of the model: `width` of the residual stream, `ffn` of the feed-forward layer."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    context: int

    def check(self) -> None:
        """Raise ValueError for sizes that llama.cpp would refuse."""
        if self.width % self.heads or self.heads % self.kv_heads:
            raise ValueError("width must be a multiple of heads, and heads of kv_heads")
        if (self.width // self.heads) % 2:
            raise ValueError("width / heads must be even")
        if self.width % 32 or self.ffn % 32:
            raise ValueError("width and ffn must be multiples of 32")
        if self.vocab < _CONTROL_AND_BYTES:
            raise ValueError(f"vocab must be at least {_CONTROL_AND_BYTES}")

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors, rows first, in the order of the file."""
        kv_width = self.width // self.heads * self.kv_heads
        yield "token_embd.weight", (self.vocab, self.width)
        yield "output_norm.weight", (self.width,)
        for index in range(self.layers):
            prefix = f"blk.{index}"
            yield f"{prefix}.attn_norm.weight", (self.width,)
            yield f"{prefix}.attn_q.weight", (self.width, self.width)
            yield f"{prefix}.attn_k.weight", (kv_width, self.width)
            yield f"{prefix}.attn_v.weight", (kv_width, self.width)
            yield f"{prefix}.attn_output.weight", (self.width, self.width)
            yield f"{prefix}.ffn_norm.weight", (self.width,)
            yield f"{prefix}.ffn_gate.weight", (self.ffn, self.width)
            yield f"{prefix}.ffn_up.weight", (self.ffn, self.width)
            yield f"{prefix}.ffn_down.weight", (self.width, self.ffn)


@dataclass(frozen=True)
class _Tokenizer:
    tokens: list[str]
    types: list[int]
    merges: list[str]
    split: str
    chat_template: str


def _read_tokenizer(path: Path, vocab: int) -> _Tokenizer:
    """Read the tokenizer of a GGUF file and fit it to `vocab` tokens."""
    fields = gguf.GGUFReader(path).fields
    tokens = list(fields["tokenizer.ggml.tokens"].contents())[:vocab]
    types = list(fields["tokenizer.ggml.token_type"].contents())[:vocab]
    known = set(tokens)
    merges = [
        merge
        for merge in fields["tokenizer.ggml.merges"].contents()
        if known.issuperset(merge.split(" ")) and merge.replace(" ", "") in known
    ]
    for index in range(len(tokens), vocab):
        tokens.append(f"Ġpad{index}")
        types.append(int(gguf.TokenType.NORMAL))
    split, template = (
        str(fields[name].contents()) for name in ("tokenizer.ggml.pre", "tokenizer.chat_template")
    )
    return _Tokenizer(tokens, types, merges, split, template)


def _kind(shape: tuple[int, ...], quantization: str) -> Kind:
    """Norms are always F32."""
    return Kind.F32 if len(shape) == 1 else Kind[quantization]


def _stored_shape(shape: tuple[int, ...], kind: Kind) -> tuple[int, ...]:
    """Shape of the array that holds a tensor: bytes for Q8_0, numbers otherwise."""
    if kind is Kind.Q8_0:
        return tuple(gguf.quant_shape_to_byte_shape(shape, kind))
    return shape


def _stored_type(kind: Kind) -> np.dtype[Any]:
    names = {Kind.Q8_0: np.uint8, Kind.F16: np.float16, Kind.F32: np.float32}
    return np.dtype(names[kind])


def _random_tensor(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind) -> Array:
    """Random contents of one tensor; norms are ones."""
    if len(shape) == 1:
        return np.ones(shape, dtype=np.float32)
    if kind is Kind.Q8_0:
        return _random_q8_0(rng, shape)
    # Uniform numbers cost a fraction of normal ones and do as well.
    numbers = rng.random(shape, dtype=np.float32)
    numbers -= 0.5
    numbers *= _SPREAD * math.sqrt(12)
    return numbers.astype(_stored_type(kind), copy=False)


def _random_q8_0(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Blocks of a half-precision scale and 32 signed bytes, made without quantizing anything."""
    rows, width = shape
    blocks = np.frombuffer(rng.bytes(rows * width // 32 * 34), dtype=np.uint8).copy()
    blocks = blocks.reshape(-1, 34)
    scale = np.array([_SPREAD * math.sqrt(12) / 256], dtype=np.float16)
    blocks[:, :2] = scale.view(np.uint8)
    return blocks.reshape(_stored_shape(shape, Kind.Q8_0))


def _write_metadata(writer: gguf.GGUFWriter, shape: _Shape, quantization: str) -> None:
    writer.add_name(f"random-{shape.layers}x{shape.width}")
    writer.add_description("Random weights, for benchmarks and tests.")
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: _Tokenizer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.split)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.types)
    writer.add_token_merges(tokenizer.merges)
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)


def write_random_gguf(
    path: Path | str,
    *,
    layers: int,
    width: int,
    heads: int,
    ffn: int,
    kv_heads: int | None = None,
    vocab: int = 4096,
    context: int = 4096,
    quantization: str = "Q8_0",
    seed: int = 1,
    tokenizer_from: Path | None = None,
) -> None:
    """Write a Llama model with random weights. Equal arguments give equal files.

    Args:
        path: file to write, replaced if it exists.
        layers: number of layers.
        width: width of the residual stream, a multiple of 32 and of `heads`.
        heads: attention heads.
        ffn: width of the feed-forward layer, a multiple of 32.
        kv_heads: heads of keys and values; as many as `heads` where not given.
        vocab: tokens in the vocabulary, at least 259.
        context: context length that the file declares, in tokens.
        quantization: type of the matrices: `Q8_0`, `F16` or `F32`.
        seed: seed of the weights.
        tokenizer_from: GGUF file whose tokenizer to use; the bundled model where not given.

    Raises:
        ValueError: sizes that do not fit together, or an unknown quantization.
    """
    shape = _Shape(layers, width, heads, kv_heads or heads, ffn, vocab, context)
    shape.check()
    if quantization not in _FILE_TYPES:
        raise ValueError(f"quantization must be one of {', '.join(_FILE_TYPES)}")
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_metadata(writer, shape, quantization)
    _write_tokenizer(writer, _read_tokenizer(tokenizer_from or _BUNDLED, vocab))
    _write_tensors(writer, shape, quantization, np.random.default_rng(seed))
    writer.close()


def _write_tensors(
    writer: gguf.GGUFWriter, shape: _Shape, quantization: str, rng: np.random.Generator
) -> None:
    """Declare all tensors, then write them one by one, so that only one is in memory."""
    for name, size in shape.tensors():
        kind = _kind(size, quantization)
        stored, dtype = _stored_shape(size, kind), _stored_type(kind)
        bytes_needed = math.prod(stored) * dtype.itemsize
        writer.add_tensor_info(name, stored, dtype, bytes_needed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, size in shape.tensors():
        writer.write_tensor_data(_random_tensor(rng, size, _kind(size, quantization)))


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make a GGUF model with random weights.")
    parser.add_argument("path", type=Path, metavar="OUT.gguf")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--kv-heads", type=int, help="as many as --heads where not given")
    parser.add_argument("--ffn", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--type", choices=sorted(_FILE_TYPES), default="Q8_0")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write_random_gguf(
        arguments.path,
        layers=arguments.layers,
        width=arguments.width,
        heads=arguments.heads,
        kv_heads=arguments.kv_heads,
        ffn=arguments.ffn,
        vocab=arguments.vocab,
        context=arguments.context,
        quantization=arguments.type,
        seed=arguments.seed,
    )
    print(f"{arguments.path}: {arguments.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
