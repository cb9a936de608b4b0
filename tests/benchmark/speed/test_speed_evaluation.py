"""From images to a distance beside other tools, with a tiny net and few images."""

import importlib.util
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.__main__ import main
from benchmark.evaluation.features import inception
from benchmark.speed.parts import evaluation
from benchmark.speed.rivals import scorers
from mindiffusion.files import sha256_of_file

DIM, IMAGES = 16, 8
MODULES = {
    "clean-fid": "cleanfid",
    "torch-fidelity": "torch_fidelity",
    "pytorch-fid": "pytorch_fid",
}
TOOLS = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
OURS = ["whole: ours, from the folder", "whole: ours, from the array"]


class TinyInception(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def write_tiny(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        torch.jit.save(torch.jit.script(TinyInception()), str(path))
    return sha256_of_file(path)


@pytest.fixture
def rows(workdir, short_turns, call, tiny_speed_words, monkeypatch):
    """A function: → rows by name of the whole part at its smallest."""
    monkeypatch.setattr(inception, "DIM", DIM)
    monkeypatch.setattr(evaluation, "write_random_inception", write_tiny)

    def run(repeats=1):
        words = [*tiny_speed_words, "--set", f"data.num_train={IMAGES}"]
        words += ["--repeats", str(repeats), "--json", "speed.json"]
        code, _, errors = call(main, ["speed", "--part", "evaluation", *words])
        assert code == 0, errors
        return {row["row"]: row for row in json.loads((workdir / "speed.json").read_text())["rows"]}

    return run


def test_evaluation_part_has_all_rows(rows):
    found = rows(repeats=2)
    assert list(found)[:2] == OURS
    assert set(found) == {
        *OURS,
        "pipeline: ours, from the folder",
        *(f"{part}: {tool}" for part in ("whole", "pipeline") for tool in MODULES),
        "distance: scipy.linalg.sqrtm",
        "distance: ours",
    }
    for tool in TOOLS:
        assert "note" not in found[f"pipeline: {tool}"], found[f"pipeline: {tool}"]["note"]
    timed = [row for row in found.values() if "note" not in row]
    assert all(len(row["repeats"]) == 2 and row["seconds"]["low"] > 0 for row in timed)
    assert found["whole: ours, from the folder"]["over_fastest_other"]["median"] > 0
    assert found["pipeline: clean-fid"]["over_clean_fid"]["median"] == 1
    assert "value" not in found["pipeline: clean-fid"]
    assert "images_per_second" not in found["distance: ours"]
    assert found["distance: ours"]["over_sqrtm"]["median"] > 0
    # Equal ways give equal distances; scipy's root of a rank-deficient matrix has a few digits.
    folder, array = (found[name]["value"] for name in OURS)
    assert folder == array > 0
    if "value" in found["whole: clean-fid"]:
        assert found["whole: clean-fid"]["value"] == pytest.approx(folder, rel=1e-3)
    assert found["distance: ours"]["difference"] < 1e-6


def test_reckoned_seconds_scale_all_but_the_distance():
    loop = SimpleNamespace(distance_seconds=[3.0, 2.0, 9.0], images_per_step=500)
    found = evaluation._reckoned(loop, {"seconds": {"median": 5.0}})
    assert found == pytest.approx(2.0 * evaluation.RECKONED_IMAGES / 500 + 3.0)


def test_a_tool_that_fails_says_why_in_its_row(rows, monkeypatch):
    def broken(task):
        def features():
            raise TypeError("sqrtm() got an unexpected keyword argument 'disp'\nmore")

        return scorers.Way(features, lambda found, reference: np.nan)

    monkeypatch.setattr(scorers, "OTHER_TOOLS", {"broken": broken})
    found = rows()
    said = "fails: TypeError: sqrtm() got an unexpected keyword argument 'disp'"
    for part in ("whole", "pipeline"):
        assert found[f"{part}: broken"] == {"row": f"{part}: broken", "note": said}
    assert "over_fastest_other" not in found[OURS[0]]


def test_a_tool_that_is_absent_says_how_to_get_it(rows, monkeypatch):
    def absent(task):
        raise ImportError

    monkeypatch.setattr(scorers, "OTHER_TOOLS", {"some-fid": absent})
    found = rows()
    assert found["whole: some-fid"]["note"] == "not installed: pip install some-fid"
