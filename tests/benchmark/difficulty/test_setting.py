"""Intervals that part the noise levels, nets that differ in them alone, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmark.difficulty.setting import (
    LEVELS,
    Net,
    Setting,
    claim_folder,
    make_setting,
)
from mindiffusion.build import build_network, build_process
from mindiffusion.config.process import PROCESSES
from mindiffusion.config.run import to_kept
from mindiffusion.errors import UserError


def setting_of(*overrides, process=None, intervals=4, seeds=2, output="out"):
    return make_setting("avatars", process, intervals, seeds, output, overrides)


@pytest.mark.parametrize(("levels", "intervals"), [(20, 10), (20, 3), (23, 7), (1000, 10), (4, 2)])
def test_intervals_part_counted_levels(levels, intervals):
    setting = setting_of(f"process.n_T={levels}", intervals=intervals)
    masses = [setting.density(i).probabilities(levels) > 0 for i in range(intervals)]
    assert (np.sum(masses, axis=0) == 1).all()
    sizes = [mass.sum() for mass in masses]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= LEVELS
    assert sorted(range(intervals), key=lambda i: masses[i].argmax()) == [*range(intervals)]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("intervals", [2, 3, 10])
def test_levels_of_a_net_are_among_those_that_it_trains(process, intervals):
    """For every process there is."""
    setting = setting_of(process=process, intervals=intervals)
    grid = build_process(setting.run).grid(LEVELS * intervals)
    joint = setting.level_numbers(Net(0, None))
    assert [*joint] == [*range(len(grid))]
    for i in range(intervals):
        low, high = setting.density(i).ends(setting.run.process.num_levels)
        own = setting.level_numbers(Net(0, i))
        assert len(own) == LEVELS
        assert all(low <= grid[number].time <= high for number in own)


def test_intervals_of_continuous_levels_meet_at_the_edges():
    setting = setting_of(process="vpsde", intervals=4)
    assert setting.edges == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [setting.density(i).intervals for i in range(4)] == [
        ((0.0, 0.25),), ((0.25, 0.5),), ((0.5, 0.75),), ((0.75, 1.0),)
    ]  # fmt: skip


def test_nets_of_a_seed_differ_in_their_interval_alone():
    setting = setting_of()
    assert len(setting.nets) == 2 * 5
    joint, first = (setting.config_of(Net(1, kind)) for kind in (None, 0))
    changed = {
        field.name
        for field in dataclasses.fields(joint)
        if getattr(joint, field.name) != getattr(first, field.name)
    }
    assert changed == {"arm", "output", "curriculum"}
    states = [build_network(config).state_dict() for config in (joint, first)]
    assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states), strict=True))
    other = build_network(setting.config_of(Net(0, None))).state_dict()
    assert any(not torch.equal(other[name], states[0][name]) for name in other)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"intervals": 1}, "--intervals is 1; an order needs two or more"),
        ({"intervals": 51}, "--intervals is 51; .* so give 2 to 50"),
        ({"seeds": 0}, "--num-seeds is 0"),
        (
            {"overrides": ("model={network: dit, learn_sigma: true}",)},
            "model.learn_sigma is true, but nets of a difficulty run .*; leave it out",
        ),
        ({"overrides": ["process.n_T=15"], "intervals": 8}, "15 noise levels .* at most 7"),
        ({"process": "vesde"}, "process.kind.*'vesde'"),
        ({"overrides": ["curriculum=[]"]}, "--set curriculum=.*makes .*curriculum.* itself"),
        ({"overrides": ["seed=3"]}, "--set seed=3"),
        ({"overrides": ["clusters.count=3"]}, "--set clusters.count=3: .* makes .*clusters itself"),
        (
            {"overrides": ["data.labels=hair"]},
            "data.labels is 'hair', but nets of a difficulty run are told no class; leave it out",
        ),
        ({"overrides": ["training.stepz=3"]}, "stepz"),
        ({"overrides": ["model.network=vgg"]}, "model.network.*'vgg'"),
    ],
)
def test_bad_input_is_one_line(given, said):
    overrides = given.pop("overrides", [])
    with pytest.raises(UserError, match=said) as error:
        setting_of(*overrides, **given)
    assert "\n" not in str(error.value)


def test_misspelt_dataset_is_one_line():
    with pytest.raises(UserError, match=r"dataset 'avatar'\. Did you mean 'avatars'\?") as error:
        make_setting("avatar", None, 4, 1, None, [])
    assert "\n" not in str(error.value)


def test_folder_is_named_by_the_dataset():
    assert make_setting("avatars", None, 4, 1, None, []).folder == "results/difficulty-avatars"
    assert make_setting("./my/faces.zip", None, 4, 1, None, []).folder == "results/difficulty-faces"


def test_folder_of_another_run_is_refused(tmp_path):
    setting = setting_of(output=tmp_path)
    claim_folder(setting, "m1")
    claim_folder(setting, "m1")
    moved = dataclasses.replace(
        setting, run=dataclasses.replace(setting.run, output=str(tmp_path / "."))
    )
    claim_folder(moved, "m1")
    others = {
        "rest.num_intervals": (setting_of(output=tmp_path, intervals=5), "m1"),
        "rest.num_seeds": (setting_of(output=tmp_path, seeds=3), "m1"),
        "manifest": (setting, "m2"),
        "training.lr": (setting_of("training.lr=1.0e-4", output=tmp_path), "m1"),
        "process.beta_max": (setting_of(output=tmp_path, process="vpsde"), "m1"),
    }
    for name, (other, manifest) in others.items():
        with pytest.raises(UserError, match="holds another difficulty run") as error:
            claim_folder(other, manifest)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_folder_of_a_study_is_refused(tmp_path):
    (tmp_path / "rows.jsonl.xz").touch()
    with pytest.raises(UserError, match="holds rows of no difficulty run; choose another --output"):
        claim_folder(setting_of(output=tmp_path), "m1")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl.xz"]


def test_damaged_description_is_one_line(tmp_path):
    setting = setting_of(output=tmp_path)
    claim_folder(setting, "m1")
    (tmp_path / "setting.json").write_text('{"run": ')
    with pytest.raises(UserError, match="choose another --output, or delete that folder"):
        claim_folder(setting, "m1")


def test_setting_survives_a_document():
    from pydantic import TypeAdapter

    setting = setting_of(process="vpsde")
    adapter = TypeAdapter(Setting)
    again = adapter.validate_json(adapter.dump_json(setting))
    assert again == setting and to_kept(again.run) == to_kept(setting.run)
