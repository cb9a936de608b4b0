"""Yardsticks of rows that are made up, so that every number is known."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmark.difficulty.data_rows import (
    DATA,
    ENTROPY_RATE,
    KL_LOG_SNR,
    KL_NEIGHBOURS,
    KL_OF_RATIO,
    KL_STEP,
)
from benchmark.difficulty.outcome import write_outcome
from benchmark.difficulty.setting import JOINT, make_setting
from benchmark.difficulty.yardsticks import (
    Measured,
    Yardstick,
    rank_correlation,
    verdict,
    yardsticks,
)
from benchmark.rows.metric_names import EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN
from mindiffusion.config.presets import load_preset
from mindiffusion.curriculum.clusters import MeasuredClusters
from mindiffusion.errors import UserError

TIMES = np.arange(1, 9) / 8
RATIO = np.array([0.1, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 9.0])
STEPS = (10, 20, 40)
LABELS = ("t 0–0.25", "t 0.25–0.5", "t 0.5–0.75", "t 0.75–1")


def row(arm, seed, step, metric, level, value):
    return SimpleNamespace(
        arm=arm, seed=seed, step=step, metric=metric, level=level, value=value, git="abc"
    )


def measured(tmp_path, seeds=2, num_train=8192, num_held_out=512, process=None):
    """Untrained 1, linear denoiser .2; interval i falls as exp(−step/(10·2^(3−i)))."""
    setting = make_setting("avatars", process, 4, seeds, tmp_path / "run", [])
    rows = []
    for number, time in enumerate(TIMES.tolist()):
        interval = number // 2
        for seed in range(seeds):
            rows.append(row(DATA, seed, 0, EPS_MSE_LINEAR, time, 0.2))
            rows.append(row(DATA, seed, 0, EPS_MSE_MEAN, time, 2))
            rows.append(row(JOINT, seed, 0, EPS_MSE, time, 1.0))
            for step in STEPS:
                rows.append(row(JOINT, seed, step, EPS_MSE, time, 0.2 + 0.1 * (2 - interval)))
                fallen = 0.8 * np.exp(-step / (10 * 2 ** (3 - interval)))
                own = 0.2 + fallen * (1 + 0.01 * seed)
                rows.append(row(setting.arm(interval), seed, step, EPS_MSE, time, own))
    for rank, edge in enumerate(setting.edges[1:]):
        for metric in (KL_STEP, KL_LOG_SNR, KL_OF_RATIO, ENTROPY_RATE):
            sign = -1 if metric == KL_OF_RATIO else 1
            rows.append(row(DATA, 0, 0, metric, edge, sign * (10.0 - rank)))
        for seed in range(seeds):
            value = (0.3, 0.1, 0.4, 0.2)[rank] if seed else (0.3, 0.4, 0.1, 0.2)[rank]
            rows.append(row(DATA, seed, 0, KL_NEIGHBOURS, edge, value))
    data = SimpleNamespace(train=np.zeros((num_train, 2, 2, 3)), held_out=range(num_held_out))
    return Measured(setting, rows, TIMES, RATIO, data)


def test_convergence_of_made_up_curves(tmp_path):
    found = measured(tmp_path)
    assert found.steps.tolist() == [*STEPS]
    for unit in ("eps", "x0", "v"):  # the same at all levels of an interval: no unit matters
        excess = found.excess(unit)
        known = [[np.exp(-s / (10 * 2 ** (3 - i))) for s in STEPS] for i in range(4)]
        assert excess[0] == pytest.approx(np.array(known))
        assert excess[1] == pytest.approx(1.01 * np.array(known))
    half = found.half("eps")[0]
    # exp(−1) at step 10 and 1 at step 0: half at 10·.5/(1 − 1/e).
    assert half[3] == pytest.approx(5 / (1 - np.exp(-1)))
    assert np.isinf(half[0]) and half[1] > half[2] > half[3]
    assert found.mean_picture("eps") == pytest.approx(np.full((2, 4), 1.8 / 0.8))


def test_shares_of_the_joint_net_count_what_is_below_the_floor_as_negative(tmp_path):
    found = measured(tmp_path)
    assert found.joint_excess("eps")[0] == pytest.approx([0.2, 0.1, 0.0, -0.1])
    assert found.joint_shares("eps")[1] == pytest.approx([2 / 3, 1 / 3, 0.0, -1 / 3])
    size = np.square(RATIO).reshape(4, 2).mean(axis=1)
    assert found.joint_excess("x0")[0] == pytest.approx(np.array([0.2, 0.1, 0, -0.1]) * size)
    assert found.joint_entropy_rate()[0] == pytest.approx(12 * np.array([0.4, 0.3, 0.2, 0.1]))


def test_orders_and_their_correlations(tmp_path):
    found = {one.name: one for one in yardsticks(measured(tmp_path))}
    assert len(found) == 12
    for name, value in (
        ("steps-to-half/eps", 1), ("joint-excess/eps", 1), (KL_STEP, 1), (KL_OF_RATIO, -1),
        (ENTROPY_RATE, 1), ("entropy-rate/joint", 1),
    ):  # fmt: skip
        assert found[name].with_low_noise.value == pytest.approx(value), name
    assert found[KL_STEP].with_low_noise.interval is None
    neighbours = found[KL_NEIGHBOURS].with_low_noise
    own = [stats.spearmanr(v, [4, 3, 2, 1]).statistic for v in found[KL_NEIGHBOURS].values]
    assert neighbours.value == pytest.approx(np.mean(own))
    assert neighbours.interval == (-1.0, 1.0)
    assert verdict(found[KL_NEIGHBOURS], LABELS).startswith(
        "Undecided: the rank correlation's interval is -1.00 to 1.00. Hardest"
    )


@pytest.mark.parametrize(("num_train", "is_apart"), [(512, True), (511, False), (100, False)])
def test_neighbours_of_seeds_that_share_images_have_no_interval(tmp_path, num_train, is_apart):
    """Two seeds take 256 images each; where there are fewer in all, each takes all of them."""
    found = {one.name: one for one in yardsticks(measured(tmp_path, num_train=num_train))}
    neighbours = found[KL_NEIGHBOURS]
    assert (neighbours.with_low_noise.interval is not None) == is_apart
    said = "Undecided" if is_apart else "Not tested, for its seeds share images: difficulty"
    assert verdict(neighbours, LABELS).startswith(said)
    assert found["joint-excess/eps"].with_low_noise.interval == (1.0, 1.0)


@pytest.mark.parametrize(
    ("seeds", "num_held_out", "said"),
    [
        (2, 128, "Each seed's errors are of 64 held-out images of its own."),
        (2, 127, "Seeds share images of the 127 that are held out: intervals of nets hold for"),
        (1, 10, "Each seed's errors are of 10 held-out images of its own."),
    ],
)
def test_verdicts_say_for_which_images_they_hold(tmp_path, seeds, num_held_out, said):
    write_outcome(measured(tmp_path, seeds, num_held_out=num_held_out))
    table = (tmp_path / "run" / "tables" / "difficulty.md").read_text()
    assert said in table.partition("Is low noise harder?")[2]


@pytest.mark.parametrize(
    ("process", "loss"),
    [
        (None, "plain loss in ε"),
        ("vpsde", "plain loss in ε"),
        ("edm", "loss in ε with weight 1 + (σ/σ_d)², σ_d 0.5"),
    ],
)
def test_tables_name_the_loss_of_the_nets(tmp_path, process, loss):
    write_outcome(measured(tmp_path, process=process))
    tables = tmp_path / "run" / "tables"
    shown = (tables / "difficulty.md").read_text()
    orders, _, verdicts = shown.partition("Is low noise harder?")
    assert loss in orders and loss in verdicts
    assert loss in (tables / "convergence.md").read_text()
    assert loss in (tables / "difficulty.csv").read_text()


def test_one_seed_has_no_interval(tmp_path):
    for one in yardsticks(measured(tmp_path, seeds=1)):
        assert one.with_low_noise.interval is None


def test_rank_correlation_is_spearmans_with_ties_and_what_was_not_reached_is_last():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 4, size=(2, 30)).astype(float)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    low_noise = -np.arange(4.0)
    assert rank_correlation(np.array([np.inf, 3, 2, 1]), low_noise) == pytest.approx(1)
    assert rank_correlation(np.array([np.nan, 3, 2, 1]), low_noise) == pytest.approx(1)
    for unknown in ([np.nan, np.nan, 2, 1], [2, 2, 2, 2], [np.inf] * 4):
        assert np.isnan(rank_correlation(np.array(unknown, dtype=float), low_noise))


RISES = "difficulty rises nearly all the way towards low noise."
NEITHER = "difficulty neither rises nor falls by and large."
DOWN, UP = [4, 3, 2, 1], [1, 2, 3, 4]
WEAK = [3, 1, 4, 2]


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([DOWN] * 2, f"Yes: {RISES} Hardest: t 0–0.25; easiest: t 0.75–1."),
        ([[4, 2, 3, 1]] * 2, "Yes: difficulty rises by and large towards low noise."),
        ([UP] * 2, "No, the reverse: difficulty rises nearly all the way towards high noise."),
        # Correlations 0, 0 and .2: the interval ends at .35.
        ([WEAK, WEAK, [2, 3, 4, 1]], f"No: {NEITHER}"),
        # Correlations .4 and 0: the interval has 0 in it and clear orders too.
        ([[3, 2, 4, 1], WEAK], "Undecided: the rank correlation's interval is"),
        # Correlations .4, .4 and .6: above 0, but weak or clear.
        ([[3, 2, 4, 1]] * 2 + [[3, 4, 1, 2]], "Undecided: the rank correlation's interval is"),
        ([[4, 4, 2, np.nan]] * 2, "Hardest: t 0–0.25, t 0.25–0.5; easiest: t 0.5–0.75. 1 with"),
        ([[np.nan, np.nan, 2, 1]], "No order: too few intervals have a value, or all have"),
        ([DOWN] * 2 + [[2, 2, 2, 2]], f"Yes: {RISES} Seeds without an order: 1 of 3. Hardest"),
    ],
)  # fmt: skip
def test_verdicts_in_words(seeds, said):
    found = verdict(Yardstick("a", "A", np.array(seeds, dtype=float)), LABELS)
    assert said in found and "\n" not in found


@pytest.mark.parametrize(("values", "order"), [(DOWN, RISES), (WEAK, NEITHER)])
def test_without_an_interval_there_is_an_order_and_no_verdict(values, order):
    values = np.array([values], dtype=float)
    assert verdict(Yardstick("a", "A", values), LABELS).startswith(
        f"Not tested, for one seed has no interval: {order} Hardest"
    )
    assert verdict(Yardstick("a", "A", values, is_closed_form=True), LABELS).startswith(
        f"Exact for the Gaussian fit, so without a test: {order} Hardest"
    )


def test_medians_know_infinity():
    values = np.array([[1, np.inf, np.inf], [2, 3, np.inf], [4, 5, np.inf]], dtype=float)
    assert Yardstick("a", "A", values).middle.tolist() == [2, 5, np.inf]
    assert Yardstick("a", "A", values[:2]).middle.tolist() == [1.5, np.inf, np.inf]


def test_medians_leave_out_what_is_not_known():
    values = np.array([[1, np.nan, np.nan], [np.nan, np.inf, np.nan], [4, np.nan, np.nan]])
    middle = Yardstick("a", "A", values).middle
    assert middle[:2].tolist() == [2.5, np.inf] and np.isnan(middle[2])


def test_tables_say_how_many_seeds_are_known(tmp_path):
    found = measured(tmp_path, seeds=3)
    for level in TIMES[:2]:  # the untrained net of seed 2 is at the floor: there is no way to go
        found._rows[JOINT, 2, 0, EPS_MSE][level] = 0.2
    write_outcome(found)
    for name in ("difficulty", "convergence"):
        table = (tmp_path / "run" / "tables" / f"{name}.md").read_text()
        assert "(2 of 3 seeds)" in table, name


def test_outcome_has_tables_figure_and_an_order_for_each_yardstick(tmp_path):
    found = measured(tmp_path)
    text = write_outcome(found)
    folder = tmp_path / "run"
    assert len([line for line in text.splitlines() if "Hardest" in line]) == 12
    for name in ("tables/difficulty.csv", "tables/convergence.md", "tables/agreement.csv",
                 "figures/difficulty.png", "figures/difficulty.pdf"):  # fmt: skip
        assert (folder / name).stat().st_size > 200, name
    documents = sorted((folder / "measured").glob("*.json"))
    assert len(documents) == 12
    content = json.loads((folder / "measured" / "steps-to-half-eps.json").read_text())
    assert content.keys() == {"process", "noise", "edges", "difficulty"}
    assert content["process"] == "ddpm" and content["edges"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    run = found.setting.run
    clusters = MeasuredClusters(file=str(folder / "measured" / "steps-to-half-eps.json"))
    assert len(clusters.stages(run.process)) == 4
    with pytest.raises(UserError, match=r"n_T 1000, but the process has .* n_T 500; measure it"):
        clusters.stages(replace(run.process, n_T=500))
    # What was not half-way at the end counts as the last step.
    assert content["difficulty"][0] == STEPS[-1] > content["difficulty"][1]
    assert "not reached" in (folder / "tables" / "difficulty.md").read_text()
    assert "code abc" in (folder / "tables" / "difficulty.md").read_text()


def test_preset_of_the_measured_order_reads_what_is_written(tmp_path):
    write_outcome(measured(tmp_path))
    file = Path(load_preset("arms/d_measured")["clusters"]["file"])
    assert file.parts[:2] == ("results", "difficulty-avatars")
    assert (tmp_path / "run" / file.relative_to("results/difficulty-avatars")).is_file()
