import json
from dataclasses import replace

import pytest
import torch

from mindiffusion import runtime
from mindiffusion.config.run import RunConfig
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.runtime import (
    Runtime,
    SamplerRuntime,
    chunk_size,
    has_cxx_compiler,
    resolve_runtime,
    resolve_sampler,
)


@pytest.fixture
def machine(monkeypatch):
    """A function that sets what the machine has."""

    def pretend(gpu=False, compiler=True, cores=8, bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
        monkeypatch.setattr(runtime, "has_cxx_compiler", lambda: compiler)
        monkeypatch.setattr(runtime, "available_cores", lambda: cores)
        monkeypatch.setattr(runtime, "supports_bf16", lambda device: bf16)

    return pretend


@pytest.fixture
def config(tiny_config) -> RunConfig:
    words = ("training={device: auto, precision: auto, compile: auto, threads: null}",)
    return tiny_config("c", *words)


def with_width(config, n_feat):
    return replace(config, model=replace(config.model, n_feat=n_feat))


@pytest.mark.parametrize(
    ("has", "n_feat", "expected"),
    [
        ({}, 16, Runtime("cpu", "fp32", False, 8)),
        ({}, 128, Runtime("cpu", "fp32", True, 8)),
        ({"bf16": True}, 16, Runtime("cpu", "fp32", False, 8)),
        ({"bf16": True}, 128, Runtime("cpu", "bf16", True, 8)),
        ({"compiler": False}, 128, Runtime("cpu", "fp32", False, 8)),
        ({"gpu": True, "bf16": True}, 32, Runtime("cuda", "bf16", True, 8)),
        ({"gpu": True, "compiler": False}, 32, Runtime("cuda", "fp32", True, 8)),
    ],
)
def test_auto_follows_the_machine(machine, config, has, n_feat, expected):
    machine(**has)
    assert resolve_runtime(with_width(config, n_feat), 1) == expected


def test_ranks_of_a_machine_share_its_cores(machine, config):
    machine(cores=8)
    assert [resolve_runtime(config, ranks).threads for ranks in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_what_is_asked_for_wins(machine, config):
    machine(gpu=True, bf16=True)
    training = replace(
        config.training, device="cpu", precision="fp64", compile="off", threads=3
    )  # fmt: skip
    assert resolve_runtime(replace(config, training=training), 2) == Runtime(
        "cpu", "fp64", False, 3
    )


@pytest.mark.parametrize(
    ("field", "value", "has", "match"),
    [
        ("device", "cuda", {}, "sees 0 GPUs.*training.device=cpu"),
        ("compile", "on", {"compiler": False}, "C\\+\\+ compiler.*training.compile=off"),
    ],
)
def test_what_is_asked_for_and_not_there_is_an_error(machine, config, field, value, has, match):
    machine(**has)
    training = replace(config.training, **{field: value})
    with pytest.raises(UserError, match=match):
        resolve_runtime(replace(config, training=training), 1)


def test_compiler_is_looked_for_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not has_cxx_compiler()
    (tmp_path / "mycxx").write_text("")
    (tmp_path / "mycxx").chmod(0o755)
    assert not has_cxx_compiler()
    monkeypatch.setenv("CXX", "mycxx")
    assert has_cxx_compiler()


@pytest.mark.parametrize(
    ("precision", "dtype", "inside"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.float32, torch.bfloat16),
        ("fp64", torch.float64, torch.float64),
    ],
)
def test_precision_sets_weights_and_products(precision, dtype, inside):
    chosen = Runtime("cpu", precision, False, 1)
    layer = torch.nn.Linear(2, 2).to(chosen.dtype)
    with chosen.autocast():
        product = layer(torch.ones(1, 2, dtype=chosen.dtype))
    assert layer.weight.dtype == dtype and product.dtype == inside


def test_runtime_is_kept_and_used_again_on_resume(workdir, train_run, tiny_config, monkeypatch):
    config = tiny_config("c", "training.precision=auto")
    train_run(config, stop_after=7)
    path = config.run_dir / "config.json"
    kept = json.loads(path.read_text())
    assert kept["runtime"] == {
        "device": "cpu", "precision": "fp32", "compile": False, "threads": 1
    }  # fmt: skip
    # A run begun in bf16 goes on in bf16 on a machine where auto would choose otherwise.
    kept["runtime"]["precision"] = "bf16"
    del kept["sha256"]
    path.write_text(json.dumps(kept | {"sha256": sha256_of_json(kept)}))
    monkeypatch.setattr("mindiffusion.training.run_folder.resolve_runtime", None)
    trainer = train_run(config)
    assert trainer.runtime.precision == "bf16" and trainer.step == 24


@pytest.mark.parametrize(
    ("has", "device", "n_feat", "expected"),
    [
        ({}, "cpu", 16, SamplerRuntime(64, "fp32", False)),
        ({"bf16": True}, "cpu", 16, SamplerRuntime(64, "fp32", False)),
        ({"bf16": True}, "cpu", 128, SamplerRuntime(64, "bf16", True)),
        ({"compiler": False}, "cpu", 128, SamplerRuntime(64, "fp32", False)),
        (
            {"gpu": True, "bf16": True, "compiler": False},
            "cuda",
            8,
            SamplerRuntime(512, "bf16", True),
        ),
        ({"gpu": True}, "cuda", 8, SamplerRuntime(512, "fp32", True)),
    ],
)
def test_auto_sampler_follows_the_device(machine, config, has, device, n_feat, expected):
    machine(**has)
    automatic = replace(with_width(config, n_feat), sampler=SamplerConfig())
    assert resolve_sampler(automatic, device) == expected


def test_sampler_asked_for_wins(machine, config):
    machine(gpu=True, bf16=True)
    sampler = SamplerConfig(chunk=7, precision="fp32", compile="off")
    chosen = resolve_sampler(replace(config, sampler=sampler), "cuda")
    assert chosen == SamplerRuntime(7, "fp32", False)
    machine(compiler=False)
    sampler = replace(sampler, compile="on")
    with pytest.raises(UserError, match=r"C\+\+ compiler.*sampler.compile=off"):
        resolve_sampler(replace(config, sampler=sampler), "cpu")


@pytest.mark.parametrize(
    ("side", "device", "chunk"),
    [(32, "cpu", 64), (64, "cpu", 16), (512, "cpu", 1), (64, "cuda", 128)],
)
def test_auto_chunk_has_as_many_pixels_at_any_side(side, device, chunk):
    assert chunk_size(SamplerConfig(), side, device) == chunk
    assert chunk_size(SamplerConfig(chunk=5), side, device) == 5
