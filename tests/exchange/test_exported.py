"""Exported weights: the same images as the milestone's, and of a stranger's file one line."""

import base64
import functools
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mindiffusion.build import build_codec, build_network
from mindiffusion.config.model import MODELS
from mindiffusion.config.process import DDPMConfig, EDMConfig, VPSDEConfig
from mindiffusion.config.run import RunConfig, TrainingConfig, to_kept
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.exchange import exported
from mindiffusion.exchange.by_path import is_weights, open_weights
from mindiffusion.sampling import config_of, model_of, sample_images, usual_weights
from mindiffusion.training import checkpoint

CPU = torch.device("cpu")
SIZES = {
    "uvit": {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    "sparse_unet": {"n_feat": 8},
    "naive_unet": {"n_feat": 8},
}
PROCESSES = {
    "ddpm": DDPMConfig(n_T=12),
    "preconditioned": DDPMConfig(n_T=12, parameterization="preconditioned"),
    "vpsde": VPSDEConfig(),
    "edm": EDMConfig(sigma_data="auto"),
}


def config_with(network="naive_unet", process="ddpm", **sizes):
    return RunConfig(
        arm="B",
        curriculum=(StageConfig("all", 1.0, sparsity=0.5 if network == "sparse_unet" else 0.0),),
        output="unused",
        model=MODELS[network](**SIZES[network] | sizes),
        process=PROCESSES[process],
        training=TrainingConfig(steps=4, ema_decays=(0.9,)),
        sampler=SamplerConfig(steps=3, chunk=2),
    )


@functools.cache
def milestone_of(network, process):
    config = config_with(network, process)
    generator = torch.Generator().manual_seed(1)
    kept = build_network(config).state_dict()
    moved = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in kept.items()
    }
    spread = {"mean": torch.rand(32, 32, 3, generator=generator).double(), "std": 1 / 3}
    return {
        "step": 4,
        "config": to_kept(config),
        "runtime": {"device": "cpu", "precision": "fp32", "compile": False, "threads": 1},
        "train_seconds": 1.1,
        "stage_log": [{"step": 0, "stage": "all", "active_channels": 16.0, "x": [1, None]}],
        "begun": [0],
        "weights": {"raw": moved, "ema0.9": kept},
    } | ({"statistics": spread} if config.process.uses_statistics else {})


def kept_file(folder, network="naive_unet", process="ddpm"):
    path = checkpoint.weights_path(folder, 4)
    checkpoint.save(path, milestone_of(network, process))
    return path


def exported_file(folder, weights="ema0.9", **what):
    path = folder / "their.safetensors"
    exported.save(path, open_weights(kept_file(folder, **what)), weights)
    return path


def images_of(path, weights):
    content = open_weights(path)
    config = config_of(content)
    model = model_of(content, weights, CPU)
    return sample_images(model, model.process, build_codec(config), config.sampler, 3, 32)


@pytest.mark.parametrize(
    ("network", "process"),
    [
        ("naive_unet", "ddpm"),
        ("sparse_unet", "preconditioned"),
        ("uvit", "vpsde"),
        ("naive_unet", "edm"),
    ],
)
def test_images_of_an_exported_file_are_the_milestone_s_bit_for_bit(tmp_path, network, process):
    drawn = []
    for weights in ("ema0.9", "raw"):
        path = exported_file(tmp_path, weights, network=network, process=process)
        assert is_weights(path)
        drawn.append(images_of(path, weights))
        assert np.array_equal(drawn[-1], images_of(kept_file(tmp_path, network, process), weights))
        content = open_weights(path)
        assert usual_weights(content, config_of(content)) == weights
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize("process", ["ddpm", "preconditioned"])
def test_an_exported_file_says_what_the_milestone_says(tmp_path, process):
    found = open_weights(exported_file(tmp_path, "raw", process=process))
    whole = open_weights(tmp_path / "weights-000000004.pt")
    assert list(found["weights"]) == ["raw"]
    for name, tensor in whole["weights"]["raw"].items():
        assert torch.equal(found["weights"]["raw"][name], tensor)
    if process == "preconditioned":
        assert torch.equal(found["statistics"].pop("mean"), whole["statistics"].pop("mean"))
    for part in (found, whole):
        del part["weights"]
    assert found == {key: value for key, value in whole.items() if key != "format"}


def test_the_same_weights_are_the_same_bytes_also_twice_exported(tmp_path):
    path = exported_file(tmp_path)
    content = path.read_bytes()
    exported.save(path, open_weights(path), "ema0.9")
    assert path.read_bytes() == content


def test_weights_that_share_memory_or_are_wrapped_are_exported(tmp_path):
    content = dict(open_weights(kept_file(tmp_path)))
    kept = content["weights"]["raw"]
    one = next(iter(kept.values()))
    flat = torch.zeros(one.numel() + 1)[1:].view_as(one)
    twins = {name: flat if tensor.shape == one.shape else tensor for name, tensor in kept.items()}
    wrapped = {f"module.{name}": tensor for name, tensor in twins.items()}
    exported.save(tmp_path / "x.safetensors", content | {"weights": {"raw": wrapped}}, "raw")
    found = open_weights(tmp_path / "x.safetensors")["weights"]["raw"]
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in twins.items())


def test_a_state_to_resume_from_is_not_exported(tmp_path):
    content = dict(open_weights(kept_file(tmp_path)))
    del content["weights"]
    with pytest.raises(UserError, match="state to resume from"):
        exported.save(tmp_path / "x.safetensors", content, "raw")
    with pytest.raises(UserError, match=r"no weights 'ema0.99'.*'ema0.9'"):
        exported.save(tmp_path / "x.safetensors", open_weights(kept_file(tmp_path)), "ema0.99")
    assert not (tmp_path / "x.safetensors").exists()


def rewritten(path, change):
    """The file with another header: ``change`` is given the header and the entry of ours."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    entry = json.loads(header["__metadata__"]["mindiffusion"])
    change(header, entry)
    if "mindiffusion" in header.get("__metadata__", {}):
        header["__metadata__"]["mindiffusion"] = json.dumps(entry)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def in_entry(*keys, value):
    def change(header, entry):
        for key in keys[:-1]:
            entry = entry[key]
        entry[keys[-1]] = value

    return change


def in_tensor(**values):
    return lambda header, entry: header["out.weight"].update(values)


def without_ours(header, entry):
    del header["__metadata__"]["mindiffusion"]


def renamed(header, entry):
    header["\x1b[2J"] = header.pop("out.bias")


def turned(header, entry):
    header["out.weight"]["shape"].reverse()


def wider(**model):
    return in_entry("milestone", "config", "model", value={"network": "naive_unet"} | model)


STRANGERS = {
    "no metadata": (lambda header, entry: header.pop("__metadata__"), "says of which network"),
    "metadata of others": (without_ours, "says of which network"),
    "another format": (in_entry("format", value=2), "format is 2"),
    "more than is known": (in_entry("more", value=2), "more is not known"),
    "weights of no name": (in_entry("weights", value="\x1b"), "weights is"),
    "no manifest": (in_entry("manifest", value=3), "manifest is 3"),
    "no milestone": (in_entry("milestone", value=[]), "milestone is []"),
    "no step": (in_entry("milestone", "step", value=-4), "step is -4"),
    "no runtime": (in_entry("milestone", "runtime", value=3), "runtime is 3"),
    "no time": (in_entry("milestone", "train_seconds", value=float("nan")), "train_seconds is nan"),
    "no stages": (in_entry("milestone", "stage_log", value=[3]), "stage_log.0 is 3"),
    "stages from behind": (in_entry("milestone", "begun", value=[3]), "begun is"),
    "no config": (in_entry("milestone", "config", value=None), "config is None"),
    "an unknown key": (in_entry("milestone", "config", "nets", value=1), "unknown key 'nets'"),
    "an unknown network": (wider(network="unet9"), "is 'unet9'; allowed are"),
    "another network": (wider(network="uvit"), "lacks the tensor 'pos_embed'"),
    "a wider network": (wider(n_feat=16), "in the network of its config"),
    "a huge network": (wider(n_feat=4096), "in the network of its config"),
    "a network past all": (wider(n_feat=10**7), "n_feat' is 10000000"),
    "statistics": (in_entry("statistics", value={"mean": 3, "std": 1.0}), "statistics.mean is 3"),
    "other numbers": (in_tensor(dtype="I32"), "'out.weight' is of torch.int32"),
    "numbers of no network": (in_tensor(dtype="U32"), "'out.weight' is of U32; allowed are F64"),
    "an unknown number": (in_tensor(dtype="F12"), "cannot be read"),
    "another shape": (turned, "'out.weight' is 3x3x16x3, but 3x16x3x3"),
    "more bytes than there are": (in_tensor(shape=[3, 8, 3, 4]), "cannot be read"),
    "endless sides": (in_tensor(shape=[2**62, 2**62]), "cannot be read"),
    "another name": (renamed, "lacks the tensor 'out.bias'"),
    "another digest": (in_entry("sha256", value="0" * 64), "is damaged"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_s_header_is_one_line_and_no_tensor_is_read(tmp_path, name, monkeypatch):
    change, message = STRANGERS[name]
    path = exported_file(tmp_path)
    rewritten(path, change)
    monkeypatch.setattr(exported, "tensors_of_file", None)
    with pytest.raises(UserError) as caught:
        open_weights(path)
    line = str(caught.value)
    assert message in line, line
    assert "\n" not in line and "\x1b" not in line and len(line) < 700


def test_statistics_are_those_of_the_config_s_images(tmp_path):
    path = exported_file(tmp_path, process="preconditioned")
    for size, message in (
        (0, "0 bytes, which are no square"),
        (5, "5 bytes, which are no square"),
        (24 * 16**2, "'statistics.mean' is 16x16x3, but 32x32x3"),
    ):
        mean = base64.b64encode(bytes(size)).decode()
        rewritten(path, in_entry("statistics", "mean", value=mean))
        with pytest.raises(UserError, match=message):
            open_weights(path)
    rewritten(path, in_entry("statistics", value=None))
    with pytest.raises(UserError, match="lacks the statistics"):
        open_weights(path)


def test_damage_behind_the_header_and_files_of_others_are_told(tmp_path):
    path = exported_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"their\.safetensors is damaged"):
        open_weights(path)
    for content in (whole[:-1], whole[:100], b"", b"{}"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"their\.safetensors cannot be read"):
            open_weights(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(UserError, match="says of which network"):
        open_weights(path)
    with pytest.raises(UserError, match=r"none\.safetensors does not exist"):
        open_weights(tmp_path / "none.safetensors")


place = st.floats(0, 1, exclude_max=True)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=place, put=st.binary(max_size=3), drop=st.integers(0, 3))
def test_mutated_headers_give_a_milestone_or_one_line(tmp_path, at, put, drop):
    path = tmp_path / "x.safetensors"
    if not path.exists():
        exported_file(tmp_path).rename(path)
    whole = path.read_bytes()
    start = int(at * (8 + int.from_bytes(whole[:8], "little")))
    other = tmp_path / "other.safetensors"
    other.write_bytes(whole[:start] + put + whole[start + drop :])
    try:
        config_of(open_weights(other))
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 700
