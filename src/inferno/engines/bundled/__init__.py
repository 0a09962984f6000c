"""The model that ships with Inferno, so that a fresh installation answers without a download.

`MODEL_CARD.md` beside this file says what the model can and cannot do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MODEL_NAME: Final = "inferno-tiny"
"""Name under which clients ask for the bundled model."""

_FOLDER: Final = Path(__file__).resolve().parent


def model_path() -> Path:
    """Path of the bundled GGUF file. It is read-only data of the package."""
    return _FOLDER / f"{MODEL_NAME}.gguf"


def model_card_path() -> Path:
    """Path of the bundled model's card."""
    return _FOLDER / "MODEL_CARD.md"
