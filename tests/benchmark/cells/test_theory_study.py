"""A study of the two-feature theory from its command to its page, at the smallest sizes."""

import dataclasses
import json
import subprocess
import sys

import pytest

from benchmark.__main__ import main
from benchmark.cells.theory import __main__ as process
from benchmark.cells.theory import run as theory
from benchmark.cells.theory.programs import is_unscored, programs_of
from benchmark.rows.file import ROWS_FILE, read_rows
from benchmark.rows.row import key
from benchmark.study.index import INDEX_FILE
from benchmark.study.study import load_study
from mindiffusion.errors import UserError

STUDY = """
kind: theory
about: [A sample is a sum of features.]
seeds: [0, 1]
arms:
  b: {extends: [arms/theory/b]}
  c: {extends: [arms/theory/c]}
  cs: {extends: [arms/theory/cs]}
  b-80: {extends: [arms/theory/b_80]}
run:
  data: {num_features: 2, ambient_dim: 4}
  model: {width: 6, init_std: 0.3}
  training: {steps: 40, global_batch: 8, lr: 0.01, milestones: ["5%", "100%"]}
sweeps: {training.steps: [20, 40, 80]}
evaluation: {num_samples: 32, num_levels: 5}
endpoint: {metric: excess-MSE/low}
hypotheses:
  - {name: T1, contrast: C - B}
  - {name: T2, contrast: C - B, metric: neurons/entropy, scale: plain, smallest_effect: 0.05}
  - {name: T5, contrast: C - B, metric: MSE/high, expected: equal}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a study that its command has brought to its end."""
    place = tmp_path_factory.mktemp("theory")
    (place / "mine.yaml").write_text(STUDY)
    output = place / "results"
    assert main(["reproduce", str(place / "mine.yaml"), "--output", str(output)]) == 0
    return output


def of_study(folder, **options):
    return load_study(str(folder.parent / "mine.yaml"), output=str(folder), **options)


def measured(folder):
    return {key(row): row.value for row in read_rows(folder / ROWS_FILE)}


def test_the_study_is_whole_and_says_what_it_is(folder):
    index = json.loads((folder / INDEX_FILE).read_text())
    assert len(index["cells"]) == 2 * (4 + 2 * 4)
    assert index["networks"]["CS"]["capacity_limit"]["location"] == "hidden neurons"
    assert index["networks"]["B"]["capacity_limit"] is None
    assert index["arms"]["C steps=80"]["config"]["training"]["steps"] == 80
    study = of_study(folder)
    assert not any(is_unscored(study, run) for run in study.runs)
    assert not (folder / "states").exists()


def test_the_page_has_verdicts_exponents_and_figures_of_the_theory(folder):
    page = (folder / "report.html").read_text()
    for figure in ("excess_profile", "neurons", "similarity", "exponents", "forest"):
        assert f'id="figure-{figure}"' in page
    assert "How the error scales" in page and "Hypotheses about neurons/entropy" in page
    # Arms at other settings are points of sweeps alone.
    assert "C steps=80 −" not in page
    assert "A sample is a sum of features." in page
    assert "below that of the mean sample" in page
    for word in ("generated image", "reference image", "held-out image", "mean picture"):
        assert word not in page, word


def test_everything_is_rebuilt_from_rows_byte_by_byte_without_torch(folder, repository, tmp_path):
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code = (
        "import sys; from benchmark.__main__ import main; "
        "code = main(['report', sys.argv[1]]); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=repository, check=False)
    assert done.returncode == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept


def test_status_and_dry_run_read_it(folder, capsys):
    assert main(["status", str(folder)]) == 0
    assert "scored 2/2" in capsys.readouterr().out
    words = [str(folder.parent / "mine.yaml"), "--output", str(folder), "--dry-run"]
    assert main(["reproduce", *words, "--arms", "B,CS", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "CS/1  scored 2/2" in out and "fingerprint of mine" in out and "C/1" not in out


def test_a_study_that_was_stopped_goes_on_to_the_same_numbers(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(theory, "finish", lambda study: None)
    # In this process: the fixture's was done by one for each core.
    monkeypatch.setattr(theory, "available_cores", lambda: 1)
    study = load_study(str(folder.parent / "mine.yaml"), output=str(tmp_path / "again"))
    assert theory.run_theory_study(study, study.runs, minutes=1e-9) == 0
    assert "stopped after 1e-09 minutes: 0 of 24 cells done" in capsys.readouterr().out
    assert list((tmp_path / "again" / "states").iterdir())
    for _ in range(8):
        theory.run_theory_study(study, study.runs, minutes=1e-9)
    assert theory.run_theory_study(study, study.runs) == 0
    assert measured(tmp_path / "again") == measured(folder)
    before = (tmp_path / "again" / ROWS_FILE).read_bytes()
    assert theory.run_theory_study(study, study.runs) == 0
    assert (tmp_path / "again" / ROWS_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "local"], "--cluster would gain nothing"),
        (["--set", "hypotheses=[{name: T, contrast: C - B, metric: FID}]"], "hypotheses.T.metric"),
        (["--set", "endpoint.metric=excess-MSE/lwo"], "endpoint.metric is 'excess-MSE/lwo'"),
        (["--set", "training.lr=0.02"], "with another config"),
        (["--arms", "CR"], "has no arm 'CR'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(words, said, folder, capsys):
    kept = (folder / ROWS_FILE).read_bytes()
    study = [str(folder.parent / "mine.yaml"), "--output", str(folder)]
    assert main(["reproduce", *study, *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "Traceback" not in error
    assert (folder / ROWS_FILE).read_bytes() == kept


def test_there_is_nothing_to_prepare(folder, capsys):
    assert main(["prepare", str(folder.parent / "mine.yaml")]) == 2
    assert "draws its samples as it trains" in capsys.readouterr().err


def test_a_process_that_cannot_know_what_to_do_says_so(tmp_path, capsys):
    assert process.main([]) == 2
    assert "give the one document of a share" in capsys.readouterr().err
    document = tmp_path / "share-0.json"
    document.write_text('{"study": 1}')
    assert process.main([str(document)]) == 2
    assert "share-0.json" in capsys.readouterr().err


def test_a_process_that_fails_ends_the_study_with_its_last_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(theory, "available_cores", lambda: 2)
    words = ["training.lr=1e30", "sweeps={training.steps: [40, 80]}"]
    study = of_study(folder, overrides=words)
    study = dataclasses.replace(study, folder=tmp_path / "failed")
    with pytest.raises(UserError, match=r"a process of the study stopped: .*not finite"):
        theory.run_theory_study(study, study.runs)
    assert (study.folder / "states" / "share-0.log").exists()


def test_programs_hold_whole_seeds_of_runs_that_may_train_together(folder):
    study = of_study(folder)
    programs = programs_of(study, study.runs)
    assert sum(len(program.runs) for program in programs) == len(study.runs)
    assert {len({run.training.steps for run in program.runs}) for program in programs} == {1}
    assert len({program.state for program in programs}) == len(programs) == 3
