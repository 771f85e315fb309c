"""Metrics: what each says, that names are few however many containers there are, and how they are shown."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import pathlib
import re
import subprocess
import sys
import threading

import pytest
from prometheus_client import parser

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.daemon import exposition, metrics, questions, status
from reconciler.host import inotify
from reconciler.runtime.nri import handler
from tests.daemon import node, observing, pods

# covers: PRD-12.1
# covers: PRD-12.2
# covers: PRD-12.3

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
LISTED = pods.guaranteed("listed", "4-5")
EXCLUSIVE = pods.container(LISTED, whole=2)
DOCUMENTED = pathlib.Path(__file__).parents[2] / "docs/reference/metrics.md"


def changed(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """By how much each sample is another one, but for times."""
    names = before.keys() | after.keys()
    its = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return {name: by for name, by in its.items() if by and "seconds" not in name}


async def test_pools_containers_and_claims_are_those_of_the_status(tmp_path: pathlib.Path) -> None:
    config = schema.convert({"reservedCpus": "0"})
    async with node.running(tmp_path, config) as made:
        its = observing.sources(made, tmp_path)
        for pod, container in ((DB, INTEGER), (WEB, SHARED), (LISTED, EXCLUSIVE)):
            await made.run(pod, container)
        await made.quiet()
        said = observing.read(its)
    assert {name: said[f'pool_cpus{{pool="{name}"}}'] for name in ("shared", "exclusive", "reserved")} == {
        "shared": 4,
        "exclusive": 4,
        "reserved": 1,
    }
    in_sync = {
        kind.value: said[f'containers{{class="{kind.value}",state="in-sync"}}'] for kind in intent.Kind
    }
    assert in_sync == {
        "annotated-exclusive": 1,
        "annotated-shared": 0,
        "integer": 1,
        "shared": 1,
        "unmanaged": 0,
    }
    assert sum(value for name, value in said.items() if name.startswith("containers{")) == 3
    assert (said['claims{class="integer"}'], said['claimed_cpus{class="annotated-exclusive"}']) == (1, 2)
    assert (said["converged"], said["ready"]) == (1, 1)


async def test_every_state_of_the_status_is_counted_as_that_state(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(WEB, SHARED)
        await made.quiet()
        await made.create(WEB, pods.container(WEB, "not-born-yet"))
        said, document = observing.read(its), made.status()
    assert {entry["state"] for entry in document["containers"]} == {"in-sync", "pending"}
    for entry in document["containers"]:
        assert said[f'containers{{class="{entry["class"]}",state="{entry["state"]}"}}'] == 1
    assert said["converged"] == document["converged"] == 0


async def test_a_drift_is_counted_as_found_and_repaired_with_its_writes(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(WEB, SHARED)
        await made.quiet()
        before = observing.read(its)
        made.put(SHARED, "0-1")
        await made.quiet()
        assert changed(before, observing.read(its)) == {
            "drifts_found_total": 1,
            "drifts_repaired_total": 1,
            "writes_total": 1,
        }


async def test_a_write_that_fails_is_counted_by_its_errno(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(WEB, SHARED)
        await made.quiet()
        before = observing.read(its)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EROFS
        made.put(SHARED, "0-1")
        await made.quiet()
        by = changed(before, observing.read(its))
    assert by.pop('failed_writes_total{errno="EROFS"}') >= 1
    assert (by["drifts_found_total"], by["drifts_unrepaired"], by["converged"]) == (1, 1, -1)
    assert by['containers{class="shared",state="drifted"}'] == 1


@pytest.mark.parametrize(
    ("config", "pod", "container", "ground"),
    [
        pytest.param(
            {}, pods.guaranteed("x", "4-"), pods.container(DB, whole=2), "annotation", id="malformed"
        ),
        pytest.param(
            {}, pods.guaranteed("x", "99"), pods.container(DB, whole=2), "annotation", id="not online"
        ),
        pytest.param(
            {"annotatedNamespaces": []}, pods.guaranteed("x", "4"), INTEGER, "namespace", id="namespace"
        ),
        pytest.param({}, pods.guaranteed("x", "4"), pods.container(DB, whole=1), "held", id="held"),
        pytest.param({}, DB, pods.container(DB, whole=7), "room", id="no room"),
        pytest.param({"minSharedCpus": 6}, DB, INTEGER, "bounds", id="the pool's least"),
        pytest.param({"maxExclusiveCpus": {"*": 3}}, DB, INTEGER, "bounds", id="a namespace's most"),
        pytest.param(
            {},
            pods.pod("x", annotations={pods.FORBID: "0-7"}),
            pods.container(pods.pod("x")),
            "annotation",
            id="all forbidden",
        ),
    ],
)
async def test_a_refusal_is_counted_once_by_its_ground(
    tmp_path: pathlib.Path,
    config: dict[str, object],
    pod: events.Pod,
    container: events.Container,
    ground: str,
) -> None:
    async with node.running(tmp_path, schema.convert(config)) as made:
        its = observing.sources(made, tmp_path)
        if "annotatedNamespaces" not in config:
            await made.run(LISTED, EXCLUSIVE)
        await made.quiet()
        before = observing.read(its)
        with pytest.raises(errors.Refused):
            await made.create(pod, container)
        await asyncio.sleep(0)
        assert changed(before, observing.read(its)) == {
            f'refusals_total{{ground="{ground}",request="create"}}': 1
        }


async def test_a_resize_that_is_refused_is_counted_as_an_update(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(DB, INTEGER)
        await made.quiet()
        before = observing.read(its)
        larger = pods.container(DB, whole=8).limits
        with pytest.raises(errors.Refused):
            made.agent.update(events.ContainerUpdating(pod=DB, container=INTEGER, limits=larger, cpus=""))
        assert changed(before, observing.read(its)) == {'refusals_total{ground="bounds",request="update"}': 1}


async def test_a_start_that_is_refused_is_counted_with_the_write_that_failed(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.create(DB, INTEGER)
        made.make(INTEGER, "0-7")
        made.kernel.refuses[str(INTEGER.cgroup)] = errno.EACCES
        with pytest.raises(errors.Refused):
            await made.start(DB, INTEGER)
        said = observing.read(its)
    assert said['refusals_total{ground="writes",request="start"}'] == 1
    assert said['failed_writes_total{errno="EACCES"}'] >= 1


async def test_a_move_is_counted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(DB, INTEGER)
        await made.quiet()
        cpus = made.cpus(INTEGER)
        mover = pods.guaranteed("mover", cpus)
        await made.run(mover, pods.container(mover, whole=2))
        assert observing.read(its)["moves_total"] == 1
        assert made.cpus(INTEGER) != cpus


@pytest.mark.parametrize(
    ("config", "event", "sample"),
    [
        pytest.param(
            {},
            events.ContainerCreating(pod=DB, container=INTEGER),
            'guard_answers_total{answer="refused",request="create"}',
            id="an exclusive creation",
        ),
        pytest.param(
            {"onGuard": "admit"},
            events.ContainerCreating(pod=DB, container=INTEGER),
            'guard_answers_total{answer="admitted",request="create"}',
            id="an exclusive creation where that is admitted",
        ),
        pytest.param(
            {},
            events.ContainerCreating(pod=WEB, container=SHARED),
            'guard_answers_total{answer="admitted",request="create"}',
            id="a shared creation",
        ),
        pytest.param(
            {},
            events.ContainerStarting(pod=DB, container=INTEGER),
            'guard_answers_total{answer="refused",request="start"}',
            id="an exclusive start",
        ),
        pytest.param(
            {},
            events.ContainerUpdating(pod=WEB, container=SHARED, limits=SHARED.limits, cpus=""),
            'guard_answers_total{answer="in-place",request="update"}',
            id="an update",
        ),
    ],
)
async def test_an_answer_of_the_guard_is_counted(
    tmp_path: pathlib.Path, config: dict[str, object], event: events.Event, sample: str
) -> None:
    async with node.running(tmp_path, schema.convert(config)) as made:
        its = observing.sources(made, tmp_path)
        before = observing.read(its)
        with contextlib.suppress(errors.Refused):
            made.agent.guard(event)
        assert changed(before, observing.read(its)) == {sample: 1}


async def test_answers_are_counted_by_hook_up_to_their_bounds(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        for seconds in (0.0001, 0.0002, 0.2, 7.0):
            made.tell.counters.answered("CreateContainer", seconds)
        made.tell.counters.answered("PostCreateContainer", 1.0)
        said = observing.read(its)
    create = {
        bound: said[f'hook_seconds_bucket{{hook="CreateContainer",le="{bound}"}}']
        for bound in ("0.0001", "0.00025", "0.1", "0.25", "2.5", "+Inf")
    }
    assert create == {"0.0001": 1, "0.00025": 2, "0.1": 2, "0.25": 3, "2.5": 3, "+Inf": 4}
    assert said['hook_seconds_count{hook="CreateContainer"}'] == 4
    assert said['hook_seconds_sum{hook="CreateContainer"}'] == pytest.approx(7.2003)
    assert not any("PostCreate" in name for name in said)


async def test_the_mode_its_reason_and_its_changes_are_told(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        before = observing.read(its)
        assert [before[f'mode{{mode="{mode}"}}'] for mode in metrics.MODES] == [1, 0, 0, 0]
        assert before['mode_reason{reason="containerd v2.1.9, NRI 0.8.0"}'] == 1
        made.agent.disconnected("Synchronize was answered after 2.3 s, too late")
        said = observing.read(its)
    assert [said[f'mode{{mode="{mode}"}}'] for mode in metrics.MODES] == [0, 0, 0, 1]
    assert said['mode_reason{reason="Synchronize was answered after some time, too late"}'] == 1
    assert said['mode_changes_total{mode="none"}'] == 1
    assert said["ready"] == 0


async def test_retries_faults_and_losses_are_counted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        before = observing.read(its)
        made.tell.notice(handler.Notice("nri.retry", "x; next attempt in 1.0 s"))
        made.tell.notice(handler.Notice("nri.malformed", "x"))
        made.tell.failed("pass", ValueError("x"))
        made.tell.counters.connected()
        made.tell.counters.lost()
        assert changed(before, observing.read(its)) == {
            "nri_retries_total": 1,
            "faults_total": 1,
            "nri_connections_total": 1,
            "nri_losses_total": 1,
        }


async def test_events_that_inotify_lost_are_counted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = inotify.Watcher.read

    def overflowed(its: inotify.Watcher) -> inotify.Changes:
        return dataclasses.replace(read(its), overflowed=True)

    monkeypatch.setattr(inotify.Watcher, "read", overflowed)
    async with node.running(tmp_path, watch=True) as made:
        its = observing.sources(made, tmp_path)
        await made.run(WEB, SHARED)
        made.put(SHARED, "0-1")
        await node.until(lambda: observing.read(its)["inotify_overflows_total"] >= 1)


async def test_a_conflict_is_counted_against_its_opponent(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        await made.run(WEB, SHARED)
        await made.quiet()
        before = observing.read(its)
        for cpus in ("0-1", "0-3"):
            made.put(SHARED, cpus)
            await made.quiet()
        by = changed(before, observing.read(its))
    assert by['conflicts{opponent="agent"}'] == 1
    assert (by["conflicts_raised_total"], "conflicts_ended_total" in by) == (1, False)


async def test_a_kubelet_that_writes_cpusets_is_told(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        assert observing.read(its)["kubelet_is_static"] == 0
        state = pathlib.Path(made.root, "var/lib/kubelet/cpu_manager_state")
        state.parent.mkdir(parents=True)
        state.write_text('{"policyName":"static","defaultCpuSet":"0-7","checksum":1}')
        await made.opposition.look()
        assert observing.read(its)["kubelet_is_static"] == 1


async def test_checkpoints_are_counted_and_dated(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        said = observing.read(its)
        assert (said["checkpoint_saved"], "checkpoint_written_timestamp_seconds" in said) == (0, False)
        its.saver.finish()
        said = observing.read(its)
        assert (said["checkpoint_writes_total"], said["checkpoint_saved"]) == (1, 1)
        assert said["checkpoint_written_timestamp_seconds"] == 12.5
        (tmp_path / "checkpoint.json").unlink()
        (tmp_path / "checkpoint.json").mkdir()
        await made.run(DB, INTEGER)
        its.saver.finish()
        said = observing.read(its)
        assert (said["checkpoint_failures_total"], said["checkpoint_saved"]) == (1, 0)


async def test_there_are_as_many_series_with_many_containers_as_with_none(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        before = observing.read(its)
        for number in range(20):
            await made.run(WEB, pods.container(WEB, f"c{number}"))
        await made.run(DB, INTEGER)
        await made.quiet()
        assert observing.read(its).keys() == before.keys()


async def test_the_text_is_what_prometheus_reads(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        text = (await exposition.text(its)).decode()
    families = list(parser.text_string_to_metric_families(text))
    assert len(families) > 20
    assert all(family.name.startswith("cpuset_reconciler_") for family in families)
    assert all(family.documentation and family.samples for family in families)


async def test_no_hook_waits_for_the_text(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def census(*_: object) -> dict[tuple[str, str], int]:
        threads.append(threading.current_thread())
        return {}

    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        its.probes.unready()
        monkeypatch.setattr(status, "census", census)
        await exposition.text(its)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_metrics_are_one_of_the_requests(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        answers = questions.answers(made.agent, made.passes, made.book, its.saver, its)
        answer = await answers["metrics"].to({"request": "metrics"})
        assert 'cpuset_reconciler_mode{mode="nri"} 1.0\n' in str(answer["text"])


async def test_the_status_says_whether_the_node_is_served_and_what_the_guard_answered(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        answers = questions.answers(made.agent, made.passes, made.book, its.saver, its)
        made.agent.guard(events.ContainerCreating(pod=WEB, container=SHARED))
        document = await answers["status"].to({"request": "status"})
        assert (document["ready"], document["unready"]) == (True, "")
        assert document["guard"] == {"admitted": 1, "refused": 0, "in-place": 0}
        made.agent.disconnected("it ended")
        document = await answers["status"].to({"request": "status"})
        assert (document["ready"], document["unready"]) == (False, "no runtime is connected: it ended")


async def test_the_reference_has_every_family_and_no_other(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        its.saver.finish()
        shown = {
            family.name + ("_total" if family.kind == "counter" else "")
            for family in metrics.families(metrics.moment(its), its)
        }
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \|", DOCUMENTED.read_text(), re.MULTILINE
    )
    assert sorted(name for name, _ in rows) == sorted(shown)


async def test_the_reference_has_every_ground_and_no_other(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        said = observing.read(observing.sources(made, tmp_path))
    shown = {found[1] for name in said if (found := re.match(r'refusals_total{ground="([a-z]+)"', name))}
    documented = re.findall(r"^\| `([a-z]+)` \| [a-z][^|]*\|$", DOCUMENTED.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(shown)


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("containerd v2.1.9, NRI 0.8.0", "containerd v2.1.9, NRI 0.8.0"),
        ("x after 12.5 s; y", "x after some time; y"),
        ("x" * 200, "x" * 120),
    ],
    ids=["versions", "a time", "long"],
)
def test_a_reason_makes_few_labels(reason: str, label: str) -> None:
    assert metrics.bounded(reason) == label


def test_prometheus_client_is_imported_only_when_asked_for() -> None:
    script = "import sys, reconciler.daemon.supervisor; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
