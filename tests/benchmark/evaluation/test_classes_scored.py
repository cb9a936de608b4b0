"""A network with classes: drawn by class, scored over all and by class, told what it denoises."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.__main__ import main
from benchmark.evaluation.evaluate_run import evaluate_run, run_evaluation
from benchmark.evaluation.features.nets import choose_feature_net, load_feature_net
from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.metrics.frechet import (
    MomentAccumulator,
    covariance_root,
    frechet_distance,
)
from benchmark.evaluation.metrics.kid import kid_full
from benchmark.rows.file import read_rows
from mindiffusion.class_conditions import class_conditions, one_class
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.sampling import config_of, model_of, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.console import write_grid
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

NET = "EffNet-Lite0-64px"
WORDS = ["evaluation.num_reference=128", "evaluation.strip=2", "evaluation.per_class=true"]
NOSES = ("model.num_classes=4", "data.labels=nose", "training.lr=0.02")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, avatars, tiny_config, class_words):
    words = (*class_words, *NOSES, "training.milestones=[24]", "sampler.grid=17")
    config = tiny_config("b", *words, output=tmp_path_factory.mktemp("told") / "run")
    run(config, avatars.training_for("nose"), Ranks(), lambda trainer: Hooks())
    return config.run_dir


@pytest.fixture
def told(workdir, trained_once):
    """A trained run of this test's own, with classes; no portrait is of class 0."""
    return shutil.copytree(trained_once, workdir / "run" / trained_once.name)


@pytest.fixture
def weights(told):
    return checkpoint.weights_path(told, 24)


def drawn(weights, count, conditions, name="ema0.99", **sampler):
    content = checkpoint.load(weights)
    config = config_of(content)
    model = model_of(content, name, CPU)
    settings = type(config.sampler)(**{"steps": 2, "chunk": 4} | sampler)
    return sample_images(model, model.process, PIXELS, settings, count, 32, conditions=conditions)


def moments(features):
    found = MomentAccumulator()
    found.add(features)
    return found.result()


def test_all_images_and_each_class_are_scored(told, weights, avatars, capsys):
    how = run_evaluation(["fd", "kd", "prdc"], ["effnet-lite0-64"],
                         [*WORDS, "evaluation.num_generated=36"])  # fmt: skip
    assert evaluate_run(told, how, None) == 0
    assert "class/smallRound/FD-" in capsys.readouterr().out
    rows = {row.metric: row for row in read_rows(told / "rows.jsonl")}
    conditions = class_conditions(avatars.classes("nose"), "shares")
    images, codes = drawn(weights, 36, conditions), conditions(torch.arange(36)).numpy()
    extractor = load_feature_net(*choose_feature_net("effnet-lite0-64"), CPU)
    ours, real = extractor(images), extractor(np.array(avatars.train[:128]))
    theirs = avatars.train_labels["nose"][:128]
    whole = frechet_distance(moments(ours), moments(real), covariance_root(moments(real)))
    assert rows[f"FD-{NET}@36"].value == pytest.approx(whole, rel=1e-4)
    for number, name in enumerate(("none", "mediumRound", "smallRound", "wrinkles")):
        n, m = (codes == number).sum(), (theirs == number).sum()
        if not number:
            assert not n and not any(metric.startswith("class/none/") for metric in rows)
            continue
        row = rows[f"class/{name}/FD-{NET}@{n}"]
        mine, own = ours[codes == number], real[theirs == number]
        expected = frechet_distance(moments(mine), moments(own), covariance_root(moments(own)))
        assert row.value == pytest.approx(expected, rel=1e-4)
        assert (row.n_generated, row.n_reference, row.direction) == (n, m, "lower")
        kernel = rows[f"class/{name}/KD-{NET}@{n}"]
        assert kernel.value == pytest.approx(kid_full(mine, own).value, rel=1e-3)
        assert 0 <= rows[f"class/{name}/precision-{NET}@{n}"].value <= 1
        shown = np.asarray(Image.open(told / str(row.samples)))
        np.testing.assert_array_equal(shown, np.concatenate(images[codes == number][:2], axis=1))
    # Rows of classes are of the same images, and proved with all others: nothing is left to do.
    before = read_rows(told / "rows.jsonl")
    assert evaluate_run(told, how, None) == 0 and read_rows(told / "rows.jsonl") == before


def test_classes_of_few_images_are_named_and_left_out(told, capsys):
    words = [*WORDS, "evaluation.num_generated=20"]
    evaluate_run(told, run_evaluation(["fd"], ["effnet-lite0-64"], words), None)
    said = [line for line in capsys.readouterr().err.splitlines() if "not scored apart" in line]
    assert len(said) == 1
    assert "3 of 3 classes of nose are not scored apart" in said[0] and "'wrinkles' (" in said[0]
    assert not any(row.metric.startswith("class/") for row in read_rows(told / "rows.jsonl"))


def test_scores_by_class_need_a_network_with_classes(workdir, train_run, tiny_config):
    config = tiny_config("b", "training.steps=4", "training.milestones=[4]")
    train_run(config)
    with pytest.raises(UserError, match="per_class is true, but the network of arm 'B' is told no"):
        evaluate_run(config.run_dir, run_evaluation(["fd"], ["effnet-lite0-64"], WORDS), None)


def test_held_out_errors_are_of_the_network_that_is_told_the_classes(told, weights, avatars):
    words = ["evaluation.profile_levels=3", "evaluation.profile_images=8", *WORDS[:2]]
    evaluate_run(told, run_evaluation(["profile"], ["effnet-lite0-64"], words), None)
    rows = read_rows(told / "rows.jsonl")
    found = [r.value for r in rows if (r.metric, r.weights) == ("eps-MSE", "raw")]
    model = model_of(checkpoint.load(weights), "raw", CPU)
    images = torch.tensor(avatars.held_out[:8]).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.tensor(avatars.held_out_labels["nose"][:8]).long()

    def errors(condition):
        return denoising_profiles(
            {"": model}, images, model.process.grid(3), 3,
            lambda level, index: normals(0, Stream.EVALUATION_NOISE, index, level, (3, 32, 32)),
            condition,
        )[""].mse  # fmt: skip

    assert found == pytest.approx(list(errors(labels)), rel=1e-5)
    assert found != pytest.approx(list(errors(labels % 3 + 1)), rel=1e-5)


def test_rows_of_a_grid_show_one_class_each(told, weights):
    content = checkpoint.load(weights)
    path = write_grid(weights, config_of(content), CPU)
    with Image.open(path) as picture:
        grid = np.asarray(picture)
    assert grid.shape == (3 * 32, 8 * 32, 3)  # 17 images
    for row, number in enumerate((1, 2, 3)):
        alone = drawn(weights, 17, one_class(number))
        for k in range(8 * row, min(17, 8 * row + 8)):
            cell = grid[row * 32 : row * 32 + 32, k % 8 * 32 : k % 8 * 32 + 32]
            assert np.abs(cell.astype(int) - alone[k]).max() <= 1  # grids have chunks of their own


def sampled(call, weights, *words):
    code, _, errors = call(main, ["sample", str(weights), "--output", "x.npy", *words])
    assert code == 0, errors
    return np.load("x.npy")


def test_the_command_draws_one_class_by_name_or_number_and_guides(told, weights, call, avatars):
    six = ("--count", "6")
    for words, number in ((("--class", "wrinkles"), 3), (("--class", "2"), 2)):
        np.testing.assert_array_equal(
            sampled(call, weights, *six, *words), drawn(weights, 6, one_class(number))
        )
    shares = class_conditions(avatars.classes("nose"), "shares")
    np.testing.assert_array_equal(sampled(call, weights, *six), drawn(weights, 6, shares))
    strong = sampled(call, weights, *six, "--class", "3", "--guidance", "4")
    np.testing.assert_array_equal(strong, drawn(weights, 6, one_class(3), guidance=4.0))
    assert not np.array_equal(strong, drawn(weights, 6, one_class(3)))
    # Without a class there is one picture for all classes; outside its interval nothing is guided.
    free = [drawn(weights, 4, one_class(k), guidance=0.0) for k in (1, 3)]
    np.testing.assert_array_equal(*free)
    np.testing.assert_array_equal(
        sampled(call, weights, "--count", "4", "--guidance", "0"), free[0]
    )
    np.testing.assert_array_equal(
        drawn(weights, 4, one_class(3), guidance=4.0, guidance_interval=(0.1, 0.2)),
        drawn(weights, 4, one_class(3)),
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "4"], "class '4': nose has the classes 0 to 3, by name or number"),
        (["--class", "wrinkle"], "Did you mean 'wrinkles'"),
        (["--class", "-1"], "class '-1': nose has the classes 0 to 3"),
        (["--class", "none"], "no training image shows nose 'none'"),
        (["--guidance", "-1"], "--guidance -1: give a strength from 0 to 1000"),
        (["--guidance", "nan"], "--guidance nan: give a strength from 0 to 1000"),
    ],
)
def test_a_class_or_a_strength_outside_is_one_line(words, said, told, weights, call):
    words = [f"{words[0]}={words[1]}"]
    code, _, errors = call(main, ["sample", str(weights), "--output", "x.npy", *words])
    assert code == 2 and said in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "1"], "these weights are of a network that knows no classes; leave it out"),
        (["--guidance", "2"], "sampler.guidance is 2, but training.label_drop is 0"),
    ],
)
def test_weights_without_classes_are_not_asked_for_any(
    words, said, workdir, train_run, tiny_config, call
):
    config = tiny_config("b", "training.steps=4", "training.milestones=[4]")
    train_run(config)
    path = checkpoint.weights_path(config.run_dir, 4)
    code, _, errors = call(main, ["sample", str(path), "--output", "x.npy", *words])
    assert code == 2 and said in errors and len(errors.splitlines()) == 1


def test_rows_say_how_images_were_guided(told, weights):
    for settings, way in (
        ({}, "ddim-eta1"),
        ({"guidance": 2.5}, "ddim-eta1-guidance2.5"),
        ({"guidance": 0.0, "guidance_interval": (0.0, 0.8)}, "ddim-eta1-guidance0-in0to0.8"),
        ({"name": "heun", "classes": "balanced"}, "heun-balanced"),
    ):
        config = config_of(checkpoint.load(weights))
        assert type(config.sampler)(**settings).way == way


def test_samples_are_stitched_of_networks_with_one_label(
    told, weights, train_run, tiny_config, class_words, workdir
):
    words = [*WORDS[:2], "evaluation.stitch_levels=[0.5]", "evaluation.num_generated=8"]
    how = run_evaluation(["stitched"], ["effnet-lite0-64"], words)
    assert evaluate_run(weights, how, weights) == 0
    rows = {row.metric: row.value for row in read_rows(told / "rows.jsonl")}
    # The same network on both sides is the network itself.
    sides = [rows[f"stitched-{side}/FD-{NET}@8"] for side in ("above", "below")]
    assert sides[0] == sides[1] > 0
    short = ("training.steps=4", "training.milestones=[4]", 'arm="other"')
    other = tiny_config("b", *class_words, *short, output=workdir / "other")
    train_run(other)
    with pytest.raises(UserError, match="other/0 is told eyes labels, the run B/0 nose"):
        evaluate_run(told, how, checkpoint.weights_path(other.run_dir, 4))


def test_two_ranks_draw_and_score_classes_as_one(told, weights, torchrun, run_cli):
    words = [part for word in (*WORDS, "evaluation.num_generated=40") for part in ("--set", word)]
    command = ["evaluate", str(weights), "--metrics", "fd,kd", "--net", "effnet-lite0-64", *words]
    assert run_cli(["-m", "benchmark", *command], told).returncode == 0
    alone = read_rows(told / "rows.jsonl")
    assert any(row.metric.startswith("class/") for row in alone)
    (told / "rows.jsonl").unlink()
    done = run_cli([*torchrun, "-m", "benchmark", *command], told)
    assert done.returncode == 0, done.stderr
    shared = read_rows(told / "rows.jsonl")
    assert [(row.metric, row.value) for row in shared] == [(r.metric, r.value) for r in alone]
