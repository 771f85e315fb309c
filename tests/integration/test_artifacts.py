"""What `make build` makes runs where nothing of the repository is. Needs the package index, once."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from hack import artifacts, bundle, node
from reconciler import __version__

DEMO = ("demo", "--plain", "--speed", "1000")
GOOD = "Everything is as it should be."
PATIENCE = 300


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What was built."""
    output = tmp_path_factory.mktemp("dist")
    artifacts.main(["--output", str(output), "--interpreter", os.path.realpath(sys.executable)])
    return output


def runs(*command: str, **environment: str) -> str:
    """What a program prints that ends with 0, in a folder and an environment without anything else."""
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def one(dist: pathlib.Path, pattern: str) -> str:
    """The one file of that kind."""
    [path] = dist.glob(pattern)
    return str(path)


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"], ids=["wheel", "source archive"])
def test_what_was_installed_from_it_runs(dist: pathlib.Path, pattern: str, tmp_path: pathlib.Path) -> None:
    artifact = pathlib.Path(one(dist, pattern))
    built = artifact if artifact.suffix == ".whl" else bundle.wheel(tmp_path, artifact)
    bundle.install(built, tmp_path / "lib")
    program = [sys.executable, "-P", "-m", "reconciler.cli.main"]
    where = {"PYTHONPATH": str(tmp_path / "lib"), "PYTHONNOUSERSITE": "1"}
    assert runs(*program, "--version", **where) == f"cpuset-reconciler {__version__}\n"
    assert GOOD in runs(*program, *DEMO, **where)


def test_the_zipapp_runs_by_itself_and_unpacks_once(dist: pathlib.Path, tmp_path: pathlib.Path) -> None:
    archive = one(dist, "*.pyz")
    where = {"CPUSET_RECONCILER_UNPACKED": str(tmp_path / "cache")}
    assert runs(archive, "--version", **where) == f"cpuset-reconciler {__version__}\n"
    [folder] = (tmp_path / "cache").iterdir()
    before = folder.stat().st_ino
    assert GOOD in runs(archive, *DEMO, **where)
    assert [path.stat().st_ino for path in (tmp_path / "cache").iterdir()] == [before]


def test_the_zipapp_runs_nothing_that_others_may_have_changed(
    dist: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    archive = one(dist, "*.pyz")
    where = {"CPUSET_RECONCILER_UNPACKED": str(tmp_path / "cache")}
    runs(archive, "--version", **where)
    [folder] = (tmp_path / "cache").iterdir()
    folder.chmod(0o777)
    done = subprocess.run([archive, "--version"], env=where, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"others may write to {folder}" in done.stderr


def test_the_zipapp_says_for_which_interpreter_it_was_built(
    dist: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with zipfile.ZipFile(one(dist, "*.pyz")) as archive:
        source = archive.read("__main__.py").decode()
    other = tmp_path / "__main__.py"
    other.write_text(source.replace(f"PYTHON = {sys.version_info[:2]}", "PYTHON = (3, 99)"))
    done = subprocess.run([sys.executable, str(other)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cpuset-reconciler: this archive is for Python 3.99")


def test_the_source_archive_has_what_a_build_a_test_and_an_installation_need(dist: pathlib.Path) -> None:
    with tarfile.open(one(dist, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        *("LICENSE", "README.md", "Makefile", "pyproject.toml", "hack/requirements/agent.txt"),
        *("deploy/systemd/cpuset-reconciler.service", "docs/changelog.md", "tests/conftest.py"),
        "reconciler/runtime/cri/cri.proto",
    }
    assert wanted - names == set()


def snapshot(root: pathlib.Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def make(target: str, destdir: pathlib.Path, *settings: str) -> None:
    """Run a target of the Makefile."""
    command = ["make", "--no-print-directory", target, f"DESTDIR={destdir}", f"PYTHON={sys.executable}"]
    done = subprocess.run(
        [*command, *settings], cwd=bundle.ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("prefix", ["/opt/cpuset-reconciler", "/srv/agents/cpus"], ids=["usual", "own"])
def test_an_installation_runs_is_moved_is_replaced_and_is_undone_whole(
    tmp_path: pathlib.Path, prefix: str
) -> None:
    staged, root = tmp_path / "staged", tmp_path / "node"
    (staged / "etc/systemd").mkdir(parents=True)
    before = snapshot(staged)
    make("install-node", staged, f"PREFIX={prefix}", "PLUGIN=1")
    first = snapshot(staged)
    staged.rename(root)
    program = root / prefix.lstrip("/") / "bin/cpuset-reconciler"
    # As a runtime starts a plugin: by a link, without a PATH or any other environment.
    link = tmp_path / "linked"
    link.symlink_to(program)
    assert runs(str(link), "--version") == f"cpuset-reconciler {__version__}\n"
    assert GOOD in runs(str(link), *DEMO)
    link.unlink()
    unit = (root / "etc/systemd/system/cpuset-reconciler.service").read_text()
    assert f"ExecStart={prefix}/bin/cpuset-reconciler run" in unit
    plugin = root / f"{node.PLUGINS}/{node.PLUGIN}".lstrip("/")
    assert os.readlink(plugin) == f"{prefix}/bin/cpuset-reconciler"
    (root / "var/lib/cpuset-reconciler").mkdir(parents=True)
    (root / "etc/cpuset-reconciler/config.yaml").write_text("isolation: partition\n")
    make("install-node", root, f"PREFIX={prefix}")
    assert (root / "etc/cpuset-reconciler/config.yaml").read_text() == "isolation: partition\n"
    shutil.rmtree(root / "var")
    (root / "etc/cpuset-reconciler/config.yaml").write_text("")
    assert snapshot(root) == first
    make("uninstall-node", root, f"PREFIX={prefix}")
    assert snapshot(root) == before
