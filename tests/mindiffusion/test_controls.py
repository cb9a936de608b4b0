"""Controls keep what they say they keep, and change the rest."""

import math

import numpy as np
import pytest

from mindiffusion.config.presets import build_config, load_preset
from mindiffusion.curriculum.controls import CONTROLS, control, fit_masses, standard_controls
from mindiffusion.curriculum.density import Average, Histogram, Share, Window
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError

N_T = 1000


def curriculum(arm):
    return build_config(load_preset(f"celeba_{arm}_32"), arm).curriculum


def average(stages):
    """Time-averaged probabilities of the levels."""
    total = math.fsum(s.weight for s in stages)
    return sum(s.weight / total * s.density.probabilities(N_T) for s in stages)


def weight(stages):
    return math.fsum(s.weight for s in stages)


@pytest.mark.parametrize("kind", [kind for kind in CONTROLS if kind != "static"])
@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_control_keeps_length_and_the_curriculums_own_last_stage(arm, kind):
    stages = curriculum(arm)
    if arm != "c" and kind in ("shuffled", "anti"):
        with pytest.raises(UserError, match="'density' or 'flat'"):
            control(stages, kind)
        return
    made = control(stages, kind, seed=4)
    assert made[-1] == stages[-1]
    assert weight(made) == pytest.approx(weight(stages))
    assert made[:-1] != stages[:-1]


@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_static_has_the_exposure_of_all_stages_at_every_step(arm):
    stages = curriculum(arm)
    made = control(stages, "static")
    assert weight(made) == pytest.approx(weight(stages))
    for stage in made:
        np.testing.assert_allclose(
            stage.density.probabilities(N_T), average(stages), atol=1e-15, rtol=0
        )
    # Capacity stays in place where it changes.
    capacity = [(stage.weight, stage.sparsity, stage.penalty_lambda) for stage in stages]
    assert len(made) == (1 if arm == "c" else len(stages))
    if arm != "c":
        assert [(s.weight, s.sparsity, s.penalty_lambda) for s in made] == capacity


def test_even_has_the_stages_in_order_all_equally_long():
    stages = curriculum("cs")
    made = control(stages, "even")
    assert [stage.weight for stage in made] == [12.5] * 4 + [30]
    for mine, theirs in zip(made, stages, strict=True):
        assert (mine.name, mine.density, mine.sparsity) == (
            theirs.name, theirs.density, theirs.sparsity,
        )  # fmt: skip
    with pytest.raises(UserError, match="'even' needs two stages or more before the last"):
        control(stages[-2:], "even")


def test_standard_controls_of_a_paced_curriculum_need_no_table():
    stages = curriculum("c")
    kinds = ("density", "static", "shuffled", "anti", "even")
    assert standard_controls(stages, has_table=False) == kinds


@pytest.mark.parametrize("kind", ["density", "shuffled", "anti"])
def test_control_of_c_keeps_the_exposure_of_every_level(kind):
    stages = curriculum("c")
    np.testing.assert_allclose(average(control(stages, kind, 7)), average(stages), atol=1e-15)


@pytest.mark.parametrize(
    ("kind", "fifths"),
    [
        ("density", [0.375, 0.688, 1.0, 1.313, 1.625]),
        ("shuffled", [0.375, 0.688, 1.0, 1.313, 1.625]),
        ("anti", [0.375, 0.688, 1.0, 1.313, 1.625]),
        ("flat", [1.0] * 5),
        ("mirror", [1.625, 1.313, 1.0, 0.688, 0.375]),
    ],
)
def test_exposure_of_fifths_is_that_of_the_methods(kind, fifths):
    found = average(control(curriculum("c"), kind)).reshape(5, -1).sum(1) * 5
    # Windows hold both their ends, so that one level in 200 or more is counted in two cells.
    np.testing.assert_allclose(found, fifths, atol=0.004)


def test_density_is_one_static_stage():
    first, _last = control(curriculum("c"), "density")
    assert (first.name, first.weight, first.sparsity) == ("static", 50, 0)


@pytest.mark.parametrize("kind", ["density", "flat"])
@pytest.mark.parametrize("arm", ["cs", "cr"])
def test_control_keeps_capacity_in_place(arm, kind):
    stages = curriculum(arm)
    made = control(stages, kind)
    for before, after in zip(stages, made, strict=True):
        for name in ("weight", "sparsity", "penalty_lambda"):
            assert getattr(before, name) == getattr(after, name)
    if kind == "density":
        assert len({stage.density for stage in made[:-1]}) == 1


def test_shuffled_is_a_permutation_that_follows_the_seed_and_is_never_the_identity():
    stages = curriculum("c")
    orders = set()
    for seed in range(60):
        made = control(stages, "shuffled", seed)
        assert sorted(made, key=lambda s: s.name) == sorted(stages, key=lambda s: s.name)
        assert made != stages
        assert made == control(stages, "shuffled", seed)
        orders.add(tuple(stage.name for stage in made))
    # 60 draws of 23 orders: 21.4 of them on average, with a standard deviation of 1.2.
    assert len(orders) >= 16


def test_anti_is_backwards_but_for_the_last():
    stages = curriculum("c")
    assert [s.weight for s in control(stages, "anti")] == [20, 15, 10, 5, 30]
    assert control(stages, "anti")[0] == stages[3]


def test_mirror_trains_low_noise_first():
    ends = [(s.density.t_min, s.density.t_max) for s in control(curriculum("c"), "mirror")]
    assert ends == [(0.0, 0.2), (0.0, 0.4), (0.0, 0.6), (0.0, 0.8), (0.0, 1.0)]


def test_controls_of_a_control_are_controls_too():
    mirror = control(curriculum("c"), "mirror")
    np.testing.assert_allclose(average(control(mirror, "density")), average(mirror), atol=1e-15)
    twice = control(control(curriculum("c"), "density"), "density")
    np.testing.assert_allclose(average(twice), average(curriculum("c")), atol=1e-15)


def test_flat_trains_high_noise_first_in_growing_windows_of_the_whole_range():
    stages = control(curriculum("c"), "flat")
    assert [s.density.bounds(N_T) for s in stages] == [
        (750, 1000), (500, 1000), (250, 1000), (1, 1000), (1, 1000),
    ]  # fmt: skip
    centre = [np.arange(1, N_T + 1) @ s.density.probabilities(N_T) for s in stages]
    assert centre[:4] == sorted(centre[:4], reverse=True)
    assert centre[3] < centre[4]


def test_flat_average_before_the_last_stage_is_uniform():
    stages = control(curriculum("c"), "flat")[:-1]
    parts = np.add.reduceat(average(stages), [0, 249, 499, 749])
    np.testing.assert_allclose(parts, [0.25] * 4, atol=1e-10)


def test_flat_covers_what_the_last_stage_covers():
    rows = [StageConfig("a", 1.0, Window(0.7, 0.9)), StageConfig("b", 3.0, Window(0.5, 0.9)),
            StageConfig("c", 1.0, Window(0.3, 0.8))]  # fmt: skip
    made = control(tuple(rows), "flat")
    assert [s.density.bounds(100) for s in made] == [(55, 80), (30, 80), (30, 80)]


def test_fit_masses_match_both_margins_inside_the_windows_and_keep_odds_ratios():
    rng = np.random.default_rng(1)
    weights, target = rng.uniform(1, 3, 4), rng.dirichlet(np.full(5, 20.0))
    inside = np.ones((4, 5), dtype=bool)
    inside[0, :2] = inside[1, :1] = False
    masses = fit_masses(weights, target, inside)
    np.testing.assert_allclose(masses.sum(1), 1)
    np.testing.assert_allclose(weights / weights.sum() @ masses, target, atol=1e-10)
    assert (masses[~inside] == 0).all() and (masses[inside] > 0).all()
    # Scaling rows and columns leaves the odds ratios of the uniform start, which are 1.
    odds = masses[2:, :1] * masses[2, :] / (masses[2, 0] * masses[2:, :])
    np.testing.assert_allclose(odds[1], odds[1, 0], atol=1e-9)


def test_flat_that_cannot_be_is_one_line():
    rows = (StageConfig("long", 9.0, Window(0.9)), StageConfig("b", 1.0, Window(0.5)),
            StageConfig("all", 5.0))  # fmt: skip
    with pytest.raises(UserError, match="no masses inside these windows average to uniform"):
        control(rows, "flat")


def test_density_of_any_densities_is_their_average():
    stages = (
        StageConfig("a", 2.0, Histogram((0.5, 0.7, 1.0), (0.9, 0.1))),
        StageConfig("b", 1.0, Average((Share(1.0, Window(0.1)), Share(4.0, Window(0.6))))),
        StageConfig("c", 5.0),
    )
    np.testing.assert_allclose(average(control(stages, "density")), average(stages), atol=1e-15)
    for kind in ("flat", "mirror"):
        with pytest.raises(UserError, match="moves time windows, but stage 'a'"):
            control(stages, kind)


def test_two_stages_before_the_last_are_not_run_backwards_twice():
    stages = curriculum("c")[-3:]
    assert standard_controls(stages) == ("density", "static", "anti", "flat")
    assert control(stages, "shuffled", 5) == control(stages, "anti")


@pytest.mark.parametrize(
    ("arm", "count", "kinds"),
    [
        ("c", 5, ("density", "static", "shuffled", "anti", "flat")),
        ("cs", 5, ("density", "static", "flat")),
        ("cr", 5, ("density", "static", "flat")),
        ("c", 2, ("density", "static", "flat")),
    ],
)
def test_standard_controls_are_those_that_can_be(arm, count, kinds):
    stages = curriculum(arm)[-count:]
    assert standard_controls(stages) == kinds
    for kind in set(CONTROLS) - {*kinds, "mirror", "even"}:
        with pytest.raises(UserError, match="'density' or 'flat'"):
            control(stages, kind)


@pytest.mark.parametrize(
    ("arm", "kind", "match"),
    [
        ("b", "density", "two stages or more, this one has 1"),
        ("c", "shufled", "unknown control 'shufled'; allowed are density, .*'shuffled'"),
    ],
)
def test_control_that_there_is_not_is_one_line(arm, kind, match):
    with pytest.raises(UserError, match=match) as error:
        control(curriculum(arm), kind)
    assert "\n" not in str(error.value)
