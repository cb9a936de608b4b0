import itertools

import matplotlib as mpl
import numpy as np
import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.study.arm_catalogue import CATALOGUE
from plots.arm_groups import families
from plots.build import drawable
from plots.figures import samples
from plots.style import FONT_SCALE, arm_style, legend_above, new_figure, paper_style, save

# Arms with a place and a look of their own.
PLACED = [arm.name for arm in CATALOGUE if arm.look is not None]

SEEDS_ARMS = ("B", "C", "CS", "CR")
LOOK = ("color", "marker", "linestyle")


def luminance(colour):
    red, green, blue = mpl.colors.to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_the_seeds_arms_differ_in_colour_marker_line_and_grey():
    looks = [arm_style(arm, SEEDS_ARMS) for arm in SEEDS_ARMS]
    for name in LOOK:
        assert len({str(look[name]) for look in looks}) == len(SEEDS_ARMS)
    greys = sorted(luminance(look["color"]) for look in looks)
    assert min(np.diff(greys)) > 0.08


@pytest.mark.parametrize("family", families(PLACED), ids=lambda family: family.title)
def test_arms_of_a_panel_differ_in_colour_and_without_it(family):
    looks = [arm_style(arm, PLACED) for arm in family.arms]
    assert len({look["color"] for look in looks}) == len(looks)
    assert len({(look["marker"], str(look["linestyle"])) for look in looks}) == len(looks)


def test_known_arms_look_the_same_in_any_company():
    assert arm_style("CS", ["CS"]) == arm_style("CS", ["B", "CS", "other"])


def test_every_arm_has_a_look_of_its_own():
    arms = [*PLACED, *(f"x{k}" for k in range(40))]
    looks = [tuple(str(arm_style(arm, arms)[name]) for name in LOOK) for arm in arms]
    assert len(set(looks)) == len(arms)
    assert arm_style("x0", ["x0"]) == arm_style("x0", arms)


def test_paper_style_ignores_and_restores_the_users_settings():
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        with paper_style():
            assert mpl.rcParams["font.size"] == pytest.approx(9.6 * FONT_SCALE)
            assert mpl.rcParams["pdf.fonttype"] == 42
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.usefixtures("paper")
def test_files_are_those_of_savefig_without_its_clocks_and_versions(tmp_path):
    def figure():
        made = new_figure(3.3, 2)
        ax = made.subplots()
        ax.semilogy([1, 2], [3, 40], label="an arm")
        ax.set_ylabel("distance")
        legend_above(ax)
        return made

    png, pdf = save(figure(), tmp_path / "ours")
    other = figure()
    other.savefig(tmp_path / "png", format="png", metadata={"Software": None})
    without = dict.fromkeys(("CreationDate", "Producer", "Creator"))
    other.savefig(tmp_path / "pdf", format="pdf", metadata=without)
    assert png.read_bytes() == (tmp_path / "png").read_bytes()
    assert pdf.read_bytes() == (tmp_path / "pdf").read_bytes()


def all_figures(frame, pictures=None):
    """Every figure that the rows allow, drawn once."""
    study = StudyAnalysis(frame)
    drawn = {name: draw(study) for name, draw in drawable(study).items()}
    return drawn | ({"samples": samples.figure(frame, pictures)} if pictures else {})


@pytest.mark.usefixtures("paper")
def test_text_of_many_arms_is_readable_inside_and_clear_of_the_data(wide):
    drawn = all_figures(wide)
    assert len(drawn) == 10
    check_text(drawn)


@pytest.mark.usefixtures("paper")
def test_text_of_one_seed_is_readable_inside_and_clear_of_the_data(tmp_path, make):
    rows = make.rows(milestones=(281, 1240, 1500))
    make.write(tmp_path, rows)
    drawn = all_figures(to_frame(rows), tmp_path)
    check_text({name: drawn[name] for name in ("fid_vs_steps", "forest", "samples", "capacity")})


def check_text(figures):
    for name, figure in figures.items():
        figure.canvas.draw()
        assert figure.get_figwidth() in (3.3, 6.8)
        assert figure.get_figheight() <= 9.2
        texts = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text()]
        assert min(text.get_fontsize() for text in texts) >= 7, name
        edge = figure.bbox.padded(1)
        for ax in figure.axes:
            box = ax.get_tightbbox()
            if box is None:
                continue
            assert edge.x0 <= box.x0 and box.x1 <= edge.x1, name
            assert edge.y0 <= box.y0 and box.y1 <= edge.y1, name
            legend = ax.get_legend()
            if legend is not None:
                assert not legend.get_window_extent().overlaps(ax.get_window_extent()), name
        (note,) = (t.get_window_extent() for t in texts if t.get_text() == figure.get_supxlabel())
        assert edge.x0 <= note.x0 and note.x1 <= edge.x1 and note.y0 >= edge.y0, name
        shown = [ax for ax in figure.axes if ax.axison]
        assert not any(note.overlaps(ax.get_tightbbox()) for ax in shown), name
        boxes = [ax.get_window_extent() for ax in shown]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), name
