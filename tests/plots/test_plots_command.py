import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from plots.build import write_figures

ROOT = Path(__file__).parents[2]
NAMES = {"fid_vs_steps", "samples", "curriculum", "denoising_profile"}


def plots(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "plots", *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


def test_command_rebuilds_every_figure(study):
    done = plots(study)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {study / "figures" / f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf")}
    assert set(map(Path, done.stdout.splitlines())) == expected
    for path in expected:
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_command_without_a_study_prints_usage():
    done = plots()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m plots")


@pytest.mark.parametrize("empty", [False, True])
def test_command_without_rows_fails_in_one_line(tmp_path, empty):
    if empty:
        (tmp_path / "rows.jsonl").touch()
    done = plots(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "rows.jsonl") in done.stderr


@pytest.mark.parametrize("gone", ["CS-*", "*"])
def test_command_draws_the_other_figures_if_strips_are_missing(study, gone):
    strips = sorted((study / "samples").glob(gone))
    for strip in strips:
        strip.unlink()
    done = plots(study)
    assert done.returncode == 0
    assert {Path(line).stem for line in done.stdout.splitlines()} == NAMES - {"samples"}
    assert f"{len(strips)} of its strips missing" in done.stderr
    assert str(study / "samples") in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_names_a_broken_strip_after_all_other_figures(study):
    strip = study / "samples" / "CS-seed0-000281.png"
    strip.write_text("no image")
    done = plots(study)
    assert done.returncode == 2
    assert str(strip) in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.stem for path in (study / "figures").iterdir()} == NAMES - {"samples"}


def test_plots_import_neither_torch_nor_more_of_ours(study):
    code = (
        "import sys; from plots.__main__ import main; main(sys.argv[1:]); "
        "ours = ('mindiffusion.', 'benchmark.', 'torch'); "
        "print('modules', *sorted(m for m in sys.modules if m.startswith(ours)))"
        "; print('pyplot', 'matplotlib.pyplot' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(study)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    lines = out.stdout.splitlines()
    assert lines[-2].split() == [
        "modules", "benchmark.results", "benchmark.statistics",
        "mindiffusion.errors", "mindiffusion.files",
    ]  # fmt: skip
    assert lines[-1] == "pyplot False"


def test_figures_have_the_same_bytes_for_any_row_order(tmp_path, make):
    rows = make.rows(arms=("B", "C"), milestones=(281, 1500))
    outputs = []
    for order in range(2):
        random.Random(order).shuffle(rows)
        folder = make.write(tmp_path / str(order), rows)
        outputs.append({path.name: path.read_bytes() for path in write_figures(folder)})
    assert len(outputs[0]) == 8
    assert outputs[0] == outputs[1]


def test_pdf_embeds_truetype_and_carries_no_clock(study):
    for path in write_figures(study):
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert b"/FontFile2" in content, path
            assert b"/Type3" not in content, path
            assert b"CreationDate" not in content, path


def test_a_study_without_a_kind_of_row_gets_no_such_figure(tmp_path, make):
    folder = make.write(tmp_path, [make.row(step=750), make.row()])
    assert {path.stem for path in write_figures(folder)} == {"fid_vs_steps"}
