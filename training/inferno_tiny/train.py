"""Train inferno-tiny from scratch and export it: `python -m training.inferno_tiny.train --out DIR`.

Everything is made from one seed: the text, the tokenizer, the first weights and the order of the
samples. On CUDA the same run is faster and its numbers differ in the last digits.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.inferno_tiny import corpus
from training.inferno_tiny.export import export_gguf
from training.inferno_tiny.model import ModelConfig, TinyLlama
from training.inferno_tiny.tokenizer import TEXT_ID, Encoder, train_tokenizer

_LONG_EVERY = 12
"""One step in so many trains on long samples."""
_ROUND_TO = 256
_IGNORED = -100
"""Target that the loss skips, as PyTorch's cross entropy defines it."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. A step sees `rows` × `length` tokens, or the long ones."""

    steps: int = 4000
    minutes: float = math.inf
    rows: int = 16
    length: int = 128
    long_rows: int = 3
    long_length: int = 768
    warmup: int = 80
    matrix_rate: float = 4e-3
    other_rate: float = 3e-3
    seed: int = 1


@dataclass(frozen=True)
class Batch:
    """Packed samples: ids and sample numbers (rows, length), and what is to be predicted where."""

    tokens: Tensor
    documents: Tensor
    positions: Tensor
    targets: Tensor


Maker = Callable[[random.Random], list[corpus.Piece]]


class Packer:
    """Fills rows with whole samples, one behind the other.

    A sample that is longer than a row goes to `too_long`, for a packer of longer rows.
    """

    def __init__(self, encoder: Encoder, rng: random.Random, maker: Maker) -> None:
        self.too_long: deque[list[corpus.Piece]] = deque(maxlen=1000)
        self._encoder = encoder
        self._rng = rng
        self._maker = maker
        self._waiting: tuple[list[int], list[bool]] | None = None

    def _next(self, longest: int) -> tuple[list[int], list[bool]]:
        """The next sample of at most `longest` tokens."""
        while True:
            pieces = self._maker(self._rng)
            ids, learned = self._encoder.encode(pieces)
            if len(ids) <= longest:
                return ids, learned
            self.too_long.append(pieces)

    def _fill(self, ids: np.ndarray, documents: np.ndarray, learned: np.ndarray) -> None:
        filled = number = 0
        while True:
            sample = self._waiting or self._next(len(ids))
            end = filled + len(sample[0])
            if end > len(ids):
                self._waiting = sample
                return
            self._waiting = None
            number += 1
            ids[filled:end], learned[filled:end] = sample
            documents[filled:end] = number
            filled = end

    def batch(self, rows: int, length: int, device: torch.device) -> Batch:
        """Pack a batch. Unused ends of rows are a sample of their own that is not learned."""
        ids = np.full((rows, length), TEXT_ID, dtype=np.int64)
        documents = np.zeros((rows, length), dtype=np.int64)
        learned = np.zeros((rows, length), dtype=bool)
        for row in range(rows):
            self._fill(ids[row], documents[row], learned[row])
        flat = np.flatnonzero(learned)
        # A learned token is the target of the position before it. The first token of a sample is
        # never learned, so that position is in the same sample.
        # Their number is rounded up: ever new shapes make PyTorch on CPU keep ever more memory.
        spare = -len(flat) % _ROUND_TO
        positions = np.pad(flat - 1, (0, spare))
        targets = np.pad(ids.reshape(-1)[flat], (0, spare), constant_values=_IGNORED)
        parts = (ids, documents, positions, targets)
        return Batch(*(torch.from_numpy(part).to(device) for part in parts))


def _packers(encoder: Encoder, plan: Plan) -> tuple[Packer, Packer]:
    """A packer of short rows, and one of long rows that also takes what the first cannot fit."""
    rng = random.Random(plan.seed)
    short = Packer(encoder, rng, corpus.sample)

    def long_sample(rng: random.Random) -> list[corpus.Piece]:
        if short.too_long and rng.random() < 0.7:
            return short.too_long.popleft()
        return corpus.long_sample(rng)

    return short, Packer(encoder, rng, long_sample)


def _optimizers(model: TinyLlama, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    inside = [p for p in model.blocks.parameters() if p.dim() == 2]
    chosen = {id(p) for p in inside}
    other = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        inside, lr=plan.matrix_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(other, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [muon, adam]


def learning_rate_factor(progress: float, step: int, warmup: int) -> float:
    """Share of the full learning rate: a short linear rise, then half a cosine down to 1 %."""
    rise = min(1.0, (step + 1) / warmup)
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _train_step(model: TinyLlama, batch: Batch) -> Tensor:
    with torch.autocast(batch.tokens.device.type, dtype=torch.bfloat16):
        logits = model(batch.tokens, batch.documents, batch.positions)
    loss = functional.cross_entropy(logits.float(), batch.targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.detach()


def train(
    model: TinyLlama,
    encoder: Encoder,
    plan: Plan,
    device: torch.device,
    report: Callable[[int, float, float, int], None],
) -> None:
    """Train `model` in place.

    Args:
        model: network on `device`.
        encoder: tokenizer of the samples.
        plan: how long and how fast.
        device: where to compute.
        report: called after each step with the step, its loss, seconds so far and tokens so far.
    """
    short, long = _packers(encoder, plan)
    optimizers = _optimizers(model, plan)
    full_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    started, tokens = time.monotonic(), 0
    for step in range(plan.steps):
        elapsed = time.monotonic() - started
        progress = max(step / plan.steps, elapsed / (60 * plan.minutes))
        if progress >= 1:
            break
        factor = learning_rate_factor(progress, step, plan.warmup)
        for optimizer, rate in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        is_long = step % _LONG_EVERY == _LONG_EVERY - 1
        if is_long:
            batch = long.batch(plan.long_rows, plan.long_length, device)
        else:
            batch = short.batch(plan.rows, plan.length, device)
        loss = _train_step(model, batch)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += batch.tokens.numel()
        report(step, loss.item(), time.monotonic() - started, tokens)


def _reporter(
    out: Path, model: TinyLlama, tokenizer_file: Path, every: int
) -> Callable[[int, float, float, int], None]:
    """Print a line every 20 steps, write a checkpoint and a GGUF every `every` steps."""
    losses: list[float] = []

    def report(step: int, loss: float, seconds: float, tokens: int) -> None:
        losses.append(loss)
        if step % 20 == 19:
            recent = sum(losses[-20:]) / 20
            print(
                f"step {step + 1} loss {recent:.4f} {seconds / 60:.1f} min "
                f"{tokens / seconds:.0f} tokens/s {tokens} tokens",
                flush=True,
            )
        if step % every == every - 1:
            _save(out, model, tokenizer_file)

    return report


def _save(out: Path, model: TinyLlama, tokenizer_file: Path) -> None:
    torch.save({"config": asdict(model.config), "weights": model.state_dict()}, out / "model.pt")
    export_gguf(model, tokenizer_file, out / "inferno-tiny.gguf")


def _arguments() -> argparse.Namespace:
    defaults = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--rate", type=float, default=defaults.matrix_rate)
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument("--resume", type=Path, help="model.pt to start from, tokenizer beside it")
    parser.add_argument("--checkpoint-every", type=int, default=400, help="steps")
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, out: Path) -> tuple[TinyLlama, Path]:
    """Make or read the tokenizer and the network."""
    tokenizer_file = out / "tokenizer.json"
    if arguments.resume:
        source = arguments.resume.with_name("tokenizer.json").read_bytes()
        tokenizer_file.write_bytes(source)
        saved = torch.load(arguments.resume, map_location="cpu", weights_only=True)
        model = TinyLlama(ModelConfig(**saved["config"]))
        model.load_state_dict(saved["weights"])
        return model, tokenizer_file
    config = ModelConfig()
    train_tokenizer(config.vocab, arguments.seed).save(str(tokenizer_file))
    return TinyLlama(config), tokenizer_file


def main() -> None:
    """Train, export, and write what it took to `training.json`."""
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer_file = _prepare(arguments, out)
    model.to(device)
    print(f"{model.parameter_count()} parameters on {device}", flush=True)
    plan = Plan(
        steps=arguments.steps,
        minutes=arguments.minutes,
        matrix_rate=arguments.rate,
        other_rate=arguments.rate * 0.75,
        seed=arguments.seed,
    )
    last: dict[str, float] = {}
    reporter = _reporter(out, model, tokenizer_file, arguments.checkpoint_every)

    def report(step: int, loss: float, seconds: float, tokens: int) -> None:
        last.update(steps=step + 1, loss=loss, minutes=seconds / 60, tokens=tokens)
        reporter(step, loss, seconds, tokens)

    train(model, Encoder.load(tokenizer_file), plan, device, report)
    _save(out, model, tokenizer_file)
    (out / "training.json").write_text(json.dumps(last, indent=2) + "\n")
    print(json.dumps(last), flush=True)


if __name__ == "__main__":
    main()
