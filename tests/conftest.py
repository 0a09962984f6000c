"""What all tests need of the process that they run in."""

from __future__ import annotations

import gc
import signal

import hypothesis
import pytest

# A shell starts background jobs with SIGINT ignored, and whatever they start inherits that. Tests
# send SIGINT to programs of theirs, so here it has to have its meaning.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test asserts a time: a busy machine is no fault of the code's.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Keep the collector away from what earlier modules left: many tests ask it to look round."""
    gc.collect()
    gc.freeze()
