import pytest
from matplotlib.figure import Figure

from benchmark.results import to_frame
from plots import curriculum

pytestmark = pytest.mark.usefixtures("paper")


def test_bands_span_each_stages_steps_and_noise(make):
    stages = curriculum.first_seed_stages(to_frame(make.rows()))
    ax = Figure().subplots()
    curriculum.noise_range(stages[stages["arm"] == "C"], "C0", ax)
    boxes = [(p.get_x(), p.get_x() + p.get_width(), p.get_y(), p.get_y() + p.get_height())
             for p in ax.patches]  # fmt: skip
    ends, starts = (94, 281, 563, 938, 1500), (0, 94, 281, 563, 938)
    for box, expected in zip(
        boxes, zip(starts, ends, (0.8, 0.6, 0.4, 0.2, 0.001), [1] * 5, strict=True), strict=True
    ):
        assert box == pytest.approx(expected)


def test_steps_of_channels_and_penalty_are_the_rows_values(make):
    stages = curriculum.first_seed_stages(to_frame(make.rows()))
    for arm, name, first in (("CS", "active_channels", 13), ("CR", "penalty_lambda", 5e-5)):
        ax = Figure().subplots()
        own = stages[stages["arm"] == arm]
        curriculum.level_by_stage(own, name, "C0", ax)
        values, edges, _ = ax.patches[0].get_data()
        assert values.tolist() == own[name].tolist()
        assert values[0] == pytest.approx(first)
        assert list(edges) == [0, 94, 281, 563, 938, 1500]


def test_a_quantity_an_arm_has_not_is_said_to_be_unused(make):
    figure = curriculum.figure(to_frame(make.rows()))
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == ["B", "C", "CS", "CR"]
    penalty = figure.axes[8:]
    assert [[text.get_text() for text in ax.texts] for ax in penalty] == [["not used"]] * 3 + [[]]


def test_first_seed_alone_is_drawn(make):
    rows = make.rows(seeds=(2, 5))
    assert set(curriculum.first_seed_stages(to_frame(rows))["seed"]) == {2}


def test_more_than_four_arms_take_another_band(make):
    rows = make.rows()
    rows += [make.row(arm="extra", metric="t_min", step=0, value=0.5, stage="s"),
             make.row(arm="extra", metric="t_max", step=0, value=1.0, stage="s")]  # fmt: skip
    figure = curriculum.figure(to_frame(rows))
    assert sum(ax.get_title() == "extra" for ax in figure.axes) == 1
    assert len(figure.axes) == 15


def test_a_study_without_penalty_draws_an_empty_scale(make):
    figure = curriculum.figure(to_frame(make.rows(arms=("B", "C"))))
    assert len(figure.axes[4].get_yticks()) == 0
