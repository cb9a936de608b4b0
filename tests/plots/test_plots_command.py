import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from remade import figures_of

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.study.terms import USUAL, Terms
from plots import build
from plots.__main__ import main
from plots.build import drawable

ROOT = Path(__file__).parents[2]
NAMES = {
    "fid_vs_steps", "samples", "curriculum", "capacity", "denoising_profile", "cost_vs_quality",
    "curve_with_samples",
}  # fmt: skip
TEN_PERCENT = Terms(smallest_effect=0.1)
ALL = {
    "fid_vs_steps", "forest", "order_exposure", "denoising_profile", "learnable", "stitched",
    "feature_emergence", "samples", "curriculum", "capacity", "channel_births", "group_norms",
    "cost_vs_quality", "closest", "specifications", "curve_with_samples",
    "stages", "classes", "network_features", "spectra", "birth_ablation", "cka",
    "excess_profile", "neurons", "similarity", "exponents",
    "faithfulness", "prompts",
}  # fmt: skip


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, *code, *map(str, arguments)], cwd=ROOT,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory, generators):
    """A study whose figures the command wrote, what it printed, and the modules it took."""
    folder = tmp_path_factory.mktemp("built") / "demo"
    generators.write(folder, generators.rows(arms=("B", "CS"), milestones=(281, 1500)))
    code = (
        "import sys; from plots.__main__ import main; status = main(sys.argv[1:]); "
        "ours = ('mindiffusion.', 'benchmark.', 'torch', 'matplotlib.backends.backend_'); "
        "print(*sorted(m for m in sys.modules if m.startswith(ours))); sys.exit(status)"
    )
    return folder, run(["-c", code], folder)


def test_command_rebuilds_every_figure_and_names_it(built):
    folder, done = built
    assert (done.returncode, done.stderr) == (0, "")
    expected = {folder / "figures" / f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf")}
    assert set(map(Path, done.stdout.splitlines()[:-1])) == expected
    for path in expected:
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_command_takes_neither_torch_nor_a_display_nor_what_measures(built):
    _, done = built
    modules = done.stdout.splitlines()[-1].split()
    assert "benchmark.analysis.findings" in modules
    assert not [name for name in modules if name.startswith("torch")]
    backends = {name.rpartition("_")[2] for name in modules if name.startswith("matplotlib")}
    assert backends == {"agg", "pdf", "mixed"}
    ours = {".".join(name.split(".")[:2]) for name in modules} - {"benchmark"}
    assert not ours & {f"mindiffusion.{name}" for name in ("data", "training", "networks", "ddpm")}
    assert not [name for name in modules if name.startswith("benchmark.evaluation")]


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_the_backend_that_the_environment_names_does_not_matter(
    backend, built, tmp_path, monkeypatch
):
    """Seaborn imports pyplot: it must neither choose a backend nor keep a figure."""
    monkeypatch.setenv("MPLBACKEND", backend)
    shutil.copy(built[0] / "rows.jsonl", tmp_path)
    code = (
        "import os, sys, pathlib; from plots import build; import matplotlib; "
        "from benchmark.analysis.study_analysis import analyse; "
        "folder = pathlib.Path(sys.argv[1]); "
        "build.ENTRIES = [one for one in build.ENTRIES if one.name == 'denoising_profile']; "
        "build.write_figures(analyse(folder), folder); "
        "print(os.environ['MPLBACKEND'], matplotlib.get_backend(auto_select=False), "
        "sys.modules['matplotlib.pyplot'].get_fignums())"
    )
    done = run(["-c", code], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{backend} None []\n", "")
    for kind in ("png", "pdf"):
        drawn, again = (at / "figures" / f"denoising_profile.{kind}" for at in (built[0], tmp_path))
        assert drawn.read_bytes() == again.read_bytes()


def test_pdf_embeds_truetype_and_carries_no_clock(built):
    folder, _ = built
    for path in (folder / "figures").glob("*.pdf"):
        content = path.read_bytes()
        assert b"/FontFile2" in content, path
        assert b"/Type3" not in content, path
        assert b"CreationDate" not in content, path


def test_figures_have_the_same_bytes_for_any_row_order(built, tmp_path, make, monkeypatch):
    folder, _ = built
    few = ("fid_vs_steps", "curriculum", "samples", "curve_with_samples")
    monkeypatch.setattr(build, "ENTRIES", [one for one in build.ENTRIES if one.name in few])
    rows = make.rows(arms=("B", "CS"), milestones=(281, 1500))
    random.Random(0).shuffle(rows)
    again = figures_of(make.write(tmp_path, rows))
    assert {path.stem for path in again} == set(few)
    for path in again:
        assert path.read_bytes() == (folder / "figures" / path.name).read_bytes(), path


def test_command_without_a_study_prints_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.startswith("usage: python -m plots")


@pytest.mark.parametrize("empty", [False, True])
def test_command_without_rows_fails_in_one_line(tmp_path, empty, capsys):
    if empty:
        (tmp_path / "rows.jsonl").touch()
    assert main([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert str(tmp_path / "rows.jsonl") in printed.err


@pytest.fixture
def one_figure(monkeypatch):
    """Only one figure of rows, for those who look at the pictures'."""
    few = [one for one in build.ENTRIES if one.name in ("capacity", "samples", "closest")]
    monkeypatch.setattr(build, "ENTRIES", few)


@pytest.mark.usefixtures("one_figure")
def test_figures_that_no_rows_stand_for_go_and_other_files_stay(study, caplog):
    figures = study / "figures"
    figures.mkdir(exist_ok=True)
    for name in ("closest.png", "samples.pdf", "closest.pdf", "mine.png"):
        (figures / name).write_text("old")
    for strip in (study / "samples").iterdir():
        strip.unlink()
    figures_of(study)
    # Rows name strips, which are not in this copy: the figure of samples is not wrong.
    left = {"capacity.png", "capacity.pdf", "samples.pdf", "mine.png"}
    assert {path.name for path in figures.iterdir()} == left
    assert "removed 2 files that no rows stand for" in caplog.text


@pytest.mark.parametrize("gone", ["CS-*", "*"])
@pytest.mark.usefixtures("one_figure")
def test_other_figures_are_drawn_if_strips_are_missing(study, gone, caplog):
    strips = sorted((study / "samples").glob(gone))
    for strip in strips:
        strip.unlink()
    assert {path.stem for path in figures_of(study)} == {"capacity"}
    (warning,) = caplog.messages
    assert f"{len(strips)} of its strips missing" in warning
    assert str(study / "samples") in warning


@pytest.mark.parametrize(
    ("strip", "said"),
    [(None, "1 of its strips missing or unreadable"), ((17, 8), "17x8"), ((160, 16), "size")],
)
@pytest.mark.usefixtures("one_figure")
def test_a_strip_of_no_use_leaves_its_figure_out_and_is_named(study, strip, said, caplog):
    path = study / "samples" / "CS-seed0-000281.png"
    if strip is None:
        path.write_text("no image")
    else:
        Image.new("RGB", strip).save(path)
    assert {path.stem for path in figures_of(study)} == {"capacity"}
    (warning,) = caplog.messages
    assert warning.startswith("figure of samples not drawn: ") and said in warning


def test_a_study_without_a_kind_of_row_gets_no_such_figure(make, wide):
    one = to_frame([make.row(step=750), make.row()])
    assert set(drawable(StudyAnalysis(one))) == {"fid_vs_steps", "cost_vs_quality"}
    assert set(drawable(StudyAnalysis(wide))) == ALL - {
        "learnable", "stitched", "feature_emergence", "samples", "closest", "curve_with_samples",
        "stages", "classes", "network_features", "spectra", "birth_ablation", "cka",
        "excess_profile", "neurons", "similarity", "exponents", "faithfulness", "prompts",
    }  # fmt: skip


def test_every_figure_has_a_caption(make):
    shown = build.legends(StudyAnalysis(to_frame([make.row()])))
    assert set(shown) == ALL and len({legend.title for legend in shown.values()}) == len(ALL)
    assert all(text.endswith(".") and len(text) > 80 for _, text in shown.values())


def test_captions_name_arms_as_the_catalogue_does(make):
    shown = build.legends(StudyAnalysis(to_frame([make.row()])))
    assert "(A/A)" in shown["forest"].caption and "(B-80%, B-half)" in shown["forest"].caption
    assert "The density control (density*)" in shown["order_exposure"].caption


def test_captions_name_the_smallest_effect_of_the_study(make):
    frame = to_frame([make.row()])
    studies = (StudyAnalysis(frame, terms) for terms in (USUAL, TEN_PERCENT))
    usual, own = (build.legends(study)["forest"].caption for study in studies)
    assert "the grey zone of ±3 %" in usual and "the grey zone of ±10 %" in own
