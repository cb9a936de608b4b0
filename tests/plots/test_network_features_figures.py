"""Figures of what is measured on the networks themselves."""

import dataclasses

import numpy as np
import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.build import drawable
from plots.figures import birth_ablation, cka, network_features, spectra

pytestmark = pytest.mark.usefixtures("paper")
ARMS, STEPS, LEVELS = ("B", "C", "CS"), (281, 1500), (0.1, 0.5)
LAYERS = ("down1", "down2", "to_vec", "up0")
PLAIN = {"n_generated": 0, "sampler": "", "sampler_steps": 0, "direction": "none"}
RANKS = (1, 2, 4, 8)


def layer_rows(make, arms=ARMS, seeds=(0,), attributes=("hair", "nose")):
    rows = [make.row(**PLAIN, metric=f"probe-chance/{name}", value=0.25) for name in attributes]
    for arm in arms:
        for seed in seeds:
            for step in STEPS:
                cell = {**PLAIN, "arm": arm, "seed": seed, "step": step, "n_reference": 300,
                        "full_range": arm == "B" or step == 1500}  # fmt: skip
                for number, layer in enumerate(LAYERS):
                    for name in attributes:
                        for level in LEVELS:
                            value = 0.1 * number + step / 5000 - 0.2 * level + 0.01 * seed
                            for kind, shift in (("silhouette", 0.0), ("probe", 0.3)):
                                rows.append(make.row(**cell, metric=f"{kind}/{layer}/{name}",
                                                     value=value + shift, level=level,
                                                     error=0.02))  # fmt: skip
    return rows


def spectrum_rows(make, arms=ARMS, seeds=(0,)):
    rows = []
    for rank in (*RANKS, "effective-rank"):
        size = 30.0 if rank == "effective-rank" else 1 / rank
        for level in LEVELS:
            rows.append(make.row(**PLAIN, metric=f"jacobian-linear/{rank}", level=level,
                                 value=0.8 * size))  # fmt: skip
        rows.append(make.row(**PLAIN | {"n_reference": 256}, metric=f"spectrum-data/{rank}@256",
                             value=9 * size))  # fmt: skip
        for number, arm in enumerate(arms):
            for seed in seeds:
                for step in STEPS:
                    cell = {"arm": arm, "seed": seed, "step": step, "direction": "none"}
                    value = size * (1 + 0.1 * number + 0.01 * seed + step / 3000)
                    rows.append(make.row(**cell, metric=f"spectrum/{rank}@256", value=9 * value))
                    for level in LEVELS:
                        rows.append(make.row(**PLAIN | cell, metric=f"jacobian/{rank}",
                                             level=level, value=value, error=0.1))  # fmt: skip
    return rows


def birth_rows(make, arms=("CS", "S"), seeds=(0,), attributes=("hair", "nose")):
    rows = []
    for arm in arms:
        for seed in seeds:
            cell = {**PLAIN, "arm": arm, "seed": seed, "n_reference": 64}
            for name, size in zip(attributes, (0.2, 0.01), strict=False):
                rows.append(make.row(**cell, metric=f"amplitude/{name}", value=size))
            for stage in (1, 2, 3):
                rows.append(make.row(**cell, metric=f"ablation-units/{stage}", value=4.0 + stage))
                for level in LEVELS:
                    change = 1e-3 * stage * (1 - level) + 1e-4 * seed
                    for name, value in {
                        f"ablation/{stage}": change, f"ablation-random/{stage}": change / 3,
                        **{f"ablation-accuracy/{stage}/{a}": -0.02 * stage for a in attributes},
                        **{f"ablation-accuracy-random/{stage}/{a}": -0.01 for a in attributes},
                    }.items():  # fmt: skip
                        rows.append(make.row(**cell, metric=name, level=level, value=value,
                                             error=1e-4))  # fmt: skip
    return rows


def test_lines_by_step_are_means_over_layers_and_levels(make):
    frame = to_frame(layer_rows(make))
    figure = network_features.figure(frame)
    axes = figure.axes
    assert len(axes) == 8 and [ax.get_title(loc="left") for ax in axes[:2]] == ["hair", "nose"]
    assert [ax.get_ylabel().replace("\n", " ") for ax in axes[::2]] == [
        "silhouette by step", "silhouette by layer", "probe accuracy by step",
        "probe accuracy by layer",
    ]  # fmt: skip
    rows = frame[(frame["metric"].str.fullmatch("silhouette/.*/hair")) & (frame["arm"] == "CS")]
    expected = rows.groupby("step")["value"].mean()
    drawn = [line for line in axes[0].get_lines() if line.get_label() == "CS"]
    np.testing.assert_allclose(drawn[0].get_ydata(), expected)
    by_layer = next(line for line in axes[2].get_lines() if line.get_label() == "CS")
    last = rows[rows["step"] == 1500].assign(layer=rows["metric"].str.split("/").str[1])
    np.testing.assert_allclose(
        by_layer.get_ydata(), last.groupby("layer")["value"].mean()[list(LAYERS)]
    )
    labels = [tick.get_text() for tick in axes[2].get_xticklabels()]
    assert labels == list(LAYERS)
    assert "hollow" in figure.get_supxlabel() and "0.1, 0.5" in figure.get_supxlabel()


def test_blocks_stand_in_the_order_of_their_numbers():
    names = ("out_blocks.0", "in_blocks.10", "in_blocks.2", "mid_block", "in_blocks.0")
    rows = to_frame([]).assign(layer=[]).reindex(range(5)).assign(layer=names)
    assert network_features.layers_in_order(rows) == [
        "in_blocks.0", "in_blocks.2", "in_blocks.10", "mid_block", "out_blocks.0"
    ]  # fmt: skip


def test_spectra_stand_beside_the_linear_denoiser_and_the_data(make):
    frame = to_frame(spectrum_rows(make))
    axes = spectra.figure(frame).axes
    titles = [ax.get_title(loc="left") for ax in axes[:3]]
    assert titles == ["Jacobian, $t$ = 0.1", "Jacobian, $t$ = 0.5", "samples, n = 256"]
    for ax, factor in zip(axes[:3], (0.8, 0.8, 9.0), strict=True):
        grey = ax.get_lines()[0]
        np.testing.assert_allclose(grey.get_ydata(), [factor / rank for rank in RANKS])
        (own,) = [line for line in ax.get_lines() if line.get_label() == "C"]
        np.testing.assert_allclose(own.get_xdata(), RANKS)
        np.testing.assert_allclose(own.get_ydata()[0] / own.get_ydata()[1], 2.0)
    (ranks,) = [line for line in axes[3].get_lines() if line.get_label() == "B"]
    np.testing.assert_allclose(ranks.get_ydata(), [30 * (1 + s / 3000) for s in STEPS])


def test_births_have_a_line_a_stage_and_a_map_from_coarse_to_fine(make):
    frame = to_frame(birth_rows(make, seeds=(0, 1)))
    figure = birth_ablation.figure(frame)
    above, below = figure.axes[:2], figure.axes[2:]
    assert above[0].get_title(loc="left").endswith(": 5+6+7 channels"[:7])
    solid = [line for line in above[0].get_lines() if str(line.get_label()).startswith("stage")]
    assert [line.get_label() for line in solid] == ["stage 1", "stage 2", "stage 3"]
    np.testing.assert_allclose(solid[2].get_ydata(), [3e-3 * 0.9 + 5e-5, 3e-3 * 0.5 + 5e-5])
    assert [tick.get_text() for tick in below[0].get_yticklabels()] == ["hair", "nose"]
    # −.02·k less the −.01 of random channels, in points.
    assert [text.get_text() for text in below[0].texts[:3]] == ["−1", "−3", "−5"]
    plain = to_frame([row for row in birth_rows(make) if "accuracy" not in row.metric])
    assert len(birth_ablation.figure(plain).axes) == 2


def test_attributes_at_low_and_high_noise_stand_apart_and_small_changes_have_no_colour(make):
    rows = birth_rows(make, arms=("CS",), attributes=("nose",))
    own = [row for row in rows if row.metric == "ablation-accuracy/1/nose"]
    assert [row.level for row in own] == list(LEVELS)
    rows = [row for row in rows if row not in own]
    # At low noise 5 points below random channels, at high noise 1; errors of 1 point each.
    rows += [dataclasses.replace(row, value=value, error=0.01)
             for row, value in zip(own, (-0.06, -0.02), strict=True)]  # fmt: skip
    cells = birth_ablation.beyond_random(to_frame(rows)).query("stage == 1").set_index("half")
    assert dict(cells["mean"]) == pytest.approx({"low": -0.05, "high": -0.01})
    assert cells["clear"]["low"] == pytest.approx(-0.05) and np.isnan(cells["clear"]["high"])
    low, high = birth_ablation.figure(to_frame(rows)).axes[1:]
    assert [ax.get_title(loc="left") for ax in (low, high)] == ["low noise", "high noise"]
    assert [ax.texts[0].get_text() for ax in (low, high)] == ["−5", "−1"]
    assert [bool(np.ma.getmaskarray(ax.get_images()[0].get_array())[0, 0])
            for ax in (low, high)] == [False, True]  # fmt: skip


def test_the_error_of_a_cell_is_that_over_seeds_where_there_are_several(make):
    rows = birth_rows(make, arms=("CS",), seeds=(0, 1), attributes=("nose",))
    rows = [dataclasses.replace(row, value=row.value * (1 + 3 * row.seed)) for row in rows]
    # Of stage 2: −3 and −12 points, so the interval is ±57.
    cells = birth_ablation.beyond_random(to_frame(rows)).query("stage == 2")
    assert list(cells["mean"]) == pytest.approx([-0.075] * 2) and cells["clear"].isna().all()


def cka_rows(make, arms=("B", "C"), layers=("down1", "up0")):
    rows = []
    for arm in arms:
        for layer in layers:
            for step in STEPS:
                for role, others in (("other", STEPS), ("own", [s for s in STEPS if s < step])):
                    for beside in others:
                        for level in LEVELS:
                            value = 0.9 - abs(step - beside) / 3000 - 0.2 * (arm == "C") - level / 5
                            name = f"cka/{layer}/{role}/{beside}"
                            rows.append(make.row(**PLAIN, arm=arm, step=step, metric=name,
                                                 level=level, value=value))  # fmt: skip
    return rows


def test_cka_is_a_map_of_two_milestones_steps(make):
    frame = to_frame(cka_rows(make))
    figure = cka.figure(frame)
    axes = figure.axes[:4]
    assert [ax.get_title(loc="left") for ax in axes[:2]] == ["B", "C"]
    assert "both of one run" not in figure.get_supxlabel()
    assert axes[0].get_ylabel() == "down1\nstep" and axes[2].get_ylabel() == "up0\nstep"
    (image,) = axes[1].get_images()
    apart = (1500 - 281) / 3000
    expected = 0.64 - apart * (1 - np.eye(2))
    np.testing.assert_allclose(np.asarray(image.get_array()), expected)
    assert axes[1].texts[0].get_text() == ".64"
    # Without another run, the milestones before are what there is.
    own = to_frame([row for row in cka_rows(make) if "/own/" in row.metric])
    assert cka.matrix_of(cka.cka_rows(own).query("arm == 'C' and layer == 'up0'")).shape == (1, 1)
    assert "both of one run: B, C" in cka.figure(own).get_supxlabel()


@pytest.mark.parametrize("values", [(0.0,), (1e70, -1e70), (1e-70, 3.0)])
def test_any_numbers_and_odd_names_can_be_drawn(values, make):
    for rows_of, draw in (
        (layer_rows, network_features.figure), (spectrum_rows, spectra.figure),
        (birth_rows, birth_ablation.figure), (cka_rows, cka.figure),
    ):  # fmt: skip
        rows = [
            dataclasses.replace(row, value=values[number % len(values)])
            for number, row in enumerate(rows_of(make))
        ]
        first = rows[-1]
        kind = first.metric.split("/")[0]
        odd = [
            dataclasses.replace(first, metric=f"{kind}{end}") for end in ("/odd", "/", "/a/b/c/d")
        ]
        figure = draw(to_frame([*rows, *odd]))
        figure.canvas.draw()


def test_they_are_drawn_where_there_are_such_rows(make):
    for rows, name in (
        (layer_rows(make), "network_features"), (spectrum_rows(make), "spectra"),
        (birth_rows(make), "birth_ablation"), (cka_rows(make), "cka"),
    ):  # fmt: skip
        assert name in drawable(StudyAnalysis(to_frame(rows)))
        assert name not in drawable(StudyAnalysis(to_frame([make.row()])))
