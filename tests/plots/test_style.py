import itertools

import matplotlib as mpl
import numpy as np
import pytest

from benchmark.results import KNOWN_ARMS, to_frame
from plots import curriculum, denoising_profile, fid_vs_steps, samples
from plots.style import arm_style, paper_style

LOOK = ("color", "marker", "linestyle")


def luminance(colour):
    red, green, blue = mpl.colors.to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_known_arms_differ_in_colour_marker_line_and_grey():
    looks = [arm_style(arm, KNOWN_ARMS) for arm in KNOWN_ARMS]
    for name in LOOK:
        assert len({str(look[name]) for look in looks}) == len(KNOWN_ARMS)
    greys = sorted(luminance(look["color"]) for look in looks)
    assert min(np.diff(greys)) > 0.08


def test_known_arms_look_the_same_in_any_company():
    assert arm_style("CS", ["CS"]) == arm_style("CS", ["B", "CS", "other"])


def test_other_arms_get_the_next_looks_in_order():
    arms = [*KNOWN_ARMS, *(f"x{k}" for k in range(12))]
    looks = [tuple(str(arm_style(arm, arms)[name]) for name in LOOK) for arm in arms]
    assert len(set(looks)) == len(arms)
    assert arm_style("x0", ["x0"]) == arm_style("x0", arms)


def test_paper_style_ignores_and_restores_the_users_settings():
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        with paper_style():
            assert mpl.rcParams["font.size"] == 7.5
            assert mpl.rcParams["pdf.fonttype"] == 42
        assert mpl.rcParams["font.size"] == 30


def all_figures(folder, rows):
    frame = to_frame(rows)
    return {
        "fid_vs_steps": fid_vs_steps.figure(frame),
        "samples": samples.figure(frame, folder),
        "curriculum": curriculum.figure(frame),
        "denoising_profile": denoising_profile.figure(frame),
    }


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.usefixtures("paper")
def test_text_is_readable_inside_and_clear_of_the_data(tmp_path, make, seeds):
    rows = make.rows(seeds=seeds)
    make.write(tmp_path, rows)
    for name, figure in all_figures(tmp_path, rows).items():
        figure.canvas.draw()
        assert figure.get_figwidth() in (3.3, 6.8)
        texts = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text()]
        assert min(text.get_fontsize() for text in texts) >= 7, name
        edge = figure.bbox.padded(1)
        for ax in figure.axes:
            box = ax.get_tightbbox()
            assert edge.x0 <= box.x0 and box.x1 <= edge.x1, name
            assert edge.y0 <= box.y0 and box.y1 <= edge.y1, name
            legend = ax.get_legend()
            if legend is not None:
                assert not legend.get_window_extent().overlaps(ax.get_window_extent()), name
        (note,) = (t.get_window_extent() for t in texts if t.get_text() == figure.get_supxlabel())
        assert edge.x0 <= note.x0 and note.x1 <= edge.x1 and note.y0 >= edge.y0, name
        assert not any(note.overlaps(ax.get_tightbbox()) for ax in figure.axes), name
        boxes = [ax.get_window_extent() for ax in figure.axes]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), name
