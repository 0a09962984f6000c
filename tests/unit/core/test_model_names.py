"""Whose a model name is: the oldest's (seed 002, `InferenceModelSpec`)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from inferno.core.inference_models import InferenceModel, claim_of, routed, winners
from tests.unit.core.documents import models

populations = st.lists(
    models, max_size=7, unique_by=lambda one: (one.metadata.namespace, one.metadata.name)
)


def _is_going(model: InferenceModel) -> bool:
    return model.metadata.deletion_timestamp is not None


@given(populations, st.randoms(use_true_random=False))
def test_the_winner_does_not_depend_on_the_order(
    population: list[InferenceModel], shuffler: random.Random
) -> None:
    shuffled = list(population)
    shuffler.shuffle(shuffled)
    assert winners(population) == winners(shuffled)


@given(populations)
def test_every_name_that_is_wanted_has_one_winner_and_none_is_older(
    population: list[InferenceModel],
) -> None:
    found = winners(population)
    assert found.keys() == {claim_of(one) for one in population if not _is_going(one)}
    for claim, winner in found.items():
        assert claim_of(winner) == claim
        rivals = [one for one in population if claim_of(one) == claim and not _is_going(one)]
        oldest = min(one.metadata.creation_timestamp for one in rivals)
        assert winner.metadata.creation_timestamp == oldest


@given(populations)
def test_when_a_winner_goes_the_next_is_promoted_and_nobody_else_moves(
    population: list[InferenceModel],
) -> None:
    before = winners(population)
    for claim, winner in before.items():
        left = [one for one in population if one is not winner]
        after = winners(left)
        rivals = [one for one in left if claim_of(one) == claim and not _is_going(one)]
        assert (claim in after) == bool(rivals)
        assert all(after[other] is before[other] for other in before if other != claim)


@given(populations)
def test_a_loser_that_goes_changes_nothing(population: list[InferenceModel]) -> None:
    before = winners(population)
    for loser in population:
        if not any(loser is winner for winner in before.values()):
            assert winners(one for one in population if one is not loser) == before


@given(populations, st.sets(st.tuples(st.just("default"), st.sampled_from(["a", "b"]))))
def test_a_request_goes_by_the_oldest_of_those_in_a_pool_that_exists(
    population: list[InferenceModel], pools: set[tuple[str, str]]
) -> None:
    holders = list(winners(population).values())
    routes = routed(holders, pools)
    assert routes == routed(reversed(holders), pools)
    for (namespace, name), model in routes.items():
        assert (namespace, model.spec.pool_ref.name) in pools
        rivals = [
            one
            for one in holders
            if (one.metadata.namespace, one.spec.model_name) == (namespace, name)
            and (namespace, one.spec.pool_ref.name) in pools
        ]
        oldest = min(one.metadata.creation_timestamp for one in rivals)
        assert model.metadata.creation_timestamp == oldest
    asked = {
        (one.metadata.namespace, one.spec.model_name)
        for one in holders
        if (one.metadata.namespace, one.spec.pool_ref.name) in pools
    }
    assert routes.keys() == asked
