import pytest
from matplotlib.figure import Figure

from plots.figures import scaling

pytestmark = pytest.mark.usefixtures("paper")


def row(swept, n_feat=32, side=32, batch=128, ranks=1, rate=100.0):
    return {
        "swept": swept, "n_feat": n_feat, "side": side, "global_batch": batch, "ranks": ranks,
        "images_per_second": {"median": rate, "low": 0.9 * rate, "high": 1.2 * rate},
        "milliseconds_per_image": 1e3 / rate, "megabytes_per_image": n_feat * side**2 / 2400,
    }  # fmt: skip


@pytest.fixture
def rows():
    widths = [row("width", n, s, rate=3.2e7 / (n * s**2)) for n in (64, 16) for s in (64, 32)]
    batches = [row("batch", batch=b, rate=50 + b) for b in (512, 32, 128)]
    return [*widths, *batches, row("ranks"), row("ranks", ranks=2, rate=180.0)]


def test_cost_has_a_line_for_each_side_in_order_of_width(rows):
    ax = scaling.by_width(rows, "milliseconds_per_image", "ms / image", Figure().subplots())
    assert [line.get_label() for line in ax.lines] == ["32×32", "64×64"]
    assert list(ax.lines[0].get_xdata()) == [16, 64]
    expected = [1e3 * n * 32**2 / 3.2e7 for n in (16, 64)]
    assert list(ax.lines[0].get_ydata()) == pytest.approx(expected)


def test_speed_is_the_median_with_bars_to_the_extremes(rows):
    ax = scaling.by_count(rows, "ranks", "ranks", "ranks", Figure().subplots())
    ((line, _, (bars,)),) = ax.containers
    assert list(line.get_ydata()) == [100.0, 180.0]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([90.0, 120.0]), pytest.approx([162.0, 216.0])]
    assert ax.get_ylim()[0] == 0


def test_figure_has_four_panels_and_names_what_was_held(rows):
    figure = scaling.figure(rows)
    assert [ax.get_xlabel() for ax in figure.axes] == ["n_feat", "n_feat", "global batch", "ranks"]
    assert "batch 128" in figure._supxlabel.get_text()
