import dataclasses
import json

import pytest

from mindiffusion.config.presets import apply_overrides, build_config, load_preset
from mindiffusion.config.run import (
    RunConfig,
    check,
    config_hash,
    differences,
    from_kept,
    to_dict,
    to_kept,
)
from mindiffusion.errors import UserError

FORMER = {
    "placement": "bottleneck", "regrow_method": "gradient", "probe_batches": 4,
    "probe_batch_size": 64,
}  # fmt: skip
"""Settings of a mask, which runs of all networks have kept."""


def build(*words, preset="celeba_c_32"):
    return build_config(apply_overrides(load_preset(preset), words), f"preset {preset}")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("model.nfeat=8", ["preset celeba_c_32", "'model.nfeat'", "'n_feat'"]),
        ("training.learning_rat=1", ["'training.learning_rat'", "unknown key", "lr"]),
        ("trainig.lr=1", ["'trainig'", "'training'"]),
        ("sampler.stepz=3", ["'sampler.stepz'", "'steps'"]),
        ("data.sise=32", ["'data.sise'", "'size'"]),
        ("model.n_feat=8.0", ["'model.n_feat'", "8.0", "integer"]),
        ("model.n_feat='8'", ["'model.n_feat'", "integer"]),
        ("model.n_feat=yes", ["'model.n_feat'", "integer"]),
        ("model.n_feat=true", ["'model.n_feat'", "integer"]),
        ("training.lr=high", ["'training.lr'", "'high'", "number"]),
        ("training.lr=0", ["'training.lr'", "greater than 0"]),
        ("training.lr=.nan", ["'training.lr'"]),
        ("training.lr=.inf", ["'training.lr'"]),
        ("training.global_batch=0", ["'training.global_batch'", "1"]),
        ("training.steps=-3", ["'training.steps'"]),
        ("training.precision=fp16", ["'training.precision'", "'fp16'", "'bf16'"]),
        ("training.ema_decays=[]", ["ema_decays", "at least one"]),
        ("training.ema_decays=[1.0]", ["ema_decays", "(0, 1)"]),
        ("training.ema_decays=[0%]", ["ema_decays", "0%", "half-life such as '0.25%'"]),
        ("training.ema_decays=[5%, 0.9, 5.0%]", ["ema_decays", "both called ema-half0.05;"]),
        ("training.ema_decays=[0.99999991, 0.99999992]", ["both called ema1;", "leave one"]),
        (f"training.ema_decays=[{'0' * 38}5%junk]", ["ema_decays", "half-life such as '0.25%'"]),
        ("training.milestones=12", ["'training.milestones'"]),
        ("training=3", ["'training'", "3"]),
        ("seed=-1", ["'seed'"]),
        ("sampler.eta=2", ["'sampler.eta'", "1"]),
        (
            "model.regrow_method=random",
            ["'model.regrow_method' of naive_unet; it is a key of sparse_unet.", "another network"],
        ),
        ("model=3", ["'model' is 3", "mapping"]),
        ("model.network=[1]", ["'model.network' is '[1]'", "naive_unet"]),
        ("process.loss_weight={gamma: 1}", ["'process.loss_weight.kind' is missing"]),
        # A key that is called like a kind is still a key.
        (
            "curriculum=[{name: a, weight: 1, density: {kind: levels, levels: [1.0]}}]",
            ["unknown key 'curriculum.0.density.levels'", "masses"],
        ),
        (
            "curriculum=[{name: a, weight: 1, density: {kind: beta, a: 1, b: 1, t_min: 0.5}}]",
            ["'curriculum.0.density.t_min' of beta; it is a key of window"],
        ),
        ("model.network=unet", ["'model.network' is 'unet'", "naive_unet, sparse_unet"]),
        ("curriculum=[{name: a, wieght: 1}]", ["curriculum.0", "wieght", "'weight'"]),
        ("curriculum=[{name: a, weight: 0}]", ["curriculum.0.weight", "greater than 0"]),
        ("curriculum=[{name: a}]", ["curriculum.0.weight", "missing"]),
        ("curriculum=[{name: a, weight: 1, density: {t_min: 0.9, t_max: 0.5}}]", ["t_min"]),
        (
            "curriculum=[{name: a, weight: 1, density: {t_mi: 0.5}}]",
            ["'curriculum.0.density.t_mi'", "'t_min'"],
        ),
        (
            "curriculum=[{name: a, weight: 1, density: {kind: windo}}]",
            ["'curriculum.0.density.kind'", "'windo'", "window, histogram, beta, "],
        ),
        (
            "curriculum=[{name: a, weight: 1, density: {kind: histogram, edges: [0.0, 1.0]}}]",
            ["'curriculum.0.density.masses' is missing"],
        ),
        ("curriculum=[{name: a, weight: 1, density: {kind: average, shares: []}}]", ["shares"]),
        ("curriculum=[{name: a, weight: 1, sparsity: 1.0}]", ["sparsity", "less than 1"]),
        ("process.loss_weight={kind: p3}", ["'process.loss_weight.kind'", "'p3'", "p2, min_snr"]),
        ("process.loss_weight={kind: p2, gama: 1}", ["'process.loss_weight.gama'", "'gamma'"]),
        ("process.loss_weight={kind: p2, gamma: 0}", ["'process.loss_weight.gamma'", "0"]),
        ("process.parameterization=v", ["'process.parameterization'", "'preconditioned'"]),
        ("process.loss_weight={kind: edm, gamma: 1}", ["'process.loss_weight.gamma'"]),
        ("noise_stream=65536", ["'noise_stream'", "65536"]),
        ("training.length=1.5", ["'training.length'", "1"]),
        ("training.length=0", ["'training.length'", "greater than 0"]),
        ("model.width=0.3", ["model.width 0.3 of model.n_feat 32 is 9.6, no multiple of 8"]),
        ("model.width=0.125", ["is 4, no multiple of 8"]),
        ("model={network: uvit, depth: 13}", ["model.depth is 13", "give 12 or 14."]),
        ("model={network: uvit, num_heads: 5}", ["model.embed_dim is 512 and model.num_heads 5"]),
        ("model={network: uvit, embed_dim: 8192}", ["'model.embed_dim' is 8192", "4096"]),
        ("model={network: uvit, skip: ad}", ["'model.skip' is 'ad'", "'add'"]),
        ("model={network: uvit, placement: patch}", ["of uvit; it is a key of sparse_unet, spar"]),
        ("model={network: sparse_uvit, placement: stram}", ["'model.placement'", "'stream'"]),
        ("model={network: uvit, num_classes: 0}", ["'model.num_classes' is 0"]),
        (
            "model={network: dit, hidden_size: 30, num_heads: 6}",
            ["hidden_size is 30", "of 4"],
        ),
        ("model={network: dit, num_heads: 7}", ["model.hidden_size is 384, model.num_heads 7"]),
        ("model={network: dit, size: M}", ["'model.size' is 'M'", "'XL'"]),
        ("model={network: dit, learn_sigma: 1}", ["'model.learn_sigma' is 1"]),
        ("model={network: uvit, learn_sigma: true}", ["of uvit; it is a key of dit"]),
        ("model={network: song_unet, model_channels: 6}", ["model.model_channels is 6", "of 4"]),
        ("model={network: song_unet, model_channels: 132}", ["132 channels in 32 groups", "of 32"]),
        ("model={network: song_unet, arch: adm}", ["'model.arch' is 'adm'", "'ncsnpp'"]),
        ("model={network: song_unet, channel_mult: []}", ["'model.channel_mult'", "at least 1"]),
        (
            "model={network: song_unet, patch_size: 2}",
            ["of song_unet; it is a key of uvit"],
        ),
        ("model={network: song_unet, time_scale: 0}", ["'model.time_scale' is 0"]),
        ("data.dataset=avatar", ["avatar", "'avatars'"]),
        ("data.crop=center17", ["center17", "'center178'"]),
        ('arm="\\e[2J"', ["--set ", "can't be shown"]),
        ("arm=" + "x" * 201, ["'arm'", "200"]),
        ("training.threads=1000000000", ["'training.threads'", "4096"]),
        ("process.n_T=1000000000", ["'process.n_T'", "100000"]),
        ("training.milestones=[" + "9" * 400 + "]", ["--set 'training.mil", "too many digits"]),
        ("process.beta1=0", ["process", "betas (0.0, 0.02): need"]),
        ("process={beta2: 0.9, n_T: 100000}", ["process", "leave less than 1e-20 of the signal"]),
        ("curriculum=[{name: a, weight: 1e300}]", ["'curriculum.0.weight'"]),
        ("curriculum=[{name: a, weight: 1, density: {kind: levels, masses: [0.1]}}]", ["sum 1"]),
        ("output=" + "x" * 5000, ["'output'", "a path"]),
        ("model." + "x" * 5000 + "=1", ["unknown key 'model.xxx", "…"]),
    ],
)
def test_config_mistake_is_one_line_with_source_key_and_what_is_allowed(word, parts):
    with pytest.raises(UserError) as error:
        build(word)
    message = str(error.value)
    assert "\n" not in message and message.startswith(("preset celeba_c_32: ", "--set "))
    for part in parts:
        assert part in message, message


def test_config_missing_key_is_named():
    with pytest.raises(UserError, match=r"mine: key 'output' is missing"):
        check(RunConfig, {"arm": "C", "curriculum": []}, "mine")


@pytest.mark.parametrize(
    ("word", "value"),
    [("2e-5", 2e-5), ("2.0e-05", 2e-5), ("1E-3", 1e-3), ("1", 1.0), ("0.002", 0.002)],
)
def test_config_takes_numbers_in_any_spelling(word, value):
    lr = build(f"training.lr={word}").training.lr
    assert lr == value and isinstance(lr, float)


@pytest.mark.parametrize("word", ["0", "-3", "many"])
def test_config_chunk_is_a_number_of_images_or_auto(word):
    assert build("sampler.chunk=auto").sampler.chunk == "auto"
    with pytest.raises(UserError, match=f"sampler.chunk is '?{word}'?: give a number of images"):
        build(f"sampler.chunk={word}")


def test_config_round_trips_through_plain_types():
    config = build("training.micro_batch=16", "sampler.name=ddpm", preset="celeba_cr_32")
    again = check(RunConfig, json.loads(json.dumps(to_dict(config))), "again")
    assert again == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.training.lr = 1.0


def test_config_folders_hold_one_folder_per_seed():
    config = build("seed=7")
    assert config.run_dir.as_posix() == "checkpoints_c_32/seed7"
    assert config.grid_dir.as_posix() == "contents_c_32/seed7"
    assert build("samples=null").grid_dir.as_posix() == "checkpoints_c_32/seed0/samples"


@pytest.mark.parametrize(
    "word", ["output=a", "samples=b", "training.threads=3", "training.device=cpu",
             "training.checkpoint_every=9", "training.log_every=9", "sampler.grid=9",
             "training.keep_scored=last"],
)  # fmt: skip
def test_config_hash_ignores_where_and_how_it_is_kept(word):
    assert config_hash(build(word)) == config_hash(build())


@pytest.mark.parametrize(
    "word", ["training.lr=1e-4", "seed=1", "model.n_feat=16", "training.micro_batch=8",
             "training.ema_decays=[0.9]", "training.precision=fp64", "sampler.eta=0",
             "sampler.chunk=8", "sampler.precision=bf16", "sampler.compile=on",
             "data.crop=center140", "arm=other", "process.n_T=500",
             "curriculum=[{name: stage1_high_noise, weight: 5}]",
             "process.loss_weight={kind: p2}", "noise_stream=1",
             "process.loss_weight={kind: edm}", "process.loss_weight={kind: balanced}",
             "process.parameterization=preconditioned",
             "training.length=0.5", "model.width=0.5"],
)  # fmt: skip
def test_config_hash_follows_what_can_change_a_result(word):
    hashes = {config_hash(build(word)), config_hash(build())}
    assert len(hashes) == 2 and all(len(h) == 12 for h in hashes)


def test_sampler_may_change_for_it_does_not_shape_the_training():
    a, b = to_dict(build()), to_dict(build("sampler.steps=9", "sampler.name=ddpm"))
    assert differences(a, b) == []


def test_what_is_kept_of_scored_weights_may_change_and_older_files_do_not_name_it():
    a, b = to_dict(build()), to_dict(build("training.keep_scored=last"))
    assert differences(a, b) == [] and "keep_scored" not in a["training"]


def test_differences_are_dotted_keys_but_for_folders():
    a = to_dict(build())
    b = to_dict(build("training.lr=1", "model.n_feat=8", "output=x", "samples=y"))
    assert differences(a, b) == ["model.n_feat", "training.lr"]
    assert differences(a, a) == []
    assert differences(a, {k: v for k, v in a.items() if k != "seed"}) == ["seed"]


@pytest.mark.parametrize(
    ("arm", "known"),
    [("b", "40a58ebfc87e"), ("c", "50aad2b40d6a"), ("cs", "5b31e802d0ce"), ("cr", "c3a8c499be4a")],
)
def test_config_hash_of_runs_made_before_a_field_was_added_stays(arm, known):
    config = build(preset=f"celeba_{arm}_32")
    assert config_hash(config) == known
    content = to_kept(config)
    assert "noise_stream" not in content and "parameterization" not in content["process"]
    assert content["model"] == {"network": config.model.network, "n_feat": 32, **FORMER}
    assert from_kept(content, "kept") == config
    assert from_kept(to_dict(config), "kept") == config


def test_config_hash_of_a_transformer_made_before_classes_stays():
    sizes = "model={network: uvit, embed_dim: 64, depth: 2}"
    assert "num_classes" not in to_kept(build(sizes))["model"]
    with_classes = build(sizes, "model.num_classes=10")
    assert config_hash(with_classes) != config_hash(build(sizes))
    assert from_kept(to_kept(with_classes), "kept") == with_classes


@pytest.mark.parametrize(
    "words",
    [
        ["model={network: song_unet, channel_mult: [1, 2], attn_resolutions: []}"],
        ["model={network: song_unet, arch: ncsnpp, num_classes: 10, time_scale: 2.5}"],
        ["model={network: dit, size: XL, patch_size: 4}"],
        ["model={network: dit, depth: 3, num_classes: 7}"],
        ["model={network: dit, learn_sigma: true}"],
    ],
)
def test_config_with_a_network_of_its_own_fields_round_trips(words):
    config = build(*words)
    assert from_kept(to_kept(config), "kept") == config
    assert from_kept(to_dict(config), "kept") == config


@pytest.mark.parametrize("arm", ["b", "cr"])
def test_config_of_a_kept_run_with_a_setting_that_its_network_lost_is_one_line(arm):
    content = to_kept(build(preset=f"celeba_{arm}_32"))
    content["model"]["probe_batches"] = 2
    with pytest.raises(UserError) as error:
        from_kept(content, "checkpoint")
    assert "checkpoint: key 'model.probe_batches' is 2, but" in str(error.value)
    assert "only 4 can be read" in str(error.value) and "\n" not in str(error.value)
    # Nor does such a run go on: it was trained with other settings than any that there are.
    assert differences(content, to_kept(build(preset=f"celeba_{arm}_32"))) == [
        "model.probe_batches"
    ]


def test_config_of_a_kept_run_with_a_mask_keeps_its_own_settings():
    config = build("model.probe_batches=2", preset="celeba_cs_32")
    assert from_kept(to_kept(config), "kept") == config
    assert config_hash(config) != config_hash(build(preset="celeba_cs_32"))


def test_config_with_densities_of_every_kind_round_trips():
    words = (
        "curriculum=[{name: a, weight: 1, density: {kind: average, shares: [{weight: 2, density:"
        " {t_min: 0.5}}, {weight: 1, density: {kind: histogram, edges: [0.0, 0.5, 1.0], masses:"
        " [0.25, 0.75]}}]}}, {name: b, weight: 1, density: {kind: window}}]"
    )
    config = build(words)
    assert check(RunConfig, to_dict(config), "again") == config
    assert config.curriculum[0].density.shares[1].density.masses == (0.25, 0.75)
    with pytest.raises(
        UserError, match=r"key 'curriculum\.0\.density\.shares\.0\.density': .*t_min"
    ):
        build(words.replace("t_min: 0.5", "t_min: 1.5"))
