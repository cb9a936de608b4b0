import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmark.analysis.exposure import run_averages
from benchmark.rows.frames import to_frame
from plots.figures import curriculum

pytestmark = pytest.mark.usefixtures("paper")
ENDS = (94, 281, 563, 938, 1500)


def test_windows_without_exposure_rows_are_trained_uniformly(make):
    stages = curriculum.exposure(to_frame(make.rows()))
    own = stages[stages["arm"] == "C"]
    assert sorted(set(zip(own["from_step"], own["to_step"], strict=True))) == [
        *zip((0, *ENDS[:-1]), ENDS, strict=True)
    ]
    first = own[own["from_step"] == 0].set_index("level")["exposure"]
    assert first[:0.8].tolist() == pytest.approx([0] * 16)
    assert first[0.81:].tolist() == pytest.approx([5] * 4)
    assert own.groupby("from_step")["exposure"].mean().tolist() == pytest.approx([1] * 5)


def test_average_is_the_seeds_own(make):
    """docs/methods.md, Exposure: .375/.688/1.0/1.313/1.625 for C, 1 for B."""
    stages = curriculum.exposure(to_frame(make.rows()))
    found = run_averages(stages[stages["arm"] == "C"])
    assert found.index.get_level_values("part").tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert found.tolist() == pytest.approx([0.375, 0.688, 1.0, 1.313, 1.625], abs=2e-3)
    assert run_averages(stages[stages["arm"] == "B"]).tolist() == pytest.approx([1] * 5)


def test_rows_of_exposure_come_before_windows(wide):
    stages = curriculum.exposure(wide)
    first = stages[(stages["arm"] == "density*") & (stages["from_step"] == 0)]
    assert first["exposure"].tolist() != pytest.approx([1] * 20)
    assert set(stages["seed"]) == {0}


def test_arms_with_the_same_exposure_share_a_panel(wide):
    figure = curriculum.figure(wide)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert titles == ["B, S, A/A", "C, CS, CR, C-flat", "density*", "B-80%"]


def test_heat_map_has_the_exposure_of_each_stage_and_level(wide):
    stages = curriculum.exposure(wide)
    mesh = curriculum.heat_map(stages[stages["arm"] == "C"], Figure().subplots())
    values = np.ma.filled(mesh.get_array(), 0.0)
    assert values.shape == (20, 5)
    assert values[0].tolist() == pytest.approx([0, 0, 0, 0, 1])
    assert values[-1].tolist() == pytest.approx([5, 2.5, 5 / 3, 1.25, 1])
    edges = mesh.get_coordinates()[0, :, 0]
    assert edges.tolist() == [0, *ENDS]


def test_bars_carry_their_values():
    average = curriculum.pd.Series([0.5, 1.5], index=[0.5, 1.0])
    ax = curriculum.averages(average, Figure().subplots())
    assert [bar.get_width() for bar in ax.patches] == [0.5, 1.5]
    assert [text.get_text() for text in ax.texts] == ["0.50", "1.50"]
