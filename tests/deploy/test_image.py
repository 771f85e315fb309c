"""The image is made as it should be: what its recipe says, and what is found wrong in one that was made."""

from __future__ import annotations

import io
import json
import pathlib
import re
import shutil
import subprocess
import tarfile
from typing import Any

import pytest
import yaml

from hack import image, image_contents
from tests.e2e import manifest

# covers: PRD-13.6
ROOT = pathlib.Path(__file__).resolve().parents[2]
KUSTOMIZE = ROOT / "deploy/kustomize"
FOLDERS = [
    "base",
    "restore",
    *(f"overlays/{folder.name}" for folder in sorted((KUSTOMIZE / "overlays").iterdir())),
]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, the first one's being `FROM`."""
    text = re.sub(r"(?m)^\s*#.*\n", "", image.DOCKERFILE.read_text()).replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions:
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def all_of(name: str, stage: list[tuple[str, str]]) -> list[str]:
    """What is said by all instructions of a name."""
    return [rest for its, rest in stage if its == name]


def test_the_base_is_an_argument_and_every_stage_stands_on_it() -> None:
    assert re.search(r"(?m)^ARG BASE=\S+$", image.DOCKERFILE.read_text())
    first, *others = (all_of("FROM", stage)[0] for stage in stages())
    assert first == "${BASE} AS python"
    assert [its.split()[0] for its in others] == ["python", "python"]


def test_nothing_is_run_in_the_last_stage_and_what_comes_before_it_has_no_pip() -> None:
    first, build, last = stages()
    assert all_of("RUN", last) == []
    assert all("--from=build" in its for its in all_of("COPY", last))
    (installs,) = all_of("RUN", first)
    words = installs.split("install", 1)[1].split("&&")[0].split()
    assert [word for word in words if not word.startswith(("-", ">"))] == ["python3"]
    assert "python3-pip" in " ".join(all_of("RUN", build))


def test_everything_that_is_fetched_is_compared_with_its_hash() -> None:
    fetches = [its for stage in stages() for its in all_of("RUN", stage) if re.search(r"-m pip\b", its)]
    pips = [call for its in fetches for call in re.split(r"-m pip\b", its)[1:]]
    assert len(pips) == 3
    assert all(("--require-hashes" in call) != ("--no-index" in call) for call in pips)


def test_its_files_belong_to_nobody_who_runs_it() -> None:
    last = stages()[-1]
    owners = {owner for its in all_of("COPY", last) for owner in re.findall(r"--chown=([0-9]+):", its)}
    assert len(owners) == 1
    (user,) = all_of("USER", last)
    users = {
        int(user.partition(":")[0]),
        manifest.read(KUSTOMIZE / "base").spec["securityContext"]["runAsUser"],
    }
    assert users == set(image_contents.USERS)
    assert not {int(owner) for owner in owners} & users
    assert all("--chown=" in its for its in all_of("COPY", last))


def test_the_entry_is_what_the_manifest_calls() -> None:
    last = stages()[-1]
    (entry,) = all_of("ENTRYPOINT", last)
    assert json.loads(entry) == ["/usr/bin/cpuset-reconciler"] == [f"/{image_contents.PROGRAM}"]
    assert manifest.read(KUSTOMIZE / "base").container["command"] == json.loads(entry)


def test_what_the_recipe_copies_is_in_its_context_and_changes_the_archives_name() -> None:
    allowed = {
        line.removeprefix("!")
        for line in pathlib.Path(f"{image.DOCKERFILE}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for stage in stages()[:-1]
        for its in all_of("COPY", stage)
        for word in its.split()[:-1]
        if not word.startswith("--")
    }
    assert copied == allowed == set(image.CONTEXT)


def entry(path: str, user: int = 65533, mode: int = 0o444, *, is_link: bool = False) -> image_contents.Entry:
    """An entry of a layer."""
    return image_contents.Entry(path, 1, user, mode, is_link)


@pytest.mark.parametrize(
    ("its", "fault"),
    [
        (entry("usr/bin/cc", 0, 0o755), "usr/bin/cc is in it, and nothing is built in it"),
        (entry("opt/cpuset-reconciler/bin/pip3"), "bin/pip3 is in it"),
        (entry("opt/cpuset-reconciler/lib/python3.13/site-packages/pip", mode=0o555), "nothing is installed"),
        (entry("usr/bin/cpuset-reconciler", 0, 0o555), "is user 0's, who runs it"),
        (entry("opt/cpuset-reconciler/pyvenv.cfg", 65532), "is user 65532's, who runs it"),
        (entry("opt/cpuset-reconciler/lib/x.py", mode=0o646), "has mode 646"),
        (entry("opt/cpuset-reconciler", mode=0o775), "has mode 775"),
    ],
    ids=["compiler", "pip", "pips-files", "roots", "own-users", "for-all", "folder"],
)
def test_what_is_wrong_with_an_image_is_told(its: image_contents.Entry, fault: str) -> None:
    told = list(image_contents.complaints([its]))
    assert len(told) == 1
    assert fault in told[0]


def test_what_belongs_into_an_image_is_no_fault() -> None:
    fine = [
        entry("opt/cpuset-reconciler", mode=0o755),
        entry("opt/cpuset-reconciler/lib64", mode=0o777, is_link=True),
        entry("usr/bin/cpuset-reconciler", mode=0o555),
        entry("usr/bin/python3.13", 0, 0o755),
        entry("etc/pip.conf", 0, 0o644),
    ]
    assert list(image_contents.complaints(fine)) == []


def test_an_archive_is_read_by_layers_with_its_base_apart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "image.tar"
    layers = [_tar({"./usr/bin/python3": b"12345"}), _tar({"usr/bin/cpuset-reconciler": b"123"})]
    blobs = {f"blobs/sha256/{number}": layer for number, layer in enumerate(layers)}
    manifest_ = {
        "config": {"digest": "sha256:config"},
        "layers": [
            {"digest": f"sha256:{number}", "mediaType": "application/vnd.oci.image.layer.v1.tar"}
            for number in range(2)
        ],
    }
    documents: dict[str, Any] = {
        "index.json": {"manifests": [{"digest": "sha256:manifest"}]},
        "blobs/sha256/manifest": manifest_,
        "blobs/sha256/config": {"config": {"Labels": {"base.layers": "1"}}},
    }
    path.write_bytes(_tar({**blobs, **{name: json.dumps(its).encode() for name, its in documents.items()}}))
    found, base = image_contents.read(path)
    assert [[(its.path, its.size) for its in layer] for layer in found] == [
        [("usr/bin/python3", 5)],
        [("usr/bin/cpuset-reconciler", 3)],
    ]
    assert base == 1


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def kubectl() -> str | None:
    """Where it is: beside this interpreter, or on the path."""
    beside = ROOT / ".venv/bin/kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


@pytest.mark.skipif(kubectl() is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_node_is_tested_with_is_what_kustomize_renders(folder: str) -> None:
    command = [str(kubectl()), "kustomize", str(KUSTOMIZE / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    objects = list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))
    (daemonset,) = (its for its in objects if its["kind"] == "DaemonSet")
    configs = {its["metadata"]["name"]: its["data"] for its in objects if its["kind"] == "ConfigMap"}
    ours = manifest.read(KUSTOMIZE / folder)
    rendered = daemonset["spec"]["template"]
    assert _nameless(rendered["spec"]) == _nameless(ours.spec)
    assert rendered["metadata"]["annotations"] == ours.annotations
    assert list(configs.values()) == list(ours.configs.values())


def _nameless(spec: Any) -> Any:
    """A pod without what kustomize makes anew: the hash in a ConfigMap's name, the image's tag, the order."""
    spec = json.loads(json.dumps(spec))
    for volume in spec["volumes"]:
        if "configMap" in volume:
            volume["configMap"]["name"] = re.sub(
                r"^(cpuset-reconciler(?:-restore)?)-[0-9a-z]{10}$", r"\1", volume["configMap"]["name"]
            )
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        container["image"] = container["image"].partition(":")[0]
        container.get("volumeMounts", []).sort(key=lambda its: its["mountPath"])
    spec["volumes"].sort(key=lambda its: its["name"])
    return spec
