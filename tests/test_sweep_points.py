"""The keys, records and locks of the points of a sweep, without running one."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzer.capture.points import Identity, PointPlan, PointStore, _remove_remains, plan_point
from analyzer.capture.privacy import masked_record, masked_setting
from analyzer.errors import ConfigError, TraceError
from analyzer.schema.run import DeviceFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.schema.sweep import PointRecord

GPU = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", index=0, sm_count=132, memory_bytes=85 << 30)
IDENTITY = Identity(
    facts=GPU,
    lock="gpu-0",
    versions={"torch": "2.13.0", "timm": "1.0.20", "driver": "580.1", "analyzer": "0.1.0", "numpy": "2.4"},
    batch_size=32,
    image_size=224,
    dtype="bfloat16",
    threads=None,
    short_forms={"bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16"},
)
VIT = ModelChoice("vit", "vit_tiny_patch16_224", "ViT-Ti/16")
CNN = ModelChoice("cnn", "resnet18", "ResNet-18")


def key(choice: ModelChoice = VIT, capture: CaptureSettings | None = None, identity: Identity = IDENTITY) -> str:
    return plan_point(choice, capture or CaptureSettings(), identity).key


def changed(**fields: Any) -> Identity:
    return msgspec.structs.replace(IDENTITY, **fields)


def test_a_key_stands_for_the_setting_not_for_how_it_was_written() -> None:
    assert key() == key(capture=CaptureSettings(batch_size=32, image_size=224, dtype="bf16"))
    assert key() == key(capture=CaptureSettings(dtype="torch.BFloat16"))
    assert key() == key(ModelChoice("vit", VIT.name, "another label"))
    assert key() == key(capture=CaptureSettings(out_root=Path("elsewhere"), command=("analyzer", "x"), calibrate="off"))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8}, {"image_size": 384}, {"dtype": "fp16"}, {"dtype": "tf32"}, {"layout": "channels_last"},
        {"attention": "math"}, {"autocast": True}, {"input": "host"}, {"cudnn_benchmark": True}, {"compile": "default"}, {"threads": 3}, {"seed": 1}, {"iterations": 99}, {"repeats": 5},
        {"traced_steps": 9}, {"stacks": True}, {"warmup_max_s": 1.0}, {"warmup_min_iterations": 9}, {"sample_period_s": 0.5},
    ],
)  # fmt: skip
def test_every_setting_is_part_of_the_key(change: dict[str, Any]) -> None:
    assert key(capture=CaptureSettings(**change)) != key()


def test_no_setting_is_forgotten() -> None:
    """A new field of CaptureSettings has to be in the key or in this list."""
    elsewhere = {"device", "calibrate", "out_root", "command"}
    elsewhere |= {"counters"}  # in the key only where a sweep is told to count: tests/capture/test_ncu_session.py
    plan = plan_point(VIT, CaptureSettings(), IDENTITY)
    covered = set(msgspec.structs.asdict(plan.setting)) | set(plan.measurement)
    assert {field.name for field in dataclasses.fields(CaptureSettings)} - elsewhere <= covered


@pytest.mark.parametrize("name", ["torch", "timm", "driver", "analyzer"])
def test_every_version_that_matters_is_part_of_the_key(name: str) -> None:
    assert key(identity=changed(versions=IDENTITY.versions | {name: "other"})) != key()
    assert key(identity=changed(versions={k: v for k, v in IDENTITY.versions.items() if k != name})) != key()


def test_the_device_is_part_of_the_key_but_not_which_of_several_alike() -> None:
    assert key(identity=changed(facts=msgspec.structs.replace(GPU, index=3), lock="gpu-3")) == key()
    assert key(identity=changed(versions=IDENTITY.versions | {"numpy": "1"})) == key()
    for field, value in (("name", "NVIDIA A100"), ("vendor", "AMD"), ("memory_bytes", 40 << 30), ("sm_count", 108)):
        assert key(identity=changed(facts=msgspec.structs.replace(GPU, **{field: value}))) != key()


def test_models_options_and_factories_make_keys() -> None:
    other = ModelChoice("vit", VIT.name, VIT.label, options={"patch_size": 8})
    sixteen = ModelChoice("vit", VIT.name, VIT.label, options={"patch_size": 16})
    assert len({key(), key(other), key(sixteen), key(CNN)}) == 4


def test_a_dtype_that_there_is_not_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="unknown dtype foo") as caught:
        key(capture=CaptureSettings(dtype="foo"))
    assert caught.value.hint == "use dtype=bfloat16, float16, tf32"


@pytest.mark.parametrize("options", [{"x": "y" * (3 << 20)}, {"a": [[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]}])
def test_what_no_reader_would_take_is_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"too large|too deep"):
        key(ModelChoice("vit", VIT.name, VIT.label, options=options))
    with pytest.raises(ConfigError, match="cannot be meant"):
        key(capture=CaptureSettings(batch_size=2**41))


def with_facts(**fields: Any) -> str:
    return key(identity=changed(facts=msgspec.structs.replace(GPU, **fields)))


def test_the_device_in_a_key() -> None:
    gib = 1 << 30
    cpu = {"type": "cpu", "name": "EPYC", "sm_count": None, "cores": 8}
    assert with_facts(**cpu, memory_bytes=64 * gib - 5000) == with_facts(**cpu, memory_bytes=64 * gib - 90_000_000)
    assert with_facts(**cpu, memory_bytes=64 * gib) != with_facts(**cpu, memory_bytes=32 * gib)
    assert with_facts(**cpu) != with_facts(**(cpu | {"cores": 16}))
    assert with_facts(power_limit_w=700.0) != with_facts(power_limit_w=350.0)
    assert with_facts(index=3, clock_mhz=1000.0) == key()


def test_attention_is_no_setting_of_a_cnn() -> None:
    assert key(CNN, CaptureSettings(attention="math")) == key(CNN, CaptureSettings(attention="flash")) == key(CNN)


def test_an_edited_factory_is_another_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = ModelChoice("vit", "make", "make", factory="ours:make")
    (tmp_path / "ours.py").write_text("def make(): ...")
    before = key(own)
    assert key(own) == before
    (tmp_path / "ours.py").write_text("def make(): return 1")
    assert key(own) != before


def record(plan: PointPlan, **fields: Any) -> PointRecord:
    base = {"format_version": 1, "key": plan.key, "setting": plan.setting, "device": GPU, "versions": plan.versions}
    return PointRecord(**(base | {"status": "measured"} | fields))


def test_a_record_comes_back_and_says_whether_the_point_is_settled(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    assert store.read(plan.key) is None
    store.lock(plan.key)
    written = record(plan, run="there", reason=f"{Path.home()}/x is missing")
    store.write(written)
    assert str(Path.home()) not in store.path(plan.key).read_text() or len(str(Path.home())) == 1
    found = store.read(plan.key)
    assert found is not None
    assert found.setting == plan.setting
    assert not store.is_settled(found)  # its run directory is gone
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "run.json").write_text("{}")
    assert store.is_settled(found)
    assert store.is_settled(record(plan, status="out_of_memory"))
    assert store.is_settled(record(plan, status="unsupported"))
    assert not store.is_settled(record(plan, status="failed"))
    assert [path.name for path in (tmp_path / "points").iterdir()] == [f"{plan.key}.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format_version": 1}', b"\xff\xfe"])
def test_a_damaged_record_is_told(damage: bytes, tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    store.path(plan.key).write_bytes(damage)
    with pytest.raises(TraceError, match="damaged"):
        store.read(plan.key)


def test_a_record_of_another_version_or_key_is_told(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    store.write(record(plan, format_version=99))
    with pytest.raises(TraceError, match="newer version"):
        store.read(plan.key)
    store.path(plan.key).write_bytes(msgspec.json.encode(record(plan, key="0" * 32)))
    with pytest.raises(TraceError, match="another version"):
        store.read(plan.key)


def test_what_is_no_small_file_is_no_record(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    path = store.path(plan.key)
    os.mkfifo(path)  # reading it would wait for ever
    with pytest.raises(TraceError, match="no file"):
        store.read(plan.key)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(TraceError, match="no file"):
        store.read(plan.key)
    path.unlink()
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(TraceError, match="too large"):
        store.read(plan.key)
    deep = json.loads(msgspec.json.encode(record(plan)))
    for levels, match in ((30, "too deep"), (100_000, "damaged")):
        text = json.dumps(deep).replace('"options": {}', '"options": {"a": ' + "[" * levels + "]" * levels + "}")
        path.write_text(text)
        with pytest.raises(TraceError, match=match):
            store.read(plan.key)
    with pytest.raises(TraceError, match="key"):
        store.read("../../x")


def test_a_record_leads_to_no_run_elsewhere(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path / "traces")
    (tmp_path / "run.json").write_text("{}")
    store.lock(plan.key)
    assert not store.is_settled(record(plan, run=".."))
    assert not store.is_settled(record(plan, run=str(tmp_path)))


def test_a_record_says_nothing_of_places_people_and_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node17.alice.example")
    (tmp_path / "home").symlink_to(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    paths = {"checkpoint_path": "/data/alice/a.pt", "sizes": [8, 16], "more": {"file": "~alice/b.pt"}}
    own = ModelChoice("vit", "local-dir:/data/alice/vit", "ViT-Ti/16", options=paths)
    other = ModelChoice("vit", own.name, own.label, options=paths | {"checkpoint_path": "/data/alice/c.pt"})
    plan, store = plan_point(own, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    reason = f"on node17 and NODE17.alice.example: '{tmp_path}/my file' /data/alice/x.py:3: ~alice {tmp_path}/home, 3 images/s"
    store.write(record(plan, run="there", reason=reason, hint="see https://pytorch.org/docs, or ~alice/notes"))
    found = store.read(plan.key)
    assert found is not None
    text = store.path(plan.key).read_text().casefold()
    assert all(word not in text for word in ("alice", "node17", str(tmp_path), "/data"))
    assert found.setting.label == "ViT-Ti/16"
    assert found.reason.endswith(", 3 images/s")
    assert "https://pytorch.org/docs" in found.hint
    assert found.setting.options["sizes"] == [8, 16]
    assert found.setting.options["checkpoint_path"].startswith("<path ")
    assert masked_record(found) == found
    again = plan_point(other, CaptureSettings(), IDENTITY)
    assert again.key != plan.key  # the key has the path itself
    assert masked_setting(again.setting).options["checkpoint_path"] != found.setting.options["checkpoint_path"]


def test_only_what_this_process_left_is_removed(tmp_path: Path) -> None:
    ours, other = tmp_path / ".x-1.aaaa.17.part", tmp_path / ".x-1.bbbb.17.part"
    ours.mkdir()
    other.mkdir()
    _remove_remains(tmp_path, "aaaa")
    assert list(tmp_path.iterdir()) == [other]
