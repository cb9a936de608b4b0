import math
from dataclasses import replace

import pytest

from mindiffusion.config.model import SongUNetConfig, UViTConfig
from mindiffusion.config.optimizer import AdamWConfig
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import (
    apply_overrides,
    build_config,
    load_preset,
    merge,
    parse_override,
    preset_names,
    resolve_extends,
)
from mindiffusion.config.process import DDPMConfig, EDMConfig, VPSDEConfig
from mindiffusion.config.run import differences, to_kept
from mindiffusion.config.shares import decay_of, warm_up_of
from mindiffusion.curriculum.patience import PatiencePacing
from mindiffusion.data.prepare import plan_data
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import check_guidance, check_labels, check_num_classes

ARMS = ("b", "c", "cs", "cr")


def preset(arm):
    return build_config(load_preset(f"celeba_{arm}_32"), arm)


@pytest.mark.parametrize("arm", ARMS)
def test_presets_hold_the_seeds_settings(arm):
    config = preset(arm)
    assert (config.model.n_feat, config.training.epochs, config.training.steps) == (32, 80, None)
    assert (config.training.global_batch, config.training.lr) == (256, 2e-5)
    assert (config.process.beta1, config.process.beta2, config.process.n_T) == (1e-4, 0.02, 1000)
    data = config.data
    assert (data.dataset, data.size, data.crop, data.num_train) == ("celeba", 32, "squash", None)
    assert config.training.milestones == ("stages",)
    assert config.output == f"checkpoints_{arm}_32" and config.samples == f"contents_{arm}_32"
    assert math.fsum(s.weight for s in config.curriculum) == 80


@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_presets_ladder_is_the_seeds(arm):
    stages = preset(arm).curriculum
    assert [s.weight for s in stages] == [5, 10, 15, 20, 30]
    assert [s.density.t_min for s in stages] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert {s.density.t_max for s in stages} == {1.0}
    sparsity = [0.8, 0.6, 0.4, 0.2, 0.0] if arm == "cs" else [0.0] * 5
    assert [s.sparsity for s in stages] == sparsity
    for i, stage in enumerate(stages):
        cosine = 5e-5 * 0.5 * (1 + math.cos(math.pi * i / 4)) if arm == "cr" else 0.0
        assert stage.penalty_lambda == pytest.approx(cosine, rel=1e-12, abs=1e-20)


T_MIN = [0.3, 0.2, 0.1, 0.07, 0.05, 0.03, 0.01, 0.0]
WEIGHTS = [10, 10, 20, 10, 10, 20, 20, 100]
SPARSITY = [0.15, 0.15, 0.15, 0.13, 0.1, 0.08, 0.05, 0.0]


@pytest.mark.parametrize("data", ["celeba64", "avatars64"])
@pytest.mark.parametrize(
    ("arm", "t_min", "sparsity", "weights"),
    [
        ("", [0.0], [0.0], [200]),
        ("_c", T_MIN, [0.0] * 8, WEIGHTS),
        ("_s", [0.0] * 8, SPARSITY, WEIGHTS),
        ("_cs", T_MIN, SPARSITY, WEIGHTS),
        ("_cs_stream", T_MIN, SPARSITY, WEIGHTS),
        (
            "_cs_older", [*T_MIN[:-1], 0.0, 0.0, 0.0],
            [0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.0], [*WEIGHTS[:-1], 20, 20, 60],
        ),
    ],
)  # fmt: skip
def test_ladders_of_the_joint_curriculum_are_its_publications(data, arm, t_min, sparsity, weights):
    config = build_config(load_preset(f"{data}_uvit_small{arm}"), "preset")
    stages = config.curriculum
    assert [s.weight for s in stages] == weights and math.fsum(weights) == 200
    assert [s.density.t_min for s in stages] == t_min
    assert [s.sparsity for s in stages] == sparsity
    training = config.training
    assert (training.steps, training.global_batch, training.lr) == (200_000, 128, 2e-4)
    optimizer = training.optimizer
    assert (optimizer.name, optimizer.weight_decay, optimizer.betas) == (
        "adamw",
        0.03,
        (0.99, 0.99),
    )
    assert (optimizer.warm_up_steps, training.ema_decays[0]) == (5000, 0.9999)
    model = config.model
    assert (model.patch_size, model.embed_dim, model.depth, model.num_heads) == (4, 512, 12, 8)
    assert config.process == VPSDEConfig() and config.data.size == 64
    # A milestone at every step of the published table.
    milestones = resolve_plan(config, 162_770).milestones
    assert {100_000, 120_000, 160_000, 200_000} <= set(milestones)
    placement = {"_cs_stream": "stream"}.get(arm, "patch")
    assert getattr(model, "placement", "patch") == placement


@pytest.mark.parametrize("data", ["cifar10", "avatars32"])
def test_presets_of_edm_are_its_publication_on_cifar10(data):
    plain, staged = (build_config(load_preset(f"{data}_edm_{arm}"), "preset") for arm in "bd")
    assert plain.process == EDMConfig()
    assert replace(plain.model, num_classes=None) == SongUNetConfig()  # by default its DDPM++
    training, sampler = plain.training, plain.sampler
    assert training.steps * training.global_batch == 200_000_000
    assert (training.lr, training.label_drop) == (1e-3, 0.0)
    assert (training.augment, plain.data.horizontal_flip) == (0.12, False)
    # 10 million images of warm-up, and half a million of half-life.
    assert warm_up_of(training.optimizer.warm_up_steps, training.steps) == 19531
    assert decay_of(training.ema_decays[0], training.steps) == pytest.approx(0.5 ** (512 / 5e5))
    assert sampler.kind.levels(sampler.steps) == 18 and not sampler.clip
    assert [stage.name for stage in plain.curriculum] == ["full_range"]
    assert len(staged.curriculum) == 20 and staged.pacing == PatiencePacing(tau=200)
    assert staged.curriculum[0].density.t_min > 0.9
    fields = {"arm", "clusters", "curriculum", "pacing"}
    assert set(differences(to_kept(plain), to_kept(staged))) == fields


def test_presets_of_edm_on_faces_are_its_publication():
    plain, staged = (build_config(load_preset(f"ffhq64_edm_{arm}"), "preset") for arm in "bd")
    assert plain.process == EDMConfig()
    assert plain.model == SongUNetConfig(channel_mult=(1, 2, 2, 2))
    training, sampler, data = plain.training, plain.sampler, plain.data
    assert training.steps * training.global_batch == 200_000_000
    assert (training.lr, training.global_batch, training.augment) == (2e-4, 256, 0.15)
    assert (data.size, data.labels, data.horizontal_flip) == (64, None, False)
    assert warm_up_of(training.optimizer.warm_up_steps, training.steps) == 39063
    assert decay_of(training.ema_decays[0], training.steps) == pytest.approx(0.5 ** (256 / 5e5))
    assert sampler.kind.levels(sampler.steps) == 40 and not sampler.clip
    fields = {"arm", "clusters", "curriculum", "pacing"}
    assert set(differences(to_kept(plain), to_kept(staged))) == fields


DITS = {"s2": "S/2", "b2": "B/2", "b4": "B/4", "l2": "L/2", "xl2": "XL/2"}


@pytest.mark.parametrize("name", DITS)
def test_presets_of_dit_are_its_publication_on_pixels(name):
    config = build_config(load_preset(f"imagenet64_dit_{name}"), "preset")
    assert config.model.words == f"DiT-{DITS[name]}, 1000 classes"
    assert config.process == DDPMConfig() and config.data.crop == "adm"
    assert (config.training.label_drop, config.training.global_batch) == (0.1, 256)
    assert config.training.optimizer == AdamWConfig(weight_decay=0.0)


def test_presets_with_classes_agree_with_themselves_and_with_portraits():
    told = [
        config
        for config in (build_config(load_preset(name), name) for name in preset_names())
        if config.data.labels or config.model.num_classes
    ]
    assert {config.data.dataset for config in told} > {"avatars"}
    for config in told:
        check_labels(config)
        check_guidance(config)
        if config.data.dataset == "avatars":
            names = plan_data(config.data, None).label_names[config.data.labels]
            check_num_classes(config, len(names))


def test_typed_settings_of_another_network_are_refused():
    for words in (["n_feat=8", "network=uvit"], ["network=uvit", "n_feat=8"]):
        with pytest.raises(UserError, match=r"unknown key 'model\.n_feat' of uvit"):
            content = apply_overrides(load_preset("celeba_b_32"), [f"model.{w}" for w in words])
            build_config(content, "preset")
    # Those of the preset give way.
    content = apply_overrides(load_preset("celeba_b_32"), ["model.network=uvit"])
    assert build_config(content, "preset").model == UViTConfig()


def test_baseline_is_one_stage_over_all_noise():
    (stage,) = preset("b").curriculum
    assert (stage.density.t_min, stage.density.t_max) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        ("b", "c", {"arm", "curriculum"}),
        ("c", "cs", {"arm", "curriculum", "model.network"}),
        ("c", "cr", {"arm", "curriculum", "model.network"}),
    ],
)
def test_presets_differ_in_named_fields_only(one, other, fields):
    assert set(differences(to_kept(preset(one)), to_kept(preset(other)))) == fields


@pytest.mark.parametrize(("one", "key"), [("cs", "sparsity"), ("cr", "penalty_lambda")])
def test_capacity_arms_differ_from_c_in_one_field_of_a_stage(one, key):
    pairs = zip(to_kept(preset("c"))["curriculum"], to_kept(preset(one))["curriculum"], strict=True)
    found = {k for a, b in pairs for k in a if a[k] != b[k]}
    assert found == {key}


def test_all_presets_build():
    assert set(preset_names()) >= {f"celeba_{arm}_32" for arm in ARMS}
    runs = preset_names()
    assert [build_config(load_preset(name), name).arm for name in runs]


@pytest.mark.parametrize(
    ("name", "near"),
    [("celeba_cs_23", "'celeba_cs_32'"), ("arms/crr", "'arms/cr'"), ("zz", "celeba_b_32,")],
)  # fmt: skip
def test_unknown_preset_suggests_a_near_one(name, near):
    with pytest.raises(UserError, match="unknown preset") as error:
        load_preset(name)
    assert near in str(error.value) and repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.lr=2e-5", {"training": {"lr": 2e-5}}),
        ("a.b.c=[1, x, 25%]", {"a": {"b": {"c": [1, "x", "25%"]}}}),
        ("training.steps=null", {"training": {"steps": None}}),
        ("samples=", {"samples": None}),
        ("flag=no", {"flag": "no"}),
        ("flag=false", {"flag": False}),
        ("x={t_min: 0.5}", {"x": {"t_min": 0.5}}),
        ("x=a=b", {"x": "a=b"}),
        ("x='8'", {"x": "8"}),
        (" x =3", {"x": 3}),
    ],
)
def test_override_values_are_yaml(text, value):
    assert parse_override(text) == value


@pytest.mark.parametrize(
    "text",
    ["training.lr", "=3", "x=[1", "x={a: b: c}", "x=!!binary aGk=", ".".join("a" * 40) + "=1",
     "x=" + "[" * 5000, "x=" + "9" * 4400],
)  # fmt: skip
def test_override_that_is_unreadable_is_one_line(text):
    with pytest.raises(UserError) as error:
        parse_override(text)
    assert repr(text)[:70] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../presets/arms/c", "/etc/passwd", "e" * 300, "", "a\nb"])
def test_preset_lies_in_our_folder_only(name):
    with pytest.raises(UserError, match="unknown preset"):
        load_preset(name)


def test_preset_that_extends_itself_is_refused(tmp_path, monkeypatch):
    from mindiffusion.config import presets

    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    (tmp_path / "a.yaml").write_text("extends: [b]")
    (tmp_path / "b.yaml").write_text("extends: [a]")
    with pytest.raises(UserError, match="preset 'a' extends itself"):
        load_preset("a")


def test_override_of_steps_replaces_epochs_and_back():
    content = load_preset("celeba_c_32")
    steps = apply_overrides(content, ["training.steps=40"])["training"]
    assert (steps["steps"], steps["epochs"]) == (40, None)
    back = apply_overrides(content, ["training.steps=40", "training.epochs=2"])["training"]
    assert (back["steps"], back["epochs"]) == (None, 2)
    both = apply_overrides(content, ["training.steps=40", "training.lr=1"])["training"]
    assert (both["steps"], both["epochs"], both["lr"]) == (40, None, 1)
    assert content["training"]["epochs"] == 80


def test_overrides_apply_in_order():
    merged = apply_overrides({"a": {"x": 1, "y": 2}}, ["a.x=3", "a.x=4", "b=5"])
    assert merged == {"a": {"x": 4, "y": 2}, "b": 5}


def test_merge_is_nested_replaces_lists_and_leaves_its_inputs():
    base = {"a": {"x": 1, "l": [1, 2]}, "b": {"k": 1}}
    assert merge(base, {"a": {"l": [3]}, "b": 2}) == {"a": {"x": 1, "l": [3]}, "b": 2}
    assert base == {"a": {"x": 1, "l": [1, 2]}, "b": {"k": 1}}


def test_extends_come_first_and_in_order():
    content = resolve_extends({"extends": ["runs/celeba_32", "arms/cs"], "arm": "Mine"})
    assert content["arm"] == "Mine" and content["model"] == {"n_feat": 32, "network": "sparse_unet"}
    assert "extends" not in content and len(content["curriculum"]) == 5


def test_network_that_is_named_anew_takes_only_the_settings_it_has():
    content = apply_overrides(
        load_preset("celeba_cs_32"),
        ["model={network: uvit, embed_dim: 64}", "model.depth=2"],
    )
    assert content["model"] == {"network": "uvit", "embed_dim": 64, "depth": 2}
    back = apply_overrides(content, ["model.network=naive_unet"])
    assert back["model"] == {"network": "naive_unet"}
    extending = {"extends": ["runs/celeba_32"], "model": {"network": "uvit", "depth": 4}}
    assert resolve_extends(extending)["model"] == {"network": "uvit", "depth": 4}


@pytest.mark.parametrize(
    "words", [["model={network: uvit, n_feat: 8}"], ["model.network=uvit", "model.n_feat=8"]]
)
def test_setting_that_the_named_network_lacks_is_still_refused_where_it_is_given(words):
    content = apply_overrides(load_preset("celeba_b_32"), words)
    with pytest.raises(
        UserError, match=r"unknown key 'model\.n_feat' of uvit; it is a key of naive"
    ):
        build_config(content, "mine")
