import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.controllers.inference_service import (
    InferenceServiceController,
    Plan,
    desired_replicas,
    plan,
    template_hash,
)
from inferno.controllers.loop import Key
from inferno.core.replica_labels import replica_labels
from inferno.core.resources import (
    LOAD_REQUESTED_ANNOTATION,
    RUNTIME_FINALIZER,
    SERVICE_LABEL,
    EngineOptions,
    InferenceService,
    InferenceServiceSpec,
    ModelFormat,
    ModelInfo,
    ObjectMeta,
    Pod,
    PodPhase,
    PodSpec,
    PodStatus,
    Predictor,
    PredictorModel,
)
from inferno.storage.resources import SqlResourceStore

MODEL = PredictorModel(storage_uri="file:///m.gguf")
OTHER = PredictorModel(storage_uri="file:///m.gguf", options=EngineOptions(parallel=2))
TEMPLATE = template_hash("llama_cpp", MODEL)
PHASES: tuple[PodPhase, ...] = ("Pending", "Starting", "Ready", "Draining", "Failed")


def _service(
    replicas: int = 1, *, model: PredictorModel = MODEL, asked: str = ""
) -> InferenceService:
    predictor = Predictor(min_replicas=0, max_replicas=10, replicas=replicas, model=model)
    annotations = {LOAD_REQUESTED_ANNOTATION: asked} if asked else {}
    return InferenceService(
        metadata=ObjectMeta(name="m", generation=3, annotations=annotations),
        spec=InferenceServiceSpec(predictor=predictor),
    )


def _pod(
    name: str, phase: PodPhase = "Ready", *, template: str = TEMPLATE, asked: str = "", age: int = 0
) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name,
            creation_timestamp=f"2026-01-01T00:00:{59 - age:02}Z",
            annotations={LOAD_REQUESTED_ANNOTATION: asked} if asked else {},
        ),
        spec=PodSpec(service="m", engine="llama_cpp", model=MODEL, template_hash=template),
        status=PodStatus(phase=phase, reason="FileMissing" if phase == "Failed" else ""),
    )


def _leaving(pod: Pod) -> Pod:
    pod.metadata.deletion_timestamp = "2026-01-01T00:01:00Z"
    return pod


@pytest.mark.parametrize(
    ("low", "high", "wanted", "expected"),
    [(0, 1, 0, 0), (0, 1, 5, 1), (2, 4, 0, 2), (2, 4, 3, 3), (3, 1, 0, 3), (0, 1, -1, 0)],
)
def test_replicas_are_clamped(low: int, high: int, wanted: int, expected: int) -> None:
    service = _service()
    service.spec.predictor = Predictor(min_replicas=low, max_replicas=high, replicas=wanted)
    assert desired_replicas(service) == expected


def test_a_service_that_is_deleted_wants_nothing() -> None:
    service = _service(3)
    service.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    assert desired_replicas(service) == 0


def test_missing_replicas_are_created_from_the_template() -> None:
    decision = plan(_service(2), [])
    spec = PodSpec(service="m", engine="llama_cpp", model=MODEL, template_hash=TEMPLATE)
    assert decision.create == [spec, spec]
    assert decision.status.state == "Pending"


def test_every_part_of_the_template_counts() -> None:
    assert template_hash("llama_cpp", OTHER) != TEMPLATE
    assert template_hash("another", MODEL) != TEMPLATE
    replaced = msgspec.structs.replace(MODEL, info=ModelInfo(modified_ns=1))
    assert template_hash("llama_cpp", replaced) != TEMPLATE
    renamed = msgspec.structs.replace(MODEL, info=ModelInfo(display_name="A model"))
    assert template_hash("llama_cpp", renamed) == TEMPLATE


def test_scaling_down_takes_what_does_not_serve_and_then_the_newest() -> None:
    pods = [_pod("old", age=9), _pod("newest", age=0), _pod("middle", age=5)]
    starting = _pod("starting", "Starting", age=20)
    assert plan(_service(3), [*pods, starting]).delete == ["starting"]
    assert plan(_service(2), pods).delete == ["newest"]
    assert plan(_service(0), pods).delete == ["middle", "newest", "old"]


def test_a_new_template_serves_before_the_old_one_goes() -> None:
    service, old = _service(model=OTHER), _pod("old")
    new = template_hash("llama_cpp", OTHER)
    first = plan(service, [old])
    assert (len(first.create), first.delete) == (1, [])
    assert first.create[0].template_hash == new
    second = plan(service, [old, _pod("new", "Starting", template=new)])
    assert (second.create, second.delete) == ([], [])
    assert second.status.state == "Ready"
    third = plan(service, [old, _pod("new", template=new)])
    assert (third.create, third.delete) == ([], ["old"])


def test_a_new_template_that_fails_leaves_the_old_one_serving_and_says_so() -> None:
    new = _pod("new", "Failed", template=template_hash("llama_cpp", OTHER))
    decision = plan(_service(model=OTHER), [_pod("old"), new])
    assert (decision.create, decision.delete) == ([], [])
    assert (decision.status.state, decision.status.reason) == ("Ready", "FileMissing")


def test_old_replicas_that_do_not_serve_go_at_once() -> None:
    decision = plan(_service(model=OTHER), [_pod("old", "Failed")])
    assert (len(decision.create), decision.delete) == (1, ["old"])


def test_a_failed_replica_stays_until_the_model_is_asked_for_again() -> None:
    failed = _pod("a", "Failed", asked="1")
    kept = plan(_service(asked="1"), [failed])
    assert (kept.create, kept.delete) == ([], [])
    assert (kept.status.state, kept.status.reason) == ("Failed", "FileMissing")
    again = plan(_service(asked="2"), [failed])
    assert (len(again.create), again.delete) == (1, ["a"])
    serving = plan(_service(asked="2"), [_pod("a", asked="1")])
    assert (serving.create, serving.delete) == ([], [])


def test_an_unknown_format_fails_and_removes_replicas() -> None:
    service = _service(model=PredictorModel(model_format=ModelFormat(name="onnx")))
    decision = plan(service, [_pod("a")])
    assert (decision.create, decision.delete) == ([], ["a"])
    assert (decision.status.state, decision.status.reason) == ("Failed", "UnsupportedFormat")


@pytest.mark.parametrize(
    ("replicas", "pods", "state"),
    [
        (0, [], "Unloaded"),
        (0, [_leaving(_pod("a"))], "Draining"),
        (0, [_pod("a")], "Draining"),
        (1, [], "Pending"),
        (1, [_pod("a", "Pending")], "Pending"),
        (1, [_pod("a", "Starting")], "Starting"),
        (1, [_pod("a")], "Ready"),
        (2, [_pod("a"), _pod("b", "Failed")], "Ready"),
        (2, [_pod("a", "Starting"), _pod("b", "Failed")], "Starting"),
        (1, [_pod("a", "Failed")], "Failed"),
        (1, [_leaving(_pod("a"))], "Pending"),
    ],
)
def test_the_state_sums_up_the_replicas(replicas: int, pods: list[Pod], state: str) -> None:
    status = plan(_service(replicas), pods).status
    assert status.state == state
    assert status.observed_generation == 3


def test_a_crash_loop_shows() -> None:
    pod = _pod("a", "Pending")
    pod.status = PodStatus(reason="CrashLoopBackOff", message="It crashed.", restarts=1)
    status = plan(_service(), [pod]).status
    assert (status.state, status.reason) == ("Starting", "CrashLoopBackOff")
    assert status.message == "It crashed."


def test_the_condition_keeps_its_time_while_nothing_changes() -> None:
    service = _service()
    service.status = plan(service, [_pod("a")], now="1").status
    assert service.status.conditions[0].status == "True"
    assert plan(service, [_pod("a")], now="2").status == service.status
    service.status = plan(service, [_pod("a", "Failed")], now="3").status
    assert service.status.conditions[0].last_transition_time == "3"


_pods = st.lists(
    st.builds(
        lambda phase, template, asked, age, leaving: (phase, template, asked, age, leaving),
        st.sampled_from(PHASES),
        st.sampled_from([TEMPLATE, "older"]),
        st.sampled_from(["", "1"]),
        st.integers(0, 59),
        st.booleans(),
    ),
    max_size=8,
).map(
    lambda drawn: [
        (_leaving if leaving else lambda pod: pod)(
            _pod(f"p{at}", phase, template=template, asked=asked, age=age)
        )
        for at, (phase, template, asked, age, leaving) in enumerate(drawn)
    ]
)


def _apply(pods: list[Pod], decision: Plan, made: int) -> list[Pod]:
    """Carry a plan out on a machine where everything works."""
    left = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
    left = [pod for pod in left if pod.metadata.name not in decision.delete]
    for pod in left:
        if pod.status.phase in ("Pending", "Starting"):
            pod.status.phase = "Ready"
    return left + [
        _pod(f"new{made}-{at}", "Pending", template=spec.template_hash)
        for at, spec in enumerate(decision.create)
    ]


@given(_pods, st.integers(0, 5))
def test_no_ready_replica_of_the_template_is_lost(pods: list[Pod], replicas: int) -> None:
    doomed = set(plan(_service(replicas), pods).delete)
    ready = {
        pod.metadata.name
        for pod in pods
        if pod.status.phase == "Ready"
        and pod.spec.template_hash == TEMPLATE
        and pod.metadata.deletion_timestamp is None
    }
    assert len(ready - doomed) >= min(len(ready), replicas)


@given(_pods, st.integers(0, 5))
def test_serving_capacity_is_kept(pods: list[Pod], replicas: int) -> None:
    doomed = set(plan(_service(replicas), pods).delete)
    ready = {
        pod.metadata.name
        for pod in pods
        if pod.status.phase == "Ready" and pod.metadata.deletion_timestamp is None
    }
    assert len(ready - doomed) >= min(len(ready), replicas)


@given(_pods, st.integers(0, 5))
@settings(deadline=None)
def test_plans_converge_and_then_rest(pods: list[Pod], replicas: int) -> None:
    service = _service(replicas)
    for made in range(40):
        decision = plan(service, pods)
        service.status = decision.status
        pods = _apply(pods, decision, made)
    decision = plan(service, pods)
    assert (decision.create, decision.delete) == ([], [])
    assert decision.status == service.status
    current = [pod for pod in pods if pod.spec.template_hash == TEMPLATE]
    others = [pod for pod in pods if pod.spec.template_hash != TEMPLATE]
    is_held_up = any(pod.status.phase in ("Failed", "Draining") for pod in current)
    assert len(current) == replicas or (others and is_held_up)
    assert not others or is_held_up


@given(_pods, st.integers(0, 5))
def test_plans_are_pure(pods: list[Pod], replicas: int) -> None:
    before = msgspec.json.encode(pods)
    assert plan(_service(replicas), pods) == plan(_service(replicas), pods)
    assert msgspec.json.encode(pods) == before


async def _stored(store: SqlResourceStore, replicas: int = 1) -> InferenceService:
    return await store.create(_service(replicas))


async def test_a_service_gets_its_pods(store: SqlResourceStore) -> None:
    service = await _stored(store, 2)
    controller = InferenceServiceController(store)
    for _ in range(2):
        await controller.reconcile(Key("default", "m"))
    pods, _version = await store.list(Pod, labels={SERVICE_LABEL: "m"})
    assert len(pods) == 2
    for pod in pods:
        assert pod.metadata.name.startswith("m-")
        assert len(pod.metadata.name) == len("m-") + 5
        assert pod.metadata.finalizers == [RUNTIME_FINALIZER]
        assert pod.metadata.owner_references[0].uid == service.metadata.uid
        assert pod.spec.template_hash == TEMPLATE
    assert (await store.get(InferenceService, "m")).status.state == "Pending"


async def test_pods_carry_the_labels_of_their_service(store: SqlResourceStore) -> None:
    service = _service(1)
    service.metadata.labels = {"team": "search"}
    await store.create(service)
    controller = InferenceServiceController(store)
    await controller.reconcile(Key("default", "m"))
    (pod,) = (await store.list(Pod, labels={"team": "search"}))[0]
    assert pod.metadata.labels == replica_labels(service)
    assert pod.metadata.labels["serving.kserve.io/inferenceservice"] == "m"
    assert pod.metadata.labels[SERVICE_LABEL] == "m"

    def relabel(one: InferenceService) -> None:
        one.metadata.labels = {"team": "ads", SERVICE_LABEL: "another", "tier": "gold"}

    def label(one: Pod) -> None:
        one.metadata.labels |= {"canary": "yes", "team": "mine"}

    await store.modify(Pod, pod.metadata.name, label)
    changed = await store.modify(InferenceService, "m", relabel)
    await controller.reconcile(Key("default", "m"))
    (same,) = (await store.list(Pod, labels={"team": "ads", "tier": "gold"}))[0]
    assert same.metadata.uid == pod.metadata.uid
    assert same.metadata.labels == {**replica_labels(changed), "canary": "yes"}
    assert same.metadata.labels[SERVICE_LABEL] == "m"

    def clear(one: InferenceService) -> None:
        one.metadata.labels = {}

    bare = await store.modify(InferenceService, "m", clear)
    await controller.reconcile(Key("default", "m"))
    again = await store.get(Pod, pod.metadata.name)
    assert again.metadata.labels == {**replica_labels(bare), "canary": "yes"}


async def test_pods_of_a_service_that_is_gone_go_too(store: SqlResourceStore) -> None:
    await _stored(store)
    controller = InferenceServiceController(store)
    await controller.reconcile(Key("default", "m"))
    await store.delete(InferenceService, "m")
    await controller.reconcile(Key("default", "m"))
    pods, _version = await store.list(Pod)
    assert all(pod.metadata.deletion_timestamp for pod in pods)


async def test_strangers_are_not_touched(store: SqlResourceStore) -> None:
    await _stored(store, 0)
    stranger = _pod("stranger")
    stranger.metadata.labels = {SERVICE_LABEL: "m"}
    await store.create(stranger)
    await InferenceServiceController(store).reconcile(Key("default", "m"))
    assert (await store.get(Pod, "stranger")).metadata.deletion_timestamp is None
