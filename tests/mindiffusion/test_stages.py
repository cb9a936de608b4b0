import itertools

import pytest

from mindiffusion.config.presets import load_preset
from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.stages import (
    StageConfig,
    check_order,
    placed,
    resolve_stages,
    stage_at,
    stage_ends,
    trained_on_all_levels,
)
from mindiffusion.errors import UserError

LADDER = ((5, 0.8), (10, 0.6), (15, 0.4), (20, 0.2), (30, 0.0))


def stages(total, ladder=LADDER):
    rows = [StageConfig(f"s{i}", float(w), Window(t)) for i, (w, t) in enumerate(ladder)]
    return resolve_stages(tuple(rows), total)


@pytest.mark.parametrize(
    ("total", "ends"),
    [
        (80, [5, 15, 30, 50, 80]),
        (1500, [94, 281, 563, 938, 1500]),  # 93.75, 281.25, 562.5 (half up), 937.5, 1500
        (16, [1, 3, 6, 10, 16]),
        (50_880, [3180, 9540, 19_080, 31_800, 50_880]),
    ],
)
def test_resolve_stages_ends_at_the_rounded_cumulative_share(total, ends):
    resolved = stages(total)
    assert stage_ends(resolved, total) == ends
    assert [s.start for s in resolved] == [0, *ends[:-1]]
    assert [s.index for s in resolved] == list(range(5))


def test_resolve_stages_gives_every_stage_a_step_for_any_scale_of_weights():
    for total in range(16, 400):
        resolved = stages(total)
        assert resolved[0].start == 0
        assert all(a < b for a, b in itertools.pairwise(s.start for s in resolved))
        scaled = stages(total, [(0.1 * w, t) for w, t in LADDER])
        assert all(abs(s.start - r.start) <= 1 for s, r in zip(scaled, resolved, strict=True))


@pytest.mark.parametrize("starts", [[], [1], [0, 0], [0, 5, 4], [0, 1, 2, 3, 4, 5]])
def test_placed_refuses_steps_that_no_run_has(starts):
    configs = tuple(stage.config for stage in stages(80))
    with pytest.raises(UserError) as error:
        placed(configs, starts)
    assert str(starts) in str(error.value) and "1 to 5 rising steps" in str(error.value)


def test_resolve_stages_refuses_a_stage_without_a_step():
    with pytest.raises(UserError, match=r"stage 's0' would have no step of 7; raise"):
        stages(7)


def test_an_empty_curriculum_is_refused():
    with pytest.raises(UserError, match="no stage"):
        check_order(())


@pytest.mark.parametrize(
    ("step", "index"), [(0, 0), (4, 0), (5, 1), (14, 1), (15, 2), (49, 3), (50, 4), (79, 4)]
)
def test_stage_at_switches_exactly_at_the_ends(step, index):
    assert stage_at(stages(80), step).index == index


def test_stage_at_stays_in_the_last_stage_past_the_end():
    assert stage_at(stages(80), 1000).index == 4


@pytest.mark.parametrize(("step", "is_whole"), [(0, False), (50, False), (51, True), (80, True)])
def test_trained_on_all_levels_counts_a_stage_from_its_first_step_done(step, is_whole):
    # At a stage's end its successor is entered, but no step of it is done: the point is hollow.
    assert trained_on_all_levels(stages(80), step) is is_whole


def windows(*bounds):
    configs = tuple(
        StageConfig(name=str(i), weight=1.0, density=Window(*pair)) for i, pair in enumerate(bounds)
    )
    return resolve_stages(configs, 10 * len(bounds))


@pytest.mark.parametrize(
    ("bounds", "is_whole"),
    [
        (((0.0, 1.0), (0.8, 1.0)), True),
        (((0.0, 0.5), (0.5, 1.0)), True),
        (((0.5, 1.0), (0.0, 0.6)), True),
        (((0.0, 0.5), (0.0, 0.9)), False),
        (((0.0, 0.4), (0.5, 1.0)), False),
        (((0.2, 1.0), (0.1, 1.0)), False),
    ],
)
def test_trained_on_all_levels_joins_the_windows_so_far(bounds, is_whole):
    assert trained_on_all_levels(windows(*bounds), 20) is is_whole


def test_sparsity_that_rises_is_refused_before_training():
    configs = tuple(
        StageConfig(name=n, weight=1.0, sparsity=s) for n, s in (("a", 0.2), ("b", 0.4))
    )
    with pytest.raises(UserError, match=r"stage 'b' has sparsity 0.4, more than the stage before"):
        check_order(configs)


@pytest.mark.parametrize(
    "bad", [{"weight": 0.0}, {"weight": -1.0}, {"sparsity": 1.0}, {"penalty_lambda": -1e-9}]
)
def test_stage_config_refuses_values_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        StageConfig(**({"name": "s", "weight": 1.0} | bad))


@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_curriculum_presets_hold_the_ladder_of_the_seed_document(arm):
    rows = load_preset(f"arms/{arm}")["curriculum"]
    assert tuple((row["weight"], row["density"]["t_min"]) for row in rows) == LADDER


@pytest.mark.parametrize(
    ("bounds", "low", "high", "is_whole"),
    [
        ([(0.4, 1.0)], 0.4, 1.0, True),
        ([(0.4, 1.0)], 0.2, 1.0, False),
        ([(0.0, 0.5)], 0.2, 1.0, False),
        ([(0.0, 0.5)], 0.0, 0.5, True),
        ([(0.4, 1.0)], 0.0, 0.6, False),
    ],
)
def test_trained_on_all_levels_of_a_part_of_the_chain(bounds, low, high, is_whole):
    assert trained_on_all_levels(windows(*bounds), 20, low, high) is is_whole
