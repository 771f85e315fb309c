"""Every fuzz target holds over its corpus and over hostile inputs by hand.

The same functions run under a coverage-guided fuzzer with `make fuzz`; here without it.
"""

from __future__ import annotations

import pathlib

import pytest

from hack import fuzz
from tests.fuzz import memory, pieces, seeds, targets


def corpus(name: str) -> list[pathlib.Path]:
    return sorted((fuzz.CORPORA / name).iterdir())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_target_holds_over_its_corpus(name: str) -> None:
    check = targets.TARGETS[name].load()
    for path in corpus(name):
        try:
            check(path.read_bytes())
        except BaseException as error:
            error.add_note(str(path))
            raise


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_target_holds_over_inputs_by_hand(name: str) -> None:
    check = targets.TARGETS[name].load()
    for number, data in enumerate(seeds.SEEDS[name]):
        try:
            check(data)
        except BaseException as error:
            error.add_note(f"input {number} of {name}: {data[:200]!r}")
            raise


def test_every_target_has_a_corpus_and_inputs_by_hand_and_nothing_else_has() -> None:
    names = set(targets.TARGETS)
    assert {path.name for path in fuzz.CORPORA.iterdir()} == names
    assert set(seeds.SEEDS) == names


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_corpus_stays_small(name: str) -> None:
    files = corpus(name)
    assert 5 <= len(files) <= fuzz.MOST_FILES
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= fuzz.MOST_BYTES
    assert max(sizes) <= targets.TARGETS[name].largest


def test_an_input_is_cut_into_chunks_of_the_sizes_that_it_begins_with() -> None:
    stream, chunks = pieces.chunks(pieces.streamed(b"abcdefgh", b"\1\2\0\3\1\1\1\1"))
    assert stream == b"abcdefgh"
    assert chunks == [b"a", b"bc", b"d", b"efg", b"h"]
    assert pieces.parts(pieces.joined(b"a", b"", b"\n\xff")) == [b"a", b"", b"\n\xff"]


def test_the_memory_of_a_call_is_counted_with_its_result_and_without_what_was_there() -> None:
    there = bytes(1 << 20)
    assert 1 << 20 <= memory.peak(lambda: bytes(1 << 20)) < 1 << 21
    assert memory.peak(lambda: len(there)) < 1 << 12


@pytest.mark.parametrize("wrong", [["nothing"], ["--jobs", "x"]])
def test_the_runner_refuses_what_it_does_not_know(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fuzz.arguments(list(targets.TARGETS), wrong)


def test_the_runner_says_it_clearly_where_there_is_no_fuzzer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert fuzz.main(["multiplexer"]) == 2
    assert "atheris is not installed: it has wheels for CPython 3.11 to 3.14 on x86_64 Linux" in (
        capsys.readouterr().err
    )


SAID = """\
#2\tINITED cov: 30 ft: 32 corp: 2/20b exec/s: 0 rss: 41Mb
#4096\tpulse  cov: 36 ft: 150 corp: 50/1834b lim: 86 exec/s: 2340 rss: 47Mb
#5000\tDONE   cov: 36 ft: 166 corp: 54/2156b lim: 98 exec/s: 1756 rss: 49Mb
stat::number_of_executed_units: 5000
"""


def test_the_runner_reads_what_libfuzzer_says(tmp_path: pathlib.Path) -> None:
    old = tmp_path / "crash-old"
    old.write_bytes(b"old")
    fine = fuzz.outcome("ttrpc", SAID, 0, tmp_path, known={old})
    assert (fine.executions, fine.edges, fine.features, fine.fine) == (5000, 36, 166, True)
    (tmp_path / "crash-new").write_bytes(b"new")
    found = fuzz.outcome("ttrpc", SAID, 77, tmp_path, known={old})
    assert (found.faults, found.fine) == ((tmp_path / "crash-new",), False)
    assert not fuzz.outcome("ttrpc", "Traceback\nImportError: x", 1, tmp_path, known=set()).fine
    assert not fuzz.outcome("ttrpc", "nothing was run", 0, tmp_path, known={old}).fine
