"""Checkpoints that somebody else sealed: content that the program can use, or one line."""

import functools
import json
import logging
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mindiffusion.sampling
from mindiffusion.build import build_network, expected_tensors
from mindiffusion.config.model import MODELS
from mindiffusion.config.process import DDPMConfig
from mindiffusion.config.run import (
    RunConfig,
    TrainingConfig,
    to_dict,
)
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file
from mindiffusion.runtime import SamplerRuntime
from mindiffusion.sampling import config_of, kept_weights, load_weights, model_of
from mindiffusion.training import checkpoint
from mindiffusion.training.ema import Averages

CPU = torch.device("cpu")


def config(network="naive_unet", n_feat=8):
    return RunConfig(
        arm="B",
        curriculum=(StageConfig("all", 1.0, sparsity=0.5 if network == "sparse_unet" else 0.0),),
        output="unused",
        model=MODELS[network](n_feat=n_feat),
        process=DDPMConfig(n_T=12),
        training=TrainingConfig(steps=4, ema_decays=(0.9,)),
    )


ENTRY = {"step": 0, "stage": "all", "active_channels": 16.0, "penalty_lambda": 0.0}
DESCRIBED = {
    "format": checkpoint.FORMAT,
    "step": 4,
    "config": to_dict(config()),
    "runtime": {"device": "cpu", "precision": "fp32", "compile": False, "threads": 1},
    "train_seconds": 1.5,
    "stage_log": [ENTRY | {"channels_on": 3}],
}


@functools.cache
def network():
    return build_network(config())


def milestone(prefix="", **changes):
    state = {prefix + name: tensor for name, tensor in network().state_dict().items()}
    return DESCRIBED | {"weights": {"raw": state, "ema0.9": state}} | changes


@functools.cache
def trained():
    """Optimizer and averages after a step of a network that learns nothing."""
    optimizer = torch.optim.Adam(network().parameters(), lr=0.0, fused=True)
    for parameter in network().parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer, Averages(network(), (0.9,), 4)


def state(**changes):
    optimizer, averages = trained()
    return DESCRIBED | {
        "network": network().state_dict(),
        "averages": averages.state_dict(),
        "optimizer": optimizer.state_dict(),
        "unlogged": torch.zeros(2, 3, dtype=torch.float64),
        "manifest": "0123456789ab",
        "log": "",
    } | changes  # fmt: skip


def sealed(path, content):
    """The path, with any content under a seal of step 4."""
    torch.save(content, path)
    seal = {"format": checkpoint.FORMAT, "step": 4, "sha256": sha256_of_file(path)}
    path.with_suffix(".json").write_text(json.dumps(seal))
    return path


def read(folder, content):
    return checkpoint.load(sealed(checkpoint.weights_path(folder, 4), content))


def use(folder, content):
    """All that sampling and scoring take of a milestone's file."""
    loaded = read(folder, content)
    config_of(loaded)
    kept_weights(loaded, "raw")
    return model_of(loaded, "ema0.9", CPU)


def go_on(folder, content):
    loaded = checkpoint.load(sealed(checkpoint.checkpoint_path(folder, 4), content))
    optimizer, averages = trained()
    empty = torch.zeros(0, 3, dtype=torch.float64)
    checkpoint.check_state(loaded, network(), optimizer, averages.names, empty)
    return loaded


def refused(action, *parts):
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 700
    for part in parts:
        assert part in message, message


def test_a_whole_milestone_and_a_whole_state_are_taken(tmp_path):
    model = use(tmp_path, milestone())
    assert torch.equal(model.network.out.weight, network().out.weight)
    assert go_on(tmp_path, state())["step"] == 4


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_wrapped_networks_are_taken(tmp_path, prefix):
    model = use(tmp_path, milestone(prefix))
    assert torch.equal(model.network.out.weight, network().out.weight)


@pytest.mark.parametrize("name", ["naive_unet", "sparse_unet", "reg_unet"])
def test_expected_tensors_are_those_of_the_network_built(name):
    expected, built = expected_tensors(config(name)), build_network(config(name)).state_dict()
    facts = [{k: (t.shape, t.dtype) for k, t in side.items()} for side in (expected, built)]
    assert facts[0] == facts[1]
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    expected_tensors(config(name, 16))
    assert torch.equal(torch.rand(1), first)


@pytest.mark.parametrize("n_feat", [16, 4096, 10**7])
def test_no_network_is_sized_by_a_config_that_its_tensors_do_not_fit(tmp_path, monkeypatch, n_feat):
    monkeypatch.setattr(mindiffusion.sampling, "build_network", None)
    wide = to_dict(config())
    wide["model"]["n_feat"] = n_feat
    content = milestone(config=wide)
    message = "n_feat' is 10000000" if n_feat > 4096 else "in the network of its config"
    refused(lambda: use(tmp_path, content), message)
    refused(lambda: config_of(content), message)


def test_a_sampling_network_takes_no_weights_of_another_network():
    network = mindiffusion.sampling.sampling_network(
        config(n_feat=16), SamplerRuntime(4, "fp32", False), CPU
    )
    refused(lambda: load_weights(network, milestone(), "raw"), "of another network")


KNOT: list = []
KNOT.append(KNOT)
TREE: list = []
for _ in range(60):
    TREE = [TREE, TREE]
MILESTONES = {
    "no config": ({"config": None}, "config is None"),
    "a tensor as config": ({"config": torch.zeros(3)}, "config is "),
    "a config in itself": ({"config": {"arm": KNOT}}, "nested too deep"),
    "a config of numbers": ({"config": {1: 2}}, "config"),
    "a tree": ({"config": TREE}, "config is a list of 2"),
    "a huge number": ({"config": {"seed": 10**5000}}, "cannot be read"),
    "other text": ({"config": {"arm": "\x1b[2J"}}, "can't be shown"),
    "another step": ({"step": 5}, "holds step 5; it was renamed"),
    "half a step": ({"step": 4.0}, "step is 4.0"),
    "no stages": ({"stage_log": [3]}, "stage_log.0 is 3"),
    "stages of text": ({"stage_log": [ENTRY | {"active_channels": "x"}]}, "active_channels is 'x'"),
    "a tree of stages": ({"stage_log": [ENTRY | {"x": TREE}]}, "nested too deep"),
    "no runtime": ({"runtime": []}, "runtime is []"),
    "no time": ({"train_seconds": float("nan")}, "train_seconds is nan"),
    "no weights": ({"weights": 3}, "weights is 3"),
    "a tree of weights": ({"weights": TREE}, "weights is a list of 2"),
    "weights that are none": ({"weights": {"raw": 3, "ema0.9": 3}}, "holds 3 where names"),
    "a tree as weights": ({"weights": {"raw": TREE}}, "holds a list of 2 where names"),
    "other names": ({"weights": {"\x1b[2J": {}}}, "weights"),
}


@pytest.mark.parametrize("name", MILESTONES)
def test_milestones_of_another_structure_are_one_line(tmp_path, name):
    changes, message = MILESTONES[name]
    refused(lambda: use(tmp_path, milestone(**changes)), "checkpoint", message)


PRE = to_dict(config()) | {"process": {"n_T": 12, "parameterization": "preconditioned"}}
MEAN = torch.zeros(32, 32, 3, dtype=torch.float64)
KEPT = {"mean": MEAN, "std": 0.5}
STATISTICS = {
    "none": (None, "lacks the statistics"),
    "no mapping": (3, "statistics"),
    "no spread": ({"mean": MEAN}, "statistics.std"),
    "a spread of 0": (KEPT | {"std": 0.0}, "statistics.std is 0.0"),
    "a negative spread": (KEPT | {"std": -1.0}, "statistics.std is -1.0"),
    "a spread of NaN": (KEPT | {"std": float("nan")}, "statistics.std is nan"),
    "an endless spread": (KEPT | {"std": float("inf")}, "statistics.std is inf"),
    "a mean of text": (KEPT | {"mean": "x"}, "names no tensor"),
    "another shape": (KEPT | {"mean": torch.zeros(3, 32, 32)}, "'statistics.mean' is 3x32x32"),
    "another size": (KEPT | {"mean": torch.zeros(64, 64, 3)}, "'statistics.mean' is 64x64x3"),
    "whole numbers": (KEPT | {"mean": MEAN.long()}, "of torch.int64"),
    "a mean of NaN": (KEPT | {"mean": MEAN * float("nan")}, "outside [-1, 1]"),
    "a mean outside": (KEPT | {"mean": MEAN + 1.5}, "outside [-1, 1]"),
    "more": (KEPT | {"variance": 1.0}, "statistics.variance"),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_another_structure_are_one_line(tmp_path, name):
    statistics, message = STATISTICS[name]
    content = milestone(config=PRE, statistics=statistics)
    refused(lambda: use(tmp_path, content), "checkpoint", message)
    refused(lambda: config_of(read(tmp_path, content)), message)
    with pytest.raises(UserError):
        drawing = mindiffusion.sampling.sampling_network(
            config(), SamplerRuntime(4, "fp32", False), CPU
        )
        load_weights(drawing, read(tmp_path, content), "raw")


def test_whole_statistics_are_taken_also_as_parameters(tmp_path):
    whole = milestone(config=PRE, statistics=KEPT)
    assert float(use(tmp_path, whole).process.parameterization.mean.abs().max()) == 0
    learnt = torch.nn.Parameter(torch.full((32, 32, 3), 0.5))
    spread = torch.tensor(0.25)
    model = use(tmp_path, milestone(config=PRE, statistics={"mean": learnt, "std": spread}))
    assert float(model.process.parameterization.mean.mean()) == 0.5
    # A run of eps says nothing with them.
    use(tmp_path, milestone(statistics=KEPT))


def grouped(**changes):
    saved = trained()[0].state_dict()
    return saved | {"param_groups": [saved["param_groups"][0] | changes]}


STATES = {
    "another network": {"network": {"w": torch.zeros(3)}},
    "no network": {"network": TREE},
    "no averages": {"averages": {}},
    "averages of text": {"averages": {"num_updates": 1, "averages": {"ema0.9": "x"}}},
    "updates of text": {"averages": {"num_updates": "1", "averages": {}}},
    "no optimizer": {"optimizer": {"state": {}}},
    "other moments": {"optimizer": grouped() | {"state": {0: {"exp_avg": torch.zeros(7)}}}},
    "moments of text": {"optimizer": grouped() | {"state": {"x": {}}}},
    "another rate": {"optimizer": grouped(lr=1e9)},
    "a rate of tensors": {"optimizer": grouped(betas=[torch.zeros(2), 0.9])},
    "other losses": {"unlogged": torch.zeros(2, 9, dtype=torch.float64)},
    "losses of text": {"unlogged": "x"},
    "no log": {"log": 3},
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_another_structure_are_one_line(tmp_path, name):
    refused(lambda: go_on(tmp_path, state(**STATES[name])), "4")


def test_newest_passes_over_a_state_of_another_structure(tmp_path, caplog):
    checkpoint.save(checkpoint.checkpoint_path(tmp_path, 3), state(step=3))
    checkpoint.save(checkpoint.checkpoint_path(tmp_path, 4), state(log=3))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(tmp_path, DESCRIBED["config"])["step"] == 3
    assert "log is 3" in caplog.text


def test_a_pipe_and_a_device_are_not_read(tmp_path):
    path = checkpoint.weights_path(tmp_path, 4)
    os.mkfifo(path)
    refused(lambda: checkpoint.load(path), "is a pipe")
    assert not checkpoint.is_whole(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(lambda: checkpoint.load(path), "is a device")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from([torch.zeros(2), torch.zeros(0, 3), torch.tensor(1)]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def replaced(content, path, value):
    """The content with another value at a path of keys; where one is missing, it is put there."""
    if not path:
        return value
    inner = content.get(path[0]) if isinstance(content, dict) else None
    return (content if isinstance(content, dict) else {}) | {
        path[0]: replaced(inner, path[1:], value)
    }


keys = st.sampled_from([
    ("format",), ("step",), ("config",), ("config", "model"), ("config", "model", "n_feat"),
    ("config", "seed"),
    ("config", "curriculum"), ("config", "process", "n_T"), ("runtime",), ("stage_log",),
    ("train_seconds",), ("weights",), ("weights", "raw"), ("weights", "raw", "out.weight"),
    ("network",), ("network", "out.bias"), ("averages",), ("averages", "averages"), ("unlogged",),
    ("statistics",), ("statistics", "mean"), ("statistics", "std"),
    ("averages", "averages", "ema0.9"), ("optimizer",), ("optimizer", "state"),
    ("optimizer", "param_groups"), ("optimizer", "state", 0), ("log",), ("manifest",),
])  # fmt: skip


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=keys, value=values)
def test_any_value_in_any_place_is_used_or_one_line(tmp_path, path, value):
    preconditioned = milestone(config=PRE, statistics=KEPT)
    for action, content in ((use, milestone()), (use, preconditioned), (go_on, state())):
        if path[0] in content:
            try:
                action(tmp_path, replaced(content, path, value))
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 700
