"""inferno-tiny: the small chat model that ships with Inferno, trained from scratch.

The text and `exam` need the standard library only; `tokenizer`, `model`, `train` and `export`
need the packages in `training/requirements.txt`.
"""
