"""The tokenizer: byte-level BPE, split like llama.cpp's `llama-bpe` pre-tokenizer."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.inferno_tiny import corpus

CONTROL = (corpus.TEXT, corpus.START, corpus.END)
"""Control tokens, whose ids are 0, 1 and 2."""
TEXT_ID, START_ID, END_ID = range(3)

PRE_TOKENIZER = "llama-bpe"
"""The name by which llama.cpp knows this way of splitting; it takes whole known words unmerged."""

# Up to three digits stay together: small numbers as one token each make sums far easier to learn
# than digit by digit.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(vocab: int, seed: int, samples: int = 60_000) -> Tokenizer:
    """Learn merges from generated text.

    Args:
        vocab: number of tokens, control tokens and the 256 bytes included.
        seed: seed of the generated text.
        samples: how many samples to learn from.
    """
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.plain_text(random.Random(seed), samples), trainer)
    return tokenizer


class Encoder:
    """Turns samples into token ids and says which of them the loss looks at."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = lru_cache(maxsize=100_000)(self._encode)

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read a tokenizer.json."""
        return cls(Tokenizer.from_file(str(path)))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def encode(self, pieces: list[corpus.Piece]) -> tuple[list[int], list[bool]]:
        """Encode a sample behind the start-of-text token.

        Returns:
            Token ids, and for each whether it is learned; both of the same length.
        """
        ids, learned = [TEXT_ID], [False]
        for piece in pieces:
            new = self._ids(piece.text)
            ids += new
            learned += [piece.learned] * len(new)
        return ids, learned
