"""How requests for a model name are shared between its targets (seed 002, `TargetModel.weight`).

A target's share is its weight over the sum of all weights. A session stays with its target: it goes
where a hash of its key says, so that every gateway sends it to the same place without asking. When
weights change, only as many sessions move as have to: those that a target which gains draws to it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from inferno.core.errors import NoValidTarget
from inferno.core.inference_models import TargetModel


@dataclass(frozen=True, slots=True)
class TargetSplit:
    """The targets of one model name.

    Args:
        model_name: what clients ask for.
        weights: of targets by name, all above 0; empty where the name is only reserved.
    """

    model_name: str
    weights: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, model_name: str, targets: Iterable[TargetModel]) -> TargetSplit:
        """Return the split that targets ask for; without any, the name stands for itself."""
        weights: dict[str, int] = {}
        is_given = False
        for target in targets:
            is_given = True
            weights[target.name] = weights.get(target.name, 0) + target.share
        if not is_given:
            return cls(model_name, ((model_name, 1),))
        return cls(model_name, tuple((name, share) for name, share in weights.items() if share))

    def at(self, point: float) -> str:
        """Return the target whose share a point in [0, 1) falls into.

        Args:
            point: `random.random()`, say.

        Raises:
            NoValidTarget: there is none of any weight.
        """
        if not self.weights:
            raise NoValidTarget(self.model_name)
        if len(self.weights) == 1:
            return self.weights[0][0]
        rest = point * sum(weight for _, weight in self.weights)
        for name, weight in self.weights:
            rest -= weight
            if rest < 0:
                return name
        return self.weights[-1][0]

    def for_session(self, session: str) -> str:
        """Return the target of a session, always the same for the same weights.

        Raises:
            NoValidTarget: there is none of any weight.
        """
        if not self.weights:
            raise NoValidTarget(self.model_name)
        # Weighted rendezvous hashing: each target waits a random time that is the shorter the
        # heavier it is, and the first to be there has the session.
        return min(self.weights, key=lambda target: _delay(target[0], target[1], session))[0]


def _delay(name: str, weight: int, session: str) -> float:
    hashed = hashlib.blake2b(
        session.encode("utf-8", "surrogatepass"),
        key=hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=32).digest(),
        digest_size=8,
    )
    # 53 bits, as many as a float holds, in (0, 1).
    drawn = ((int.from_bytes(hashed.digest(), "big") >> 11) + 0.5) / 2**53
    return -math.log(drawn) / weight
