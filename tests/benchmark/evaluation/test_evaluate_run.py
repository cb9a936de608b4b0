"""``evaluate`` on a run's folder and on one weights file."""

import dataclasses
import shutil

import pytest

from benchmark.__main__ import main
from benchmark.evaluation.evaluate_run import (
    evaluate_run,
    is_run_or_checkpoint,
    results_text,
    run_evaluation,
)
from benchmark.rows.file import read_rows
from benchmark.rows.keeper import INSTRUMENT, Keeper
from mindiffusion.errors import UserError
from mindiffusion.training.checkpoint import weights_path
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

WORDS = ["evaluation.num_generated=8", "evaluation.num_reference=32", "evaluation.strip=2"]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, avatars, tiny_config):
    config = tiny_config("b", output=tmp_path_factory.mktemp("trained") / "run")
    run(config, avatars.training, Ranks(), lambda trainer: Hooks())
    return config.run_dir


@pytest.fixture
def trained(workdir, trained_once):
    """A trained run of this test's own."""
    return shutil.copytree(trained_once, workdir / "run" / trained_once.name)


def test_run_is_scored_at_its_milestones_once(trained, capsys):
    how = run_evaluation(["fd", "prdc"], ["effnet-lite0-64"], WORDS)
    assert evaluate_run(trained, how, None) == 0
    text = capsys.readouterr().out
    assert "FD-EffNet-Lite0-64px@8" in text and "precision-EffNet-Lite0-64px@8" in text
    assert "smoke" in text and "KD-" not in text
    rows = read_rows(trained / "rows.jsonl")
    assert {row.step for row in rows} >= {12, 24}
    assert evaluate_run(trained, how, None) == 0
    assert read_rows(trained / "rows.jsonl") == rows
    one = run_evaluation(["kd"], ["effnet-lite0-64"], WORDS)
    assert evaluate_run(weights_path(trained, 24), one, None) == 0
    added = read_rows(trained / "rows.jsonl")[len(rows) :]
    assert {row.metric for row in added} >= {"KD-EffNet-Lite0-64px@8"}
    assert {row.step for row in added if row.metric.startswith("KD")} == {24}


def test_table_leaves_profiles_to_the_rows(trained, capsys):
    how = run_evaluation(["profile"], ["effnet-lite0-64"], [*WORDS, "evaluation.profile_levels=5"])
    evaluate_run(weights_path(trained, 24), how, None)
    lines = capsys.readouterr().out.splitlines()
    assert not any(" eps-MSE " in line for line in lines)
    assert sum("eps-MSE/L_simple" in line for line in lines) == 2  # raw and average
    assert not any("scored-" in line for line in lines)
    assert results_text([]).split() == [
        "step", "metric", "weights", "value", "±", "se", "n", "reference", "note"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "words", "match"),
    [
        (["fid"], [], "'fid'.*Did you mean 'fd'"),
        (None, ["training.lr=1"], r"evaluation\.<name>=<value>"),
        (None, ["evaluation.num_generated=3"], "num_generated"),
        (None, ["evaluation.num_generate=8"], "num_generate"),
    ],
)
def test_a_mistaken_option_is_one_line(metrics, words, match):
    with pytest.raises(UserError, match=match) as error:
        run_evaluation(metrics, [], words)
    assert "\n" not in str(error.value)


def test_stitched_samples_need_a_finisher(trained):
    with pytest.raises(UserError, match="--finisher"):
        evaluate_run(trained, run_evaluation(["stitched"], [], []), None)


def test_another_finisher_is_another_result(trained, capsys):
    words = [*WORDS, "evaluation.stitch_levels=[0.5]"]
    how = run_evaluation(["stitched"], ["effnet-lite0-64"], words)
    for step in (12, 24):
        evaluate_run(weights_path(trained, 24), how, weights_path(trained, step))
    lines = capsys.readouterr().out.splitlines()
    assert sum("stitched-above/" in line and "of B/0@12" in line for line in lines) == 2
    assert sum("stitched-above/" in line and "of B/0@24" in line for line in lines) == 1


def test_run_is_not_scored_by_other_data(trained, monkeypatch, avatars):
    other = dataclasses.replace(avatars, manifest_id="0123456789ab")
    monkeypatch.setattr("benchmark.evaluation.evaluate_run.prepared_data", lambda *a, **k: other)
    with pytest.raises(UserError, match="0123456789ab"):
        evaluate_run(trained, run_evaluation(["fd"], ["effnet-lite0-64"], WORDS), None)


def scores_of(folder, weights, name="FD-EffNet-Lite0-64px@8"):
    return [r.value for r in read_rows(folder) if (r.metric, r.weights) == (name, weights)]


def test_an_exported_set_scores_as_the_milestone_s(trained, call, tmp_path):
    words = [*WORDS, "evaluation.profile_levels=5", "evaluation.profile_images=4"]
    how = run_evaluation(["fd", "profile"], ["effnet-lite0-64"], words)
    rows = tmp_path / "far" / "rows.jsonl"
    for name in ("ema0.99", "raw"):
        output = rows.with_name(f"{name}.safetensors")
        words = ["export", str(weights_path(trained, 24)), str(output), "--weights", name]
        assert call(main, words)[0] == 0
        for _ in range(2):
            assert evaluate_run(output, how, None) == 0
    one_each = read_rows(rows)
    assert len({row.metric for row in one_each if row.metric.startswith("scored-own")}) == 2
    assert (tmp_path / "far" / "samples-000000024.png").is_file()
    evaluate_run(weights_path(trained, 24), how, None)
    for name, metric in (("ema0.99", "FD-EffNet-Lite0-64px@8"), ("raw", "eps-MSE/L_simple")):
        (value,) = scores_of(rows, name, metric)
        assert scores_of(trained / "rows.jsonl", name, metric) == [value]
    # Only an exported file has the raw weights alone, and its images are scored then.
    (raw,) = scores_of(rows, "raw")
    assert raw not in scores_of(rows, "ema0.99") and not scores_of(trained / "rows.jsonl", "raw")
    of_raw = [row for row in one_each if row.weights == "raw"]
    assert not any(row.samples for row in of_raw) and any(row.samples for row in one_each)


def test_an_exported_file_is_scored_by_the_data_it_was_trained_on(
    trained, call, tmp_path, monkeypatch, avatars
):
    output = tmp_path / "x.safetensors"
    assert call(main, ["export", str(weights_path(trained, 24)), str(output)])[0] == 0
    other = dataclasses.replace(avatars, manifest_id="0123456789ab")
    monkeypatch.setattr("benchmark.evaluation.evaluate_run.prepared_data", lambda *a, **k: other)
    with pytest.raises(UserError, match="0123456789ab"):
        evaluate_run(output, run_evaluation(["fd"], ["effnet-lite0-64"], WORDS), None)


def test_an_exported_finisher_finishes_as_its_own_weights(trained, call, tmp_path):
    how = run_evaluation(
        ["stitched"], ["effnet-lite0-64"], [*WORDS, "evaluation.stitch_levels=[0.5]"]
    )
    path = weights_path(trained, 24)
    for name in ("ema0.99", "raw"):
        output = tmp_path / f"{name}.safetensors"
        words = ["export", str(weights_path(trained, 12)), str(output), "--weights", name]
        assert call(main, words)[0] == 0
        evaluate_run(path, how, output)
    rows = [row for row in read_rows(trained / "rows.jsonl") if "stitched-above" in row.metric]
    assert [row.weights for row in rows] == [
        f"ema0.99 with {name} of B/0@12" for name in ("ema0.99", "raw")
    ]
    assert rows[0].value != rows[1].value


UVIT = [
    "data.dataset=avatars", "data.num_train=256", "data.num_held_out=32", "data.size=32",
    "data.crop=squash", "model.patch_size=8", "model.embed_dim=16", "model.depth=2",
    "model.num_heads=2", "sampler.steps=6", "sampler.chunk=4",
]  # fmt: skip


def test_a_folder_of_another_program_is_scored(workdir, call):
    import torch

    from mindiffusion.build import build_network
    from mindiffusion.config.presets import apply_overrides, build_config, load_preset

    preset = "celeba64_uvit_small"
    config = build_config(apply_overrides(load_preset(preset), UVIT), "tiny")
    folder = workdir / "50000.ckpt"
    folder.mkdir()
    torch.save(build_network(config).state_dict(), folder / "nnet_ema.pth")
    how = ["--metrics", "fd,profile", "--net", "effnet-lite0-64"]
    scoring = [*WORDS, "evaluation.profile_levels=5", "evaluation.profile_images=4"]
    sets = [part for word in (*scoring, *UVIT) for part in ("--set", word)]
    whole = ["--preset", preset, *how, *sets]
    code, out, errors = call(main, ["evaluate", str(folder), *whole])
    assert code == 0, errors
    assert "FD-EffNet-Lite0-64px@8" in out and f"rows: {folder / 'rows.jsonl'}" in out
    rows = [row for row in read_rows(folder / "rows.jsonl") if row.weights]
    assert {(row.weights, row.step, row.arm) for row in rows} == {("ema0.9999", 50_000, "B")}
    unnamed = folder.rename(workdir / "best")
    for path, words, message in (
        (unnamed, whole, "call the folder <step>.ckpt"),
        (unnamed, how, "take it with --preset"),
        (unnamed, [*how, *sets], "says nothing of scoring; give evaluation"),
        (unnamed, ["--preset", preset, *how], "'pos_embed' is 1x17x16, but 1x257x512"),
        (workdir / "x.npy", whole, "--preset applies only to runs and checkpoints"),
        (workdir / "x.safetensors", how, "x.safetensors does not exist"),
    ):
        code, _, errors = call(main, ["evaluate", str(path), *words])
        assert code == 2 and len(errors.splitlines()) == 1 and message in errors, errors


def test_layers_of_a_run_are_compared_with_another_run(trained, call):
    sets = [*WORDS, "evaluation.features.layers=[to_vec]", "evaluation.features.levels=[.4]"]
    words = [part for word in sets for part in ("--set", word)]
    how = ["--net", "effnet-lite0-64", *words, "--metrics"]
    one = str(weights_path(trained, 24))
    code, out, errors = call(main, ["evaluate", str(trained), *how, "cka"])
    assert code == 0, errors
    assert out.count("cka/to_vec/own/12 at 0.4") == 1
    code, out, errors = call(main, ["evaluate", one, *how, "cka", "--against", one])
    assert code == 0, errors
    assert "cka/to_vec/other/24 at 0.4" in out
    (itself,) = [row for row in read_rows(trained / "rows.jsonl") if "/other/" in row.metric]
    assert itself.value == pytest.approx(1.0)
    for wrong, message in (
        (["cka"], "but there is one alone"), (["norms", "--against", one], "--against is for")
    ):  # fmt: skip
        code, _, errors = call(main, ["evaluate", one, *how, *wrong])
        assert code == 2 and len(errors.splitlines()) == 1 and message in errors


def test_a_renamed_file_is_no_checkpoint(trained):
    path = trained / "best.pt"
    path.write_bytes(weights_path(trained, 24).read_bytes())
    path.with_suffix(".json").write_bytes(
        weights_path(trained, 24).with_suffix(".json").read_bytes()
    )
    with pytest.raises(UserError, match=r"best\.pt is not a checkpoint file name"):
        evaluate_run(path, run_evaluation(["fd"], ["effnet-lite0-64"], WORDS), None)


@pytest.mark.parametrize(
    "words", [["--reference", "x"], ["--json", "x.json"]], ids=["reference", "json"]
)
def test_an_option_of_images_is_refused_for_a_run(words, trained, call):
    code, _, errors = call(main, ["evaluate", str(trained), *words])
    assert code == 2 and f"{words[0]} applies only to images" in errors
    assert len(errors.splitlines()) == 1


def test_rows_of_other_instruments_or_levels_are_refused(trained):
    path = trained / "rows.jsonl"
    words = [*WORDS, "evaluation.profile_levels=5", "evaluation.profile_images=4"]
    how = run_evaluation(["fd", "profile"], ["effnet-lite0-64"], words)
    evaluate_run(weights_path(trained, 24), how, None)
    rows = read_rows(path)
    before = path.read_bytes()
    distance = next(row for row in rows if row.metric.startswith("FD-"))
    other = dataclasses.replace(distance, versions=distance.versions | {INSTRUMENT: "ffff"})
    with pytest.raises(UserError, match=r"measured by .*, now it is ffff"):
        Keeper(path, other.arm, other.seed).add([other])
    level = next(row for row in rows if row.metric == "eps-MSE")
    with pytest.raises(UserError, match="at 5 noise levels, now they are 1"):
        Keeper(path, level.arm, level.seed).add([level])
    assert path.read_bytes() == before


def test_what_is_a_run_is_told_from_images(trained, tmp_path):
    assert is_run_or_checkpoint(trained) and is_run_or_checkpoint(weights_path(trained, 24))
    assert is_run_or_checkpoint(tmp_path / "x.safetensors")
    assert not is_run_or_checkpoint(tmp_path) and not is_run_or_checkpoint(tmp_path / "x.npy")


def test_run_without_a_milestone_and_a_state_are_named(trained, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    how = run_evaluation(["fd"], ["effnet-lite0-64"], WORDS)
    with pytest.raises(UserError, match="train until the first milestone"):
        evaluate_run(tmp_path, how, None)
    state = next(trained.glob("ckpt-*.pt"))
    with pytest.raises(UserError, match=r"weights-<step>\.pt"):
        evaluate_run(state, how, None)


def test_two_ranks_share_the_work_and_give_the_rows_of_one(trained, torchrun, run_cli):
    """At one thread the numbers have the same bits: ranks only exchange images and moments."""
    how = ["--metrics", "fd,kd,prdc", "--net", "effnet-lite0-64"]
    # Groups of four images, as chunks are: each rank draws half of them.
    words = [part for word in (*WORDS, "evaluation.num_generated=40") for part in ("--set", word)]
    path = weights_path(trained, 24)
    command = ["evaluate", str(path), *how, *words]
    assert run_cli(["-m", "benchmark", *command], trained).returncode == 0
    alone = read_rows(trained / "rows.jsonl")
    (trained / "rows.jsonl").unlink()
    done = run_cli([*torchrun, "-m", "benchmark", *command], trained)
    assert done.returncode == 0, done.stderr
    shared = read_rows(trained / "rows.jsonl")
    assert [(row.metric, row.value) for row in shared] == [(r.metric, r.value) for r in alone]
    assert done.stdout.count("FD-EffNet-Lite0-64px@40") == 1


WAYS = {
    "weighted": ("process.loss_weight={kind: p2}",),
    "preconditioned": (
        "process.parameterization=preconditioned", "process.loss_weight={kind: balanced}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_an_arm_that_is_trained_in_another_way_is_stitched_to_a_plain_one(
    way, trained, train_run, tiny_config, workdir
):
    """What counts is the chain: loss weight and parameterization are each side's own affair."""
    config = tiny_config("b", *WAYS[way], 'arm="other"', output=workdir / "other")
    train_run(config)
    words = [*WORDS, "evaluation.stitch_levels=[0.5]"]
    how = run_evaluation(["stitched", "fd"], ["effnet-lite0-64"], words)
    assert evaluate_run(weights_path(config.run_dir, 24), how, weights_path(trained, 24)) == 0
    rows = {row.metric: row for row in read_rows(config.run_dir / "rows.jsonl")}
    net = "FD-EffNet-Lite0-64px@8"
    above, below = (rows[f"stitched-{side}/{net}"] for side in ("above", "below"))
    assert above.weights.endswith("of B/0@24")
    assert len({above.value, below.value, rows[net].value}) == 3


@pytest.mark.parametrize("words", [("process.n_T=40",), ("process.beta2=0.03",)], ids=str)
def test_a_finisher_of_another_chain_is_refused(words, trained, train_run, tiny_config, workdir):
    config = tiny_config("b", *words, 'arm="other"', output=workdir / "other")
    train_run(config)
    with pytest.raises(UserError, match=r"finisher other/0 is of .*, the run B/0 of ") as error:
        how = run_evaluation(["stitched"], ["effnet-lite0-64"], WORDS)
        evaluate_run(trained, how, weights_path(config.run_dir, 24))
    assert "\n" not in str(error.value)


def test_profile_of_a_preconditioned_run_is_that_of_its_process(
    workdir, train_run, tiny_config, avatars
):
    import torch

    from benchmark.evaluation.metrics.denoising import denoising_profiles
    from mindiffusion.noise import Stream, normals
    from mindiffusion.process import Model

    words = ("process.parameterization=preconditioned", "training.milestones=[24]")
    config = tiny_config("cs", *words, output=workdir / "run")
    trainer = train_run(config)
    how = run_evaluation(["profile"], ["effnet-lite0-64"], [
        *WORDS, "evaluation.profile_levels=5", "evaluation.profile_images=4",
    ])  # fmt: skip
    evaluate_run(config.run_dir, how, None)
    rows = read_rows(config.run_dir / "rows.jsonl")
    found = [r.value for r in rows if (r.metric, r.weights) == ("eps-MSE", "raw")]
    images = torch.tensor(avatars.held_out[:4]).permute(0, 3, 1, 2).float() / 127.5 - 1
    model = Model(trainer.network.eval(), trainer.process)
    expected = denoising_profiles(
        {"": model}, images, trainer.process.grid(5), 64,
        lambda level, index: normals(0, Stream.EVALUATION_NOISE, index, level, (3, 32, 32)),
    )[""].mse  # fmt: skip
    assert found == pytest.approx(list(expected), rel=1e-5)
    # The mask is on at the last milestone, so lifting it changes nothing.
    assert {row.value for row in rows if row.metric == "mask-effect"} == {0.0}
    early = [r.value for r in rows if r.metric == "eps-MSE-linear"]
    # At high noise hardly more than the mean picture is known: a fresh network is near it already.
    assert found[-1] < 3 * early[-1]
