"""Exposure: from a stage's density to rows, and from rows to the run's average."""

import numpy as np
import pandas as pd
import pytest

from benchmark.analysis.exposure import exposure_table, order_information, stage_exposure
from benchmark.rows.frames import arm_order, load_rows
from mindiffusion.config.presets import build_config, load_preset
from mindiffusion.curriculum.controls import control
from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.exposure import relative_exposure
from mindiffusion.curriculum.stages import resolve_stages

STEPS = 8000
SEED_FIFTHS = [0.375, 0.688, 1.0, 1.313, 1.625]


def rows_of(arm, curriculum, seed=0, last=STEPS, total=STEPS):
    """Exposure rows of the stages begun before ``last``, and one of the milestone there."""
    common = {"arm": arm, "seed": seed, "total_steps": total}
    rows = [
        common | {"metric": "exposure", "step": s.start, "stage": s.config.name,
                  "level": level, "value": value}
        for s in resolve_stages(curriculum, total) if s.start < last
        for level, value in relative_exposure(s.density, 1000)
    ]  # fmt: skip
    return [*rows, common | {"metric": "KD-x@8", "step": last, "stage": "x", "value": 1.0}]


@pytest.fixture(scope="module")
def ladder():
    return build_config(load_preset("celeba_c_32"), "c").curriculum


@pytest.fixture(scope="module")
def baseline():
    return build_config(load_preset("celeba_b_32"), "b").curriculum


@pytest.mark.parametrize("n_T", [1000, 100, 37, 12])
@pytest.mark.parametrize("window", [Window(), Window(0.8), Window(0.29, 0.58)], ids=str)
def test_relative_exposure_has_mean_one_over_twenty_bins(n_T, window):
    levels, values = zip(*relative_exposure(window, n_T), strict=True)
    assert list(levels) == [k / 20 for k in range(1, 21)]
    assert np.mean(values) == pytest.approx(1, abs=1e-8) and min(values) >= 0
    if window == Window():
        assert values == (1.0,) * 20


def test_relative_exposure_of_a_window_is_its_density():
    values = dict(relative_exposure(Window(0.8), 1000))
    assert all(values[k / 20] == 0 for k in range(1, 16))
    # 201 levels: level 800 belongs to the bin below.
    assert values[0.8] == pytest.approx(20 / 201)
    assert values[1.0] == pytest.approx(1000 / 201)


def test_stage_exposure_is_placed_on_steps(ladder):
    frame = pd.DataFrame([*rows_of("C", ladder), *rows_of("C", ladder, seed=1)])
    stages = stage_exposure(frame.sample(frac=1, random_state=0))
    assert list(stages.columns) == [
        "arm", "seed", "stage", "from_step", "to_step", "level", "exposure"
    ]  # fmt: skip
    assert len(stages) == 2 * 5 * 20
    spans = stages[["seed", "stage", "from_step", "to_step"]].drop_duplicates()
    assert spans["from_step"].tolist() == [0, 500, 1500, 3000, 5000] * 2
    assert spans["to_step"].tolist() == [500, 1500, 3000, 5000, 8000] * 2
    assert stages["level"].tolist()[:20] == [k / 20 for k in range(1, 21)]
    assert (stages[stages["stage"] == "stage5_full_range"]["exposure"] == 1).all()


def test_exposure_of_c_and_its_order_controls_is_that_of_the_methods(ladder, baseline):
    rows = rows_of("B", baseline)
    for seed in (0, 1):
        rows += rows_of("C", ladder, seed)
        for kind in ("density", "shuffled", "anti", "flat"):
            rows += rows_of(f"{kind}*", control(ladder, kind, seed), seed)
    frame = pd.DataFrame(rows)
    table = exposure_table(frame)
    assert list(table.index) == arm_order(frame) and len(table) == 6
    assert list(table.columns) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert table.loc["B"].tolist() == [1.0] * 5
    for arm in ("C", "density*", "shuffled*", "anti*"):
        np.testing.assert_allclose(table.loc[arm], SEED_FIFTHS, atol=0.004)
        np.testing.assert_allclose(table.loc[arm], table.loc["C"], atol=1e-8)
    np.testing.assert_allclose(table.loc["flat*"], [1.0] * 5, atol=0.003)


def test_exposure_follows_the_steps_taken_not_the_weights(ladder):
    short = exposure_table(pd.DataFrame(rows_of("C", ladder, last=24, total=24)))
    shares = np.array([2, 3, 4, 6, 9]) / 24  # stages end at 2 5 9 15 24
    covered = shares @ [[0, 0, 0, 0, 5], [0, 0, 0, 2.5, 2.5], [0, 0, 5 / 3, 5 / 3, 5 / 3],
                        [0, 1.25, 1.25, 1.25, 1.25], [1] * 5]  # fmt: skip
    np.testing.assert_allclose(short.loc["C"], covered, atol=0.02)


def test_exposure_table_leaves_unfinished_runs_out(ladder, baseline):
    rows = [*rows_of("B", baseline), *rows_of("C", ladder, last=4000)]
    assert list(exposure_table(pd.DataFrame(rows)).index) == ["B"]
    assert exposure_table(pd.DataFrame(rows_of("C", ladder, last=4000))).empty
    assert len(stage_exposure(pd.DataFrame(rows))) == 20 + 4 * 20


def test_exposures_below_zero_have_no_order(ladder, baseline):
    rows = [*rows_of("B", baseline), *rows_of("C", ladder)]
    rows += [row | {"arm": "bad", "value": -row["value"]} for row in rows_of("C", ladder)]
    found = order_information(pd.DataFrame(rows))
    assert found["B"] == 0 and found["C"] == pytest.approx(0.26, abs=0.01)
    assert np.isnan(found["bad"])


def test_tables_of_rows_without_exposure_are_empty(repository):
    frame = load_rows(repository / "docs/demo")
    frame = frame[frame["metric"] == "t_min"]
    assert stage_exposure(frame).empty and exposure_table(frame).empty
