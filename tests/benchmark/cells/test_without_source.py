"""Runs and studies on prepared data whose source is gone, or is not for them to look at."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmark.__main__ import main
from benchmark.cells import local
from benchmark.cells.__main__ import main as follow
from benchmark.cells.assignment import Assignment, write_assignment
from benchmark.rows.file import read_rows
from mindiffusion.cli import main as train_script
from mindiffusion.data import celeba as celeba_module
from mindiffusion.data import store
from mindiffusion.data.listing import list_images
from mindiffusion.training.run_folder import trained_on

STUDY = """
seeds: [0, 1]
arms:
  b: {extends: [arms/b]}
run:
  extends: [runs/celeba_32]
  data: {dataset: celeba, num_held_out: 2}
  model: {n_feat: 8}
  training:
    epochs: null
    steps: 2
    global_batch: 8
    ema_decays: [0.9]
    milestones: ["100%"]
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
  sampler: {steps: 2, chunk: 8}
evaluation:
  num_generated: 8
  num_reference: 8
  feature_nets: [effnet-lite0-64]
  metrics: [fd]
  strip: 4
"""


@pytest.fixture
def celeba(workdir, monkeypatch):
    """12 images of CelebA's shape in a working folder whose prepared data are its own."""
    (workdir / "data").unlink()
    faces = workdir / "celeba" / "img_align_celeba"
    faces.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (178, 218), (20 * number, 90, 240 - 15 * number)).save(
            faces / f"{number:06d}.png"
        )
    monkeypatch.setenv("CELEBA_PATH", str(workdir / "celeba"))
    (workdir / "mine.yaml").write_text(STUDY)
    started(monkeypatch)
    return workdir / "celeba"


def started(monkeypatch):
    """This process knows nothing of data yet, as one that is started now."""
    for name in ("_plans", "_counts", "_handed"):
        monkeypatch.setattr(store, name, {})


def gone(celeba, monkeypatch):
    shutil.rmtree(celeba)
    monkeypatch.delenv("CELEBA_PATH")
    started(monkeypatch)


@pytest.fixture
def listings(monkeypatch):
    """How often the source was listed, by the process that would have done it."""
    counts = Counter()
    counts.process = "parent"

    def counting(*words, **options):
        counts[counts.process] += 1
        return list_images(*words, **options)

    monkeypatch.setattr(celeba_module, "list_images", counting)
    return counts


@pytest.fixture
def cells_here(monkeypatch, listings):
    """A study's cells run in this process, by the document that theirs would be given."""

    def run_cells(walk, cells, records, slots, give_up):
        for (tasks,) in (walk.ready([[cell]]) for cell in cells):
            told = Assignment(study=walk.study, data=records, tasks=tasks, side_by_side=1)
            write_assignment(Path("cell.json"), told)
            with monkeypatch.context() as child:
                started(child)
                listings.process = f"cell {tasks[0].seed}"
                assert follow(["cell.json"]) == 0
        listings.process = "parent"
        return True

    monkeypatch.setattr(local, "_run_cells", run_cells)
    monkeypatch.setattr(local, "finish", lambda study: None)


def test_a_run_trains_on_prepared_data_alone(celeba, workdir, call, tiny_words, monkeypatch):
    words = [*tiny_words, "--set", "data.dataset=celeba", "--set", "training.steps=2",
             "--set", "training.milestones=[2]"]  # fmt: skip
    assert call(train_script, "celeba_b_32", [*words, "--output", "first"])[0] == 0
    gone(celeba, monkeypatch)
    code, _, errors = call(train_script, "celeba_b_32", [*words, "--output", "second"])
    assert code == 0 and "CELEBA_PATH is not set; taking data/celeba-32-squash-" in errors
    first, second = (trained_on(Path(name, "seed0")) for name in ("first", "second"))
    assert first == second is not None
    code, out, _ = call(train_script, "celeba_b_32", [*words, "--output", "3rd", "--dry-run"])
    assert code == 0 and '"total_steps": 2' in out


def test_a_parent_lists_once_and_its_cells_never(celeba, listings, cells_here, workdir):
    assert main(["reproduce", "mine.yaml"]) == 0
    assert listings == {"parent": 1}
    rows = read_rows(workdir / "results/mine/rows.jsonl")
    assert {row.seed for row in rows} == {0, 1} and len({row.manifest for row in rows}) == 1


def test_a_study_is_run_on_prepared_data_alone(
    celeba, listings, cells_here, call, monkeypatch, workdir
):
    # Whoever works on the code is told that it has changes.
    monkeypatch.setattr("benchmark.cells.preflight.git_revision", lambda: "0123456789ab")
    assert call(main, ["prepare", "mine.yaml"])[0] == 0
    gone(celeba, monkeypatch)
    code, out, errors = call(main, ["reproduce", "mine.yaml", "--dry-run"])
    assert code == 0 and "2 cells" in out and errors == ""
    listings.clear()
    code, _, errors = call(main, ["reproduce", "mine.yaml"])
    assert code == 0 and errors.count("CELEBA_PATH is not set; taking") == 1
    assert not listings and len(read_rows(workdir / "results/mine/rows.jsonl")) > 4


def test_cells_use_their_parents_array_though_another_was_prepared_since(
    celeba, cells_here, monkeypatch, workdir, call
):
    run_cells = local._run_cells

    def then_changed(*arguments):
        shutil.copy(celeba / "img_align_celeba/000001.png", celeba / "img_align_celeba/x.png")
        with monkeypatch.context() as other:
            started(other)
            assert call(main, ["prepare", "mine.yaml"])[0] == 0
        return run_cells(*arguments)

    monkeypatch.setattr(local, "_run_cells", then_changed)
    assert main(["reproduce", "mine.yaml"]) == 0
    manifests = {row.manifest for row in read_rows(workdir / "results/mine/rows.jsonl")}
    sets = [path for path in (workdir / "data").iterdir() if path.is_dir()]
    assert len(sets) == 2 and len(manifests) == 1
    # Now the source has changed since the rows were made, which is told before anything is done.
    started(monkeypatch)
    code, _, errors = call(main, ["reproduce", "mine.yaml"])
    assert code == 2 and "other data" in errors
