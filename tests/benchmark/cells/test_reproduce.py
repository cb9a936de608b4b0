"""A whole study at tiny size: rows, resume, kill, rerun, a user's own arm."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import time

import pytest
import torch
from remade import tables_of

from benchmark.__main__ import main
from benchmark.cells.__main__ import main as follow
from benchmark.cells.progress import scored_steps, work_of
from benchmark.cells.time_left import cell_states
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.row import fields_of
from benchmark.study.study import load_study
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.training import checkpoint

STUDY = """
seeds: [0]
arms:
  cs: {extends: [arms/cs]}
  mine:
    extends: [arms/b]
    arm: low-first
    curriculum:
      - {name: low, weight: 1, density: {t_max: 0.5}}
      - {name: all, weight: 1}
run:
  extends: [runs/celeba_32]
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 8, probe_batches: 2, probe_batch_size: 8}
  training:
    epochs: null
    steps: 16
    global_batch: 8
    lr: 1e-3
    ema_decays: [0.9]
    milestones: ["50%", "100%"]
    checkpoint_every: 3
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
  sampler: {steps: 4, chunk: 8}
evaluation:
  num_generated: 12
  num_reference: 64
  feature_nets: [effnet-lite0-64]
  profile_images: 2
  strip: 4
"""
CLOCK = ("time", "host", "train_seconds", "git")
COMMAND = ["-m", "benchmark", "reproduce", "mine.yaml"]


@pytest.fixture
def reproduce(call, warm_python):
    """A function: runs a command's words here; its cells still get a process each."""
    return lambda command, *words: call(main, [*command[2:], *words])


@pytest.fixture
def do_cells(call, write_job):
    """A function: does both cells as a job of a cluster does them, with a process for each."""
    return lambda *overrides: call(follow, [write_job(*overrides)])


def comparable(folder):
    """Rows but for clock and host fields, in an order of their own."""
    rows = map(fields_of, read_rows(folder / "rows.jsonl"))
    return sorted(
        json.dumps({k: v for k, v in row.items() if k not in CLOCK}, sort_keys=True) for row in rows
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, avatars, shared_folder, run_cli):
    """A working directory with the tiny study done without a stop."""
    cwd = tmp_path_factory.mktemp("study")
    (cwd / "data").symlink_to(shared_folder / "data")
    (shared_folder / "cache").mkdir(exist_ok=True)
    (cwd / ".cache").symlink_to(shared_folder / "cache")
    (cwd / "mine.yaml").write_text(STUDY)
    done = run_cli(COMMAND, cwd)
    assert done.returncode == 0, done.stderr
    return cwd


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "CSS"], "no arm 'CSS'. Did you mean 'CS'?"),
        (["--seeds", "0,7"], "mine has the seeds 0; give other ones"),
        (["--minutes", "0"], "--minutes must be greater than 0"),
        (["--minutes", "9", "--cluster", "local"], "works only without --cluster"),
        (["--steps", "0"], "'training.steps'"),
    ],
)
def test_mistaken_choice_is_one_line(words, message, fresh, call):
    code, _, errors = call(main, ["reproduce", "mine.yaml", *words])
    assert code == 2 and message in errors and len(errors.splitlines()) == 1
    assert not (fresh / "results").exists()


@pytest.fixture
def rows(finished):
    return read_rows(finished / "results" / "mine" / "rows.jsonl")


def test_every_arm_and_milestone_is_scored(rows):
    metrics = {"FD-EffNet-Lite0-64px@12", "KD-EffNet-Lite0-64px@12", "corner-roughness@12"}
    metrics |= {"colour-offset@12", "colour-spread@12"}
    for arm in ("CS", "low-first"):
        for step in (8, 16):
            mine = [row for row in rows if (row.arm, row.step) == (arm, step)]
            assert metrics <= {row.metric for row in mine}
            for weights in ("ema0.9", "raw"):
                levels = [r.level for r in mine if (r.metric, r.weights) == ("eps-MSE", weights)]
                assert len(levels) == len(set(levels)) == 20


def test_rows_say_where_they_come_from(rows):
    for row in rows:
        assert row.study == "mine" and row.seed == 0 and row.total_steps == 16
        assert row.dataset == "avatars" and row.manifest and len(row.config_hash) == 12
        assert row.versions["torch"] and row.device == "cpu, fp32, eager" and row.threads == 1
        assert row.train_seconds > 0
    distance = next(row for row in rows if row.metric.startswith("FD-"))
    assert (distance.n_generated, distance.n_reference) == (12, 64)
    assert (distance.sampler, distance.sampler_steps) == ("ddim-eta1/chunk8/fp32", 4)
    assert (distance.weights, distance.direction) == ("ema0.9", "lower")


def test_milestones_before_low_noise_is_trained_are_marked(rows):
    ranges = {(r.arm, r.step): r.full_range for r in rows if r.metric.startswith("FD-")}
    assert ranges == {
        ("CS", 8): False, ("CS", 16): True, ("low-first", 8): False, ("low-first", 16): True
    }  # fmt: skip


def test_stage_rows_hold_the_curriculum(rows):
    stages = {(r.arm, r.step, r.metric): r.value for r in rows if r.metric in ("t_min", "t_max")}
    assert [stages["CS", step, "t_min"] for step in (0, 1, 3, 6, 10)] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert (stages["low-first", 0, "t_max"], stages["low-first", 8, "t_max"]) == (0.5, 1.0)
    channels = [r.value for r in rows if (r.arm, r.metric) == ("CS", "active_channels")]
    assert sorted(channels) == [3, 6, 10, 13, 16]


def test_masked_arm_carries_its_manipulation_check(rows):
    effect = {(r.step, r.level): r.value for r in rows if r.metric == "mask-effect"}
    assert len(effect) == 40 and {r.arm for r in rows if r.metric == "mask-effect"} == {"CS"}
    assert any(value != 0 for (step, _), value in effect.items() if step == 8)
    assert all(value == 0 for (step, _), value in effect.items() if step == 16)
    moved = {(r.step, r.metric.removeprefix("weight-movement-")) for r in rows
             if r.metric.startswith("weight-movement")}  # fmt: skip
    both = {f"{place}-{group}" for place in ("encoder", "up0") for group in ("on", "masked")}
    assert {name for step, name in moved if step == 8} == both
    assert {name for step, name in moved if step == 16} == {"encoder-on", "up0-on"}
    off = {(r.arm, r.step): r.value for r in rows if r.metric == "realised-sparsity/bottleneck"}
    assert off == {("CS", 8): 3 / 16, ("CS", 16): 0.0}


def test_scoring_on_the_way_leaves_the_training_as_it_is(finished, monkeypatch, train_run):
    """The study's cell scored a milestone between its steps; this run scores nothing."""
    monkeypatch.chdir(finished)
    config = dataclasses.replace(load_study("mine.yaml").runs[0], output="alone")
    train_run(config)
    both = [
        checkpoint.load(checkpoint.weights_path(folder, 16))["weights"]
        for folder in (config.run_dir, finished / "results" / "mine" / "cs" / "seed0")
    ]
    for kept, scored in zip(*(weights.values() for weights in both), strict=True):
        assert all(torch.equal(kept[name], scored[name]) for name in kept | scored)


def test_tables_and_figures_show_the_users_arm(finished):
    folder = finished / "results" / "mine"
    assert "| low-first |" in (folder / "tables" / "fid_vs_steps.md").read_text()
    for name in ("fid_vs_steps", "samples", "curriculum", "denoising_profile"):
        for ending in ("png", "pdf"):
            assert (folder / "figures" / f"{name}.{ending}").stat().st_size > 1000


def test_running_again_trains_nothing_and_leaves_the_rows(finished, monkeypatch, reproduce):
    monkeypatch.chdir(finished)
    folder = finished / "results" / "mine"
    before = (folder / "rows.jsonl").read_bytes()
    states = {p: p.stat().st_mtime_ns for p in folder.rglob("*.pt")}
    figure = (folder / "figures" / "fid_vs_steps.pdf").read_bytes()
    assert reproduce(COMMAND)[0] == 0
    assert (folder / "rows.jsonl").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.pt")} == states
    assert (folder / "figures" / "fid_vs_steps.pdf").read_bytes() == figure


def test_dry_run_of_a_finished_study_has_nothing_left(finished, monkeypatch, reproduce):
    monkeypatch.chdir(finished)
    _, out, _ = reproduce(COMMAND, "--dry-run")
    *cells, summary, declared = out.splitlines()
    assert len(cells) == 2 and all("scored 2/2" in line for line in cells)
    assert summary.startswith("2 cells, about 0 s in all")
    assert declared.startswith("exploratory; fingerprint of mine: ")


@pytest.fixture
def fresh(workdir):
    (workdir / "mine.yaml").write_text(STUDY)
    return workdir


def test_stitched_samples_wait_for_a_finisher_that_is_trained_last(fresh, do_cells):
    """The two cells run one after the other, the finisher second: the first goes on afterwards."""
    words = ["metrics=[fd,stitched]", "finisher=low-first", "stitch_levels=[0.5]"]
    options = [f"evaluation.{word}" for word in words]
    options += ['training.milestones=["100%"]', "training.threads=2"]
    code, _, errors = do_cells(*options)
    assert code == 0, errors
    rows = read_rows(fresh / "results" / "mine" / "rows.jsonl")
    stitched = {(r.arm, r.metric): r for r in rows if r.metric.startswith("stitched-")}
    sides = [f"stitched-{side}/FD-EffNet-Lite0-64px@12" for side in ("above", "below")]
    assert set(stitched) == {(arm, side) for arm in ("CS", "low-first") for side in sides}
    own = next(r for r in rows if r.arm == "low-first" and r.metric.startswith("FD-"))
    assert stitched["low-first", sides[0]].value == pytest.approx(own.value, rel=1e-6)
    assert stitched["CS", sides[0]].value != stitched["CS", sides[1]].value
    assert all(r.weights == "ema0.9 with ema0.9 of low-first/0@16" for r in stitched.values())


def test_dry_run_lists_all_cells_and_writes_nothing(fresh, reproduce):
    before = sorted(fresh.iterdir())
    _, out, _ = reproduce(COMMAND, "--dry-run")
    assert [line.split()[:3] for line in out.splitlines()[:2]] == [
        ["CS/0", "to", "do"], ["low-first/0", "to", "do"]
    ]  # fmt: skip
    assert sorted(fresh.iterdir()) == before


def wait_for(path, process, seconds=120):
    """Wait until ``path`` (a glob below the folder) is there."""
    folder, pattern = path
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if list(folder.glob(pattern)):
            return
        time.sleep(0.05)
    # What it says can be read to its end only when it has ended.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"{pattern} did not come: {process.stderr.read()}")


@pytest.mark.parametrize(
    ("moment", "environment"),
    # Once in processes that order sets of strings in another way.
    [("cs/seed0/ckpt-*3.pt", {"PYTHONHASHSEED": "7"}), ("cs/seed0/samples-*8.png", {})],
)
def test_killed_study_ends_in_the_same_rows(
    moment, environment, fresh, finished, start_cli, do_cells
):
    process = start_cli(COMMAND, fresh, **environment)
    folder = fresh / "results" / "mine"
    wait_for((folder, moment), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    code, _, errors = do_cells()
    assert code == 0, errors
    assert comparable(folder) == comparable(finished / "results" / "mine")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_study_saves_its_state_and_goes_on(
    number, fresh, finished, start_cli, call, write_job
):
    document = write_job("training.checkpoint_every=1000")
    process = start_cli(["-m", "benchmark.cells", document], fresh)
    folder = fresh / "results" / "mine"
    wait_for((folder, "cs/seed0/weights-*8.pt"), process)
    # As a terminal does it: to the whole group.
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert errors.splitlines()[-1] == "stopped; run the same command again to go on."
    assert call(follow, [document])[0] == 0
    assert comparable(folder) == comparable(finished / "results" / "mine")


def test_interrupted_cell_saves_the_step_it_was_at(fresh, start_cli):
    words = ["--steps", "4000", "--arms", "CS", "--set", 'training.milestones=[3,"100%"]']
    process = start_cli([*COMMAND, *words], fresh)
    run = fresh / "results" / "mine" / "cs" / "seed0"
    wait_for((run.parent.parent, "rows.jsonl"), process)
    wait_for((run, "ckpt-*5.pt"), process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    newest = max(int(path.stem[5:]) for path in run.glob("ckpt-*.json"))
    # The first milestone was scored while there was still much to train.
    assert {row.step for row in read_rows(run.parent.parent / "rows.jsonl")} >= {3}
    assert newest < 4000
    # Steps that are no multiple of checkpoint_every = 3 are saved only because of the signal.
    assert newest % 3 or (run / "cell.log").read_text() == ""


def test_cut_rows_are_measured_again(fresh, finished, do_cells):
    shutil.copytree(finished / "results", fresh / "results")
    path = fresh / "results" / "mine" / "rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-5]) + lines[-5][:-20])
    code, _, errors = do_cells()
    assert code == 0, errors
    assert comparable(path.parent) == comparable(finished / "results" / "mine")


def test_rows_of_another_config_are_refused_before_training(fresh, finished, reproduce):
    shutil.copytree(finished / "results", fresh / "results")
    for arm in ("cs", "mine"):
        shutil.rmtree(fresh / "results" / "mine" / arm)
    code, _, errors = reproduce(COMMAND, "--set", "training.lr=1e-5")
    assert code == 2 and "has rows of arm 'CS', seed 0 with another config" in errors
    assert not (fresh / "results" / "mine" / "cs" / "seed0" / "config.json").exists()


def test_two_arms_of_one_name_are_refused(fresh, call):
    (fresh / "mine.yaml").write_text(STUDY.replace("    arm: low-first\n", "    arm: CS\n"))
    code, _, errors = call(main, ["reproduce", "mine.yaml", "--dry-run"])
    assert code == 2 and "2 runs are called 'CS' with seed 0" in errors


def test_orphans_of_a_killed_parent_end(fresh, start_cli):
    process = start_cli([*COMMAND, "--set", "training.steps=4000"], fresh)
    wait_for((fresh / "results" / "mine", "cs/seed0/ckpt-*.pt"), process)
    process.kill()
    process.wait()
    with exclusive_lock(fresh / "results" / "mine" / "cs" / "seed0" / ".lock", wait_seconds=30):
        steps = [int(p.stem[5:]) for p in (fresh / "results/mine/cs/seed0").glob("ckpt-*.pt")]
    assert 0 < max(steps) < 4000


def test_error_in_a_cell_is_told_in_one_line(fresh, reproduce):
    code, _, errors = reproduce(COMMAND, "--set", "training.lr=1e30")
    assert code == 2 and "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: cell ") and "not finite at step" in last


def test_states_follow_the_files(finished, monkeypatch):
    monkeypatch.chdir(finished)
    study = load_study("mine.yaml")
    found = [one.state for config in study.runs for one in cell_states(study, config)]
    assert found == ["scored"] * 4
    other = load_study("mine.yaml", overrides=["evaluation.num_generated=13"])
    assert {one.state for one in cell_states(other, other.runs[0])} == {"trained"}
    assert scored_steps(other, other.runs[0]) == set()


def test_work_counts_backward_passes_and_network_calls(finished, monkeypatch):
    monkeypatch.chdir(finished)
    study = load_study("mine.yaml")
    work = work_of(study, study.runs[0])
    assert work.step == 3 * 8
    assert work.milestone == 12 * 4 + 4 * 20 * 2


def test_study_options_lie_over_every_run(finished, monkeypatch):
    monkeypatch.chdir(finished)
    study = load_study("mine.yaml", overrides=["training.lr=1e-5", "seeds=[3, 4]"], output="o")
    assert [(run.seed, run.output) for run in study.runs] == [
        (3, "o/cs"), (3, "o/mine"), (4, "o/cs"), (4, "o/mine")
    ]  # fmt: skip
    assert {run.training.lr for run in study.runs} == {1e-5}


def test_sample_draws_the_same_images_into_both_forms(finished, monkeypatch, capsys):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(finished)
    weights = "results/mine/cs/seed0/weights-000000016.pt"
    assert main(["sample", weights, "--count", "4", "--output", "four.npy"]) == 0
    assert main(["sample", weights, "--count", "9", "--output", "nine.png"]) == 0
    four, sheet = np.load("four.npy"), np.array(Image.open("nine.png"))
    assert four.shape == (4, 32, 32, 3) and sheet.shape == (96, 96, 3)
    assert np.array_equal(sheet[:32, :96], np.concatenate(four[:3], axis=1))
    assert main(["sample", weights, "--count", "4", "--seed", "1", "--output", "other.npy"]) == 0
    assert not np.array_equal(np.load("other.npy"), four)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "x.jpg"], "ends in .png or .npy"),
        (["--count", "0"], "at least one image"),
        (["--weights", "ema0.95"], "Did you mean 'ema0.9'"),
    ],
)
def test_sample_mistakes_are_one_line(words, message, finished, monkeypatch, call):
    monkeypatch.chdir(finished)
    code, _, errors = call(main, ["sample", "results/mine/cs/seed0/weights-000000016.pt", *words])
    assert code == 2 and errors.startswith("error: ") and message in errors


def test_two_runs_of_one_arm_name_are_refused_by_the_tables(finished, monkeypatch, tmp_path):

    source = finished / "results" / "mine" / "rows.jsonl"
    rows = read_rows(source)
    changed = [dataclasses.replace(row, config_hash="0" * 12, value=row.value + 1) for row in rows]
    append_rows(tmp_path / "rows.jsonl", [*rows, *changed])
    with pytest.raises(UserError, match="two rows for arm"):
        tables_of(tmp_path)
