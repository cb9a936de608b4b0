"""A network that no other file knows is trained, resumed, sampled and scored as any other.

It is no U-Net, and it has all that a network may have: a mask, a penalty and norms of its groups.
"""

import contextlib
import json
from typing import Literal

import pytest
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn

from benchmark.cells.describe import write_index
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.study.index import INDEX_FILE
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.build import NETWORKS
from mindiffusion.config.model import MODELS, ModelConfig
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config
from mindiffusion.config.run import config_hash
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.network import Mask, Network
from mindiffusion.sampling import model_of, sample_images
from mindiffusion.training import checkpoint

EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",),
    profile_images=4, profile_levels=5, strip=3, metrics=("profile", "fd"),
)  # fmt: skip


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class MixerConfig(ModelConfig):
    network: Literal["mixer"] = "mixer"
    hidden: int = Field(default=6, ge=1)

    def check(self, side):
        if side % 2:
            raise UserError(f"data.size is {side}, but Mixer takes even sides.")


class Mixer(Network):
    """A convolution into hidden units that can be switched off, and one back to colours."""

    def __init__(self, hidden):
        super().__init__()
        self.into = nn.Conv2d(3, hidden, 3, padding=1)
        self.time = nn.Linear(1, hidden)
        self.back = nn.Conv2d(hidden, 3, 3, padding=1)
        self.register_buffer("units", torch.ones(hidden))
        self.weight = 0.0

    def forward(self, x, told, condition=None):
        time = self.time(told[:, None].to(self.time.weight.dtype))
        hidden = torch.relu(self.into(x) + time[:, :, None, None])
        return self.back(hidden * self.units[:, None, None])

    def enter_stage(self, capacity, probe):
        (batch,) = probe(1, 2)
        assert len(batch.noise) == 2
        on = max(1, round(len(self.units) * (1 - capacity.sparsity)))
        self.units.copy_((torch.arange(len(self.units)) < on).float())
        self.weight = capacity.penalty_lambda
        return {"units_on": on}

    def penalty(self):
        return self.weight * self.into.weight.flatten(1).norm(dim=1).sum() if self.weight else None

    def capacity_report(self):
        return {"active_channels": float(self.units.sum())}

    def mask(self):
        @contextlib.contextmanager
        def lifted():
            kept = self.units.clone()
            self.units.fill_(1.0)
            yield
            self.units.copy_(kept)

        return Mask("hidden", self.units.cpu() > 0, lifted, {"into": "into.weight"})

    def group_norms(self):
        return {"into": self.into.weight.detach().flatten(1).norm(dim=1)}


@pytest.fixture
def mixer(monkeypatch, tiny_content):
    """A function: output folder, settings → the config of a tiny run with the network."""
    monkeypatch.setitem(MODELS, "mixer", MixerConfig)
    monkeypatch.setitem(NETWORKS, MixerConfig, lambda model, run: Mixer(model.hidden))

    def make(output, **model):
        content = tiny_content("cs", output=output)
        content["curriculum"] = [
            {"name": "half", "weight": 1, "sparsity": 0.5, "penalty_lambda": 1e-3},
            {"name": "whole", "weight": 1},
        ]
        return build_config(content | {"model": {"network": "mixer", **model}}, "mine")

    return make


def test_foreign_network_is_trained_and_resumed_to_the_same_bits(mixer, workdir, train_run):
    whole, parts = mixer("whole"), mixer("parts")
    trained = train_run(whole)
    assert train_run(parts, stop_after=10).step == 10
    resumed = train_run(parts)
    assert isinstance(resumed.network, Mixer) and resumed.step == trained.step == 24
    for own, other in zip(
        (resumed.network.state_dict(), resumed.averages.weights(0.99)),
        (trained.network.state_dict(), trained.averages.weights(0.99)),
        strict=True,
    ):
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own)
    assert [entry["units_on"] for entry in resumed.stage_log] == [3, 6]


def test_foreign_network_is_sampled_and_scored(mixer, workdir, train_run, avatars):
    folder = workdir / "results" / "tiny"
    config = mixer(folder / "mine", hidden=8)
    study = Study("tiny", folder, (config,), EVALUATION)
    train_run(config)
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 12))
    model = model_of(content, "raw", torch.device("cpu"))
    images = sample_images(model, model.process, PIXELS, config.sampler, 3, 32)
    assert images.shape == (3, 32, 32, 3)

    plan = resolve_plan(config, len(avatars.train))
    milestone = Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)
    rows = score_milestone(milestone, make_yardstick(EVALUATION, avatars, "cpu"))
    found = {row.metric: row.value for row in rows}
    assert {row.config_hash for row in rows} == {config_hash(config)}
    assert found["realised-sparsity/hidden"] == 0.5 and found["active_channels"] == 4.0
    assert any(row.value for row in rows if row.metric == "mask-effect")
    assert found["weight-movement-into-on"] > 0 == found["realised-sparsity/into"]
    assert found["group-norm-mean"] > 0
    # What a network does not report is in no row.
    assert "penalty_lambda" not in found and "weight-movement-encoder-on" not in found
    assert any(metric.startswith("FD-") for metric in found)

    write_index(study)
    index = json.loads((folder / INDEX_FILE).read_text())
    assert index["networks"][config.arm] == {"words": "mixer", "capacity_limit": None}
    entry = index["arms"][config.arm]
    assert entry["config"]["model"] == {"network": "mixer", "hidden": 8}
    assert entry["parameters"] == sum(p.numel() for p in Mixer(8).parameters())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"n_feat": 8}, "unknown key 'model.n_feat' of mixer; it is a key of naive_unet, sparse_"),
        ({"hiden": 8}, "unknown key 'model.hiden'. Did you mean 'hidden'?"),
        ({"hidden": 0}, "key 'model.hidden' is 0: input should be greater than or equal to 1."),
    ],
)
def test_mistake_in_a_foreign_network_is_one_line(model, words, mixer):
    with pytest.raises(UserError) as error:
        mixer("unused", **model)
    assert words in str(error.value) and "\n" not in str(error.value)
