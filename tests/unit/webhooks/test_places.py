"""Who is sent to next."""

from __future__ import annotations

from inferno.webhooks.places import FAILURES, IN_FLIGHT, PER_ENDPOINT, PER_TENANT, Places


def candidates(count: int, endpoint: str, tenant: str) -> list[tuple[str, str, str]]:
    return [(f"{endpoint}{n}", endpoint, tenant) for n in range(count)]


def test_an_endpoint_gets_so_many_at_once() -> None:
    places = Places()
    places.take("a", "t")
    assert len(places.chosen(candidates(20, "a", "t"))) == PER_ENDPOINT - 1
    for _ in range(PER_ENDPOINT - 1):
        places.take("a", "t")
    assert places.busy_endpoints() == ["a"]
    places.give_back("a", "t")
    assert places.busy_endpoints() == []


def test_a_tenant_gets_so_many_at_once() -> None:
    places = Places()
    many = [one for n in range(10) for one in candidates(PER_ENDPOINT, f"e{n}", "t")]
    assert len(places.chosen(many)) == PER_TENANT
    for n in range(PER_TENANT):
        places.take(f"e{n}", "t")
    assert places.busy_tenants() == ["t"]
    assert places.chosen(candidates(1, "other", "t")) == []
    assert places.chosen(candidates(1, "other", "u")) == ["other0"]


def test_there_are_so_many_in_all() -> None:
    places = Places()
    for n in range(IN_FLIGHT - 1):
        places.take(f"e{n}", f"t{n}")
    assert places.free == 1
    assert len(places.chosen(candidates(3, "a", "t"))) == 1


def test_an_endpoint_that_fails_gets_one_at_a_time_until_it_answers() -> None:
    places = Places()
    for _ in range(FAILURES):
        places.note("a", accepted=False)
    assert places.chosen(candidates(3, "a", "t")) == ["a0"]
    places.take("a", "t")
    assert places.busy_endpoints() == ["a"]
    places.note("a", accepted=True)
    assert len(places.chosen(candidates(20, "a", "t"))) == PER_ENDPOINT - 1
