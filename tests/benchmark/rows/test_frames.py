import pandas as pd
import pytest
from test_row_file import row

from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.to_baseline import change_from_baseline
from benchmark.rows import frames
from benchmark.rows.file import append_rows
from benchmark.rows.frames import (
    arm_order,
    curriculum_frame,
    distance_rows,
    kernel_distance_rows,
    load_rows,
    mean_over_levels,
    split_conditions,
    to_frame,
)
from benchmark.rows.metric_names import is_smoke, metric_label
from benchmark.rows.row import FIELDS
from mindiffusion.errors import UserError


def frame_of(*rows):
    return to_frame(rows)


# --- names ---


@pytest.mark.parametrize(
    ("n", "label"), [(256, "@256"), (2048, "@2048"), (10_000, "@10k"), (50_000, "@50k")]
)
def test_metric_label_carries_n(n, label):
    assert metric_label("FID", n) == "FID" + label


def test_metric_label_refuses_no_images():
    with pytest.raises(UserError, match="n >= 1"):
        metric_label("FID", 0)


def test_smoke_is_fewer_than_2048():
    assert (is_smoke(2047), is_smoke(2048)) == (True, False)


# --- frames ---


def test_to_frame_is_free_of_row_order():
    rows = [row(arm=a, seed=s, step=t) for a in ("B", "C") for s in (0, 1) for t in (1, 2)]
    rows.append(row(metric="eps-MSE", level=0.5))
    pd.testing.assert_frame_equal(to_frame(rows), to_frame(rows[::-1]))


def test_to_frame_of_no_rows_has_all_columns():
    assert list(to_frame([]).columns) == list(FIELDS)


def test_arm_order_puts_the_known_arms_first():
    arms = ("zeta", "CR", "C", "alpha", "B")
    assert arm_order(frame_of(*(row(arm=a) for a in arms))) == ["B", "C", "CR", "alpha", "zeta"]


def test_distance_rows_prefer_fid_to_other_nets():
    other = row(metric="FD-EffNet-Lite0-64px@256")
    assert set(distance_rows(frame_of(row(), other))["metric"]) == {"FID@10k"}
    assert set(distance_rows(frame_of(other))["metric"]) == {other.metric}
    assert distance_rows(frame_of(row(metric="t_min"))).empty


@pytest.mark.parametrize(
    "change",
    [{"metric": "FID@50k"}, {"weights": "raw"}, {"sampler_steps": 9}, {"metric_version": 2},
     {"n_generated": 9}, {"n_reference": 9}, {"sampler": "ddpm"}],
)  # fmt: skip
def test_split_conditions_never_joins_unlike_numbers(change):
    assert len(split_conditions(frame_of(row(), row(arm="C", **change)))) == 2
    assert len(split_conditions(frame_of(row(), row(arm="C")))) == 1


def test_over_seeds_averages_sampling_seeds_within_a_training_seed():
    values = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 7.0}
    rows = [row(seed=s, sampling_seed=k, value=v) for (s, k), v in values.items()]
    summary = over_seeds(to_frame(rows)).iloc[0]
    assert summary["seeds"] == 2
    assert summary["mean"] == 4.0
    # Seed means are 2 and 6: half width t(.975, 1) * sd / sqrt(2) = 12.706 * 2.
    assert summary["half_width"] == pytest.approx(25.412, abs=1e-3)


def test_over_seeds_keeps_the_error_of_a_lone_measurement_only():
    lone = [row(arm="B", error=0.3)]
    again = [row(arm="C", error=0.3, sampling_seed=k) for k in (0, 1)]
    several = [row(arm="D", error=0.3, seed=seed) for seed in (0, 1)]
    summary = over_seeds(to_frame(lone + again + several))
    assert summary["error"].iloc[0] == 0.3
    assert summary["error"].iloc[1:].isna().all()


def test_kernel_distance_rows_are_those_of_any_net():
    names = ["KID@256", "KD-EffNet-Lite0-64px@256", "FID@256", "eps-MSE"]
    found = kernel_distance_rows(to_frame([row(metric=name) for name in names]))
    assert set(found["metric"]) == set(names[:2])


def test_over_seeds_is_hollow_if_one_seed_is():
    rows = [row(seed=0), row(seed=1, full_range=False)]
    assert not over_seeds(to_frame(rows))["full_range"].iloc[0]


def test_mean_over_levels_averages_each_measurement():
    rows = [
        row(metric="eps-MSE", arm=arm, level=level, value=value)
        for arm, values in (("B", (1.0, 3.0)), ("C", (2.0, 6.0)))
        for level, value in zip((0.25, 0.75), values, strict=True)
    ]
    mean = mean_over_levels(to_frame(rows))
    assert dict(zip(mean["arm"], mean["value"], strict=True)) == {"B": 2.0, "C": 4.0}


def test_mean_over_levels_refuses_unlike_levels():
    rows = [row(metric="eps-MSE", level=0.1), row(metric="eps-MSE", arm="C", level=0.2)]
    with pytest.raises(UserError, match="sets of noise levels"):
        mean_over_levels(to_frame(rows))


def test_curriculum_frame_ends_each_stage_where_the_next_begins():
    rows = [
        row(metric="t_min", value=value, step=step, stage=name)
        for value, step, name in ((0.8, 0, "one"), (0.4, 30, "two"), (0.0, 90, "three"))
    ]
    stages = curriculum_frame(to_frame(rows))
    assert stages["stage"].tolist() == ["one", "two", "three"]
    assert stages["from_step"].tolist() == [0, 30, 90]
    assert stages["to_step"].tolist() == [30, 90, 200]
    assert stages["t_min"].tolist() == [0.8, 0.4, 0.0]
    assert stages["penalty_lambda"].isna().all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(arm="C", manifest="other")], "2 prepared data sets"),
        ([row(), row(config_hash="c1", value=3.0)], "configs c0, c1"),
        ([], "has no rows; give a study's folder"),
    ],
)
def test_load_study_refuses_rows_that_do_not_belong_together(tmp_path, rows, message):
    (tmp_path / "rows.jsonl").touch()
    append_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=message):
        load_rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 1.5}, "noise level 1.5"),
        ({"metric": "eps-MSE", "level": None}, "noise level none"),
        ({"metric": "exposure", "level": -0.1}, "from 0 to 1"),
    ],
)
def test_load_study_refuses_levels_that_are_none(tmp_path, change, message):
    append_rows(tmp_path / "rows.jsonl", [row(), row(**{"step": 50} | change)])
    with pytest.raises(UserError, match=message):
        load_rows(tmp_path)


def test_whatever_is_made_of_a_study_refuses_links_in_its_folder(tmp_path):
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    elsewhere.mkdir()
    append_rows(study / "rows.jsonl", [row()])
    (study / "tables").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link"):
        load_rows(study)


def test_numbers_without_measure_are_taken_as_the_largest_and_it_is_said(tmp_path, caplog):
    values = {0: 1e300, 1: -5e-324, 2: 0.0, 3: 7.0}
    rows = [row(seed=seed, value=value) for seed, value in values.items()]
    append_rows(tmp_path / "rows.jsonl", rows)
    frame = load_rows(tmp_path).set_index("seed")
    assert frame["value"].to_dict() == {0: 1e70, 1: -1e-70, 2: 0.0, 3: 7.0}
    assert frames.beyond_bounds(frame) == 2 and "2 rows have numbers beyond" in caplog.text


def test_ratios_to_the_baseline_leave_out_what_has_no_logarithm():
    cells = [("B", 0, 2.0), ("C", 0, 1.0), ("B", 1, 0.0), ("C", 1, 1.0), ("B", 2, 1.0)]
    frame = frame_of(*(row(arm=arm, seed=seed, value=value) for arm, seed, value in cells))
    ratios = change_from_baseline(frame)
    assert set(zip(ratios["arm"], ratios["seed"], strict=True)) == {("B", 0), ("C", 0), ("B", 2)}


def test_a_summary_of_no_rows_has_columns_of_their_kinds():
    summary = over_seeds(frame_of(row()).iloc[:0])
    assert summary["mean"].dtype == "float64" and summary["full_range"].dtype == "bool"


def test_load_study_names_the_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"rows\.jsonl does not exist"):
        load_rows(tmp_path / "nowhere")
