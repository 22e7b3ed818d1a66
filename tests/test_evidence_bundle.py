"""What leaves the machine: no name of it in any file, every archive small, nothing dropped without a word."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import tarfile
from pathlib import Path

import pytest

from benchmarks.evidence import bundle
from benchmarks.evidence.bundle import MANIFEST, MOST_ARCHIVES, pack
from benchmarks.evidence.identity import UnreadableError, names_here

HOST, USER, HOME = "gpu-box-17.lab.example", "mwinter", "/users/mwinter"
ENVIRONMENT = {"HF_TOKEN": "hf_Qx81ZpLr93", "LANG": "de_DE.UTF-8", "SHELL": "/bin/sh", "USER": "mwinter", "N": "1"}
NAMES = names_here(HOST, USER, HOME, ENVIRONMENT, ("/scratch/project",))


def rng_bytes(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def folder_of(root: Path, runs: dict[str, dict[str, bytes]]) -> Path:
    for name, files in runs.items():
        (root / "runs" / name).mkdir(parents=True)
        for file, content in files.items():
            (root / "runs" / name / file).write_bytes(content)
    (root / "results").mkdir()
    (root / "results" / "doctor.json").write_text('{"checks": []}')
    (root / "logs").mkdir()
    (root / "state.json").write_text("{}")
    return root


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def manifest(path: Path) -> dict[str, object]:
    return json.loads(contents(path)[MANIFEST])  # type: ignore[no-any-return]


class TestNames:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            (b"on GPU-BOX-17.lab.example at", "the name of the host"),
            (b'{"host": "gpu-box-17"}', "the name of the host"),
            (b"gpu-box-17_2611.json", "the name of the host"),
            (b"/tmp/torchinductor_mwinter/x", "the name of the user"),
            (b'{"user":"mwinter"}', "the name of the user"),
            (b"error:\\nmwinter: no", "the name of the user"),
            (b'"\\/users\\/mwinter\\/x.py"', "a home folder"),
            (b"file:///users/mwinter", "a home folder"),
            (b"/scratch/project/run", "a path of this machine"),
            (b"auth=hf_Qx81ZpLr93;", "the value of the environment variable HF_TOKEN"),
            (b"LANG=de_DE.UTF-8", "the environment variable LANG"),
        ],
    )
    def test_found(self, text: bytes, what: str) -> None:
        assert what in NAMES.found(text)
        assert what in NAMES.found(gzip.compress(text))
        assert what in NAMES.found(gzip.compress(gzip.compress(text)))

    @pytest.mark.parametrize(
        "text", [b"gpu-box-170", b"mwinters", b"winter", b"/users/other", b"de_DE.UTF-8", b"SHELL", b"N=1", b""]
    )
    def test_not_found(self, text: bytes) -> None:
        assert NAMES.found(text) == []

    def test_a_user_by_a_common_name_is_looked_for_as_a_home_alone(self) -> None:
        names = names_here("localhost", "root", "/root", {})
        assert names.found(b"the root of the tree on localhost") == []
        assert names.found(b"/root/.cache") == ["a home folder"]
        assert names.found(b"file:///root") == ["a home folder"]
        assert names.found(b"aten/root/x and /rooted") == []
        assert names_here("gpu", "nvidia", "/", {"USER": "nvidia"}).found(b'"NVIDIA H100 80GB HBM3", "GPU 0"') == []

    def test_a_short_name_is_a_word_of_its_own(self) -> None:
        names = names_here("vm", "jo", "/home/jo", {})
        assert names.found(b"kvm, vm_map, fc-vm, jo-jo") == []
        assert names.found(b'"vm"') == ["the name of the host"]

    def test_escaped_letters_of_json_are_understood(self) -> None:
        names = names_here("h", "jürgen", "/home/jürgen", {})
        assert "a home folder" in names.found(json.dumps("/home/jürgen/x").encode())
        assert "the name of the user" in names.found("von jürgen".encode())

    @pytest.mark.parametrize(
        "text", ["mwinter", "gpu-box-17", "/users/mwinter/x", "hf_Qx81ZpLr93"], ids=["user", "host", "home", "secret"]
    )
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_wide_letters_are_read_too(self, text: str, encoding: str) -> None:
        assert NAMES.found(f"x {text} y".encode(encoding))
        assert NAMES.found(f"{text}".encode(encoding))

    def test_addresses_are_read_too(self) -> None:
        names = names_here("h", "jürgen", "/home/jürgen", {})
        assert "a home folder" in names.found(b"file:///home/j%C3%BCrgen/x")
        assert "a home folder" in names.found(b"?path=%2Fhome%2Fj%C3%BCrgen")

    @pytest.mark.parametrize("begin", [b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"])
    def test_what_is_packed_in_another_way_may_not_leave(self, begin: bytes) -> None:
        for data in (begin + bytes(20), gzip.compress(begin + bytes(20))):
            with pytest.raises(UnreadableError, match="not looked into"):
                NAMES.found(data)

    def test_what_is_damaged_may_not_leave(self) -> None:
        with pytest.raises(UnreadableError, match="damaged"):
            NAMES.found(gzip.compress(b"x" * 1000)[:-9])

    def test_the_names_of_this_machine_are_found(self) -> None:
        import socket

        names = names_here(environment={})
        assert names.found(str(Path.home() / "x").encode()) == ["a home folder"]
        if len(socket.gethostname()) > 1 and socket.gethostname() != "localhost":
            assert "the name of the host" in names.found(socket.gethostname().encode())


class TestBundle:
    def test_it_holds_state_results_logs_and_runs_with_their_checksums(self, tmp_path: Path) -> None:
        trace = gzip.compress(b"{}")
        folder = folder_of(tmp_path, {"a": {"run.json": b"{}", "trace.pt.trace.json.gz": trace}, "b": {"run.json": b"[]"}})
        (folder / "logs" / "a.log").write_text(f"read {Path.home()}/x and /opt/tool/y\n")
        packed = pack(folder, ["a", "b", "never-ran"], NAMES, {"plan": "cpu"})
        assert packed.left == []
        assert [path.name for path in packed.archives] == ["evidence-1.tar.gz"]
        found = contents(packed.archives[0])
        told = json.loads(found.pop(MANIFEST))
        assert set(found) == {
            "state.json", "results/doctor.json", "logs/a.log", "runs/a/run.json", "runs/a/trace.pt.trace.json.gz", "runs/b/run.json",
        }  # fmt: skip
        assert found["runs/a/trace.pt.trace.json.gz"] == trace
        assert "/opt" not in found["logs/a.log"].decode()
        assert {e["name"]: e["sha256"] for e in told["files"]} == {n: hashlib.sha256(d).hexdigest() for n, d in found.items()}
        assert (told["plan"], told["archive"], told["archives"], told["left_out"]) == ("cpu", 1, 1, [])

    def test_archives_name_no_owner_and_no_time(self, tmp_path: Path) -> None:
        packed = pack(folder_of(tmp_path, {"a": {"run.json": b"{}"}}), ["a"], NAMES, {})
        with tarfile.open(packed.archives[0]) as archive:
            assert {(m.uname, m.gname, m.uid, m.mtime) for m in archive} == {("", "", 0, 0)}
        assert packed.archives[0].read_bytes()[4:8] == bytes(4)  # the time of gzip

    @pytest.mark.parametrize("planted", [b"gpu-box-17", b"mwinter", b"/users/mwinter/x", b"hf_Qx81ZpLr93"])
    @pytest.mark.parametrize("file", ["run.json", "counters.csv", "trace.pt.trace.json.gz"])
    def test_a_run_with_a_name_in_any_file_stays_here_whole_and_is_told(
        self, tmp_path: Path, planted: bytes, file: str
    ) -> None:
        text = b'"x","' + planted + b'"'
        content = gzip.compress(text) if file.endswith(".gz") else text
        folder = folder_of(tmp_path, {"a": {"run.json": b"{}", file: content}, "b": {"run.json": b"{}"}})
        packed = pack(folder, ["a", "b"], NAMES, {})
        assert [name for name in contents(packed.archives[0]) if name.startswith("runs/a")] == []
        assert "runs/b/run.json" in contents(packed.archives[0])
        assert [left.name for left in packed.left] == [f"runs/a/{file}", "a"]
        assert packed.left[0].why.startswith("it still holds ")
        every = b"".join(data for path in packed.archives for data in contents(path).values())
        assert planted not in every

    def test_a_result_with_a_name_stays_here_and_the_others_go(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path, {})
        (folder / "results" / "costs.json").write_text('{"by": "mwinter"}')
        packed = pack(folder, [], NAMES, {})
        assert set(contents(packed.archives[0])) == {MANIFEST, "state.json", "results/doctor.json"}
        assert [left.name for left in packed.left] == ["results/costs.json"]
        assert manifest(packed.archives[0])["left_out"] == [
            {
                "name": "results/costs.json",
                "why": "it still holds the name of the user, the value of the environment variable USER",
                "bytes": 17,
            }
        ]

    def test_a_name_in_the_name_of_a_file_is_not_told_on(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path, {"a": {"gpu-box-17.csv": b"1"}})
        (folder / "results" / "mwinter.json").write_text("{}")
        packed = pack(folder, ["a"], NAMES, {})
        told = packed.archives[0].read_bytes(), json.dumps(manifest(packed.archives[0]))
        assert "mwinter" not in told[1]
        assert "gpu-box" not in told[1]
        assert len(packed.left) == 3

    def test_a_name_in_a_log_is_masked_or_the_log_stays(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path, {})
        (folder / "logs" / "a.log").write_text("mwinter did it\n")
        (folder / "logs" / "b.log").write_text("see /users/mwinter/x\n")
        packed = pack(folder, [], NAMES, {})
        assert [left.name for left in packed.left] == ["logs/a.log"]
        assert contents(packed.archives[0])["logs/b.log"] == b"see <path>"

    def test_archives_are_small_and_runs_that_do_not_fit_together_are_parted(self, tmp_path: Path) -> None:
        runs = {f"r{n}": {"run.json": b"{}", "trace.gz": gzip.compress(rng_bytes(300_000, n))} for n in range(5)}
        packed = pack(folder_of(tmp_path, runs), list(runs), NAMES, {}, most_bytes=900_000)
        assert packed.left == []
        assert all(path.stat().st_size < 900_000 for path in packed.archives)
        names = [name for path in packed.archives for name in contents(path) if name != MANIFEST]
        assert sorted(names) == sorted(
            ["state.json", "results/doctor.json", *(f"runs/r{n}/{f}" for n in range(5) for f in ("run.json", "trace.gz"))]
        )
        assert len(packed.archives) == 3

    def test_a_run_that_is_too_large_is_split_by_file_and_a_file_that_is_is_told(self, tmp_path: Path) -> None:
        files = {f"part-{n}": rng_bytes(300_000, n) for n in range(3)} | {"huge": rng_bytes(900_000, 9)}
        packed = pack(folder_of(tmp_path, {"a": files}), ["a"], NAMES, {}, most_bytes=900_000)
        names = [name for path in packed.archives for name in contents(path) if name.startswith("runs/")]
        assert sorted(names) == [f"runs/a/part-{n}" for n in range(3)]
        assert [(left.name, left.bytes) for left in packed.left] == [("runs/a/huge", 900_000)]
        assert "0.9 MB packed, an archive takes 0.7 MB" in packed.left[0].why

    def test_more_than_the_archives_take_is_told_and_the_first_runs_go(self, tmp_path: Path) -> None:
        runs = {f"r{n}": {"trace.gz": rng_bytes(600_000, n)} for n in range(8)}
        packed = pack(folder_of(tmp_path, runs), list(runs), NAMES, {}, most_bytes=900_000)
        assert len(packed.archives) == MOST_ARCHIVES
        assert [left.name for left in packed.left] == ["r6", "r7"]
        told = manifest(packed.archives[-1])["left_out"]
        assert [entry["name"] for entry in told] == ["r6", "r7"]  # type: ignore[attr-defined]

    def test_an_older_bundle_gives_way(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path, {})
        (folder / "bundle").mkdir()
        (folder / "bundle" / "evidence-4.tar.gz").write_bytes(b"old")
        packed = pack(folder, [], NAMES, {})
        assert sorted((folder / "bundle").iterdir()) == packed.archives

    def test_what_an_interrupted_counter_pass_left_stays_here(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path, {"a": {"run.json": b"{}", ".run.json.part": b"x"}})
        (folder / "runs" / "a" / ".counting-x").mkdir()
        (folder / "runs" / "a" / ".counting-x" / "group-1.log").write_text("x")
        found = contents(pack(folder, ["a"], NAMES, {}).archives[0])
        assert [name for name in found if name.startswith("runs/")] == ["runs/a/run.json"]

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "out", {"a": {"run.json": b"{}"}})
        (tmp_path / "outside").write_text("x")
        (folder / "runs" / "a" / "link").symlink_to(tmp_path / "outside")
        assert "runs/a/link" not in contents(pack(folder, ["a"], NAMES, {}).archives[0])

    def test_sizes_count_what_is_packed(self) -> None:
        part = bundle.Part("a", (("x", b"0" * 1_000_000), ("y", rng_bytes(1_000))))
        assert 1_000 < part.packed_bytes < 20_000
