"""Every figure of a study, from its rows and the sample strips they name."""

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.rows.frames import arm_order, distance_rows, load_rows
from benchmark.rows.metric_names import EPS_MSE
from benchmark.study.index import read_index
from benchmark.study.terms import USUAL, Terms, terms_of
from mindiffusion.errors import UserError
from mindiffusion.files import remove_stale
from plots.arm_groups import main_arms
from plots.figures import (
    capacity,
    channel_births,
    closest,
    cost_vs_quality,
    curriculum,
    denoising_profile,
    feature_emergence,
    fid_vs_steps,
    forest,
    group_norms,
    learnable,
    order_exposure,
    samples,
    stitched,
)
from plots.names import with_names_that_fit
from plots.style import GREY, files_of, paper_style, save

LOGGER = logging.getLogger(__name__)
MOST_ARMS = 48
"""In figures. So many are hard enough to look at; each may take as many panels."""
_OF_ALL_ARMS = ("forest", "order_exposure")
"""Figures of verdicts, which are about the study as a whole."""
_BY_TERMS = (*_OF_ALL_ARMS, "cost_vs_quality", "fid_vs_steps")
"""Figures of distances: the study's own terms choose the endpoint and say what it is worth."""
_HasRows = Callable[..., bool]
_Draw = Callable[..., Figure]
CAPTIONS: dict[str, str] = {
    "fid_vs_steps": (
        "Distance between generated and real images over training, and its change against plain "
        "training (B) of the same seed. Lower is better. Hollow points are of networks that have "
        "not yet been trained on all noise levels; no verdict uses them. The number after @ is the "
        "number of generated images. A change compares two distances from equally many images. "
        "Curves may be drawn from fewer images than the end: their distances are then higher, and "
        "their changes less exact. Verdicts use the end alone, which the lowest panel shows where "
        "it has a number of images of its own. A band of changes that lies below the grey zone of "
        "±3 % at the last step speaks for an arm. Changes of early milestones may lie outside the "
        "panel."
    ),
    "forest": (
        "Every comparison of the study: the change of the distance at the end with its 95 % "
        "interval. Each line is a claim: that its first arm is better (has the lower distance), or "
        "what its words say. A claim is supported if the interval lies wholly beyond the grey zone "
        "of ±3 % on the claimed side, and refuted if it lies wholly on the other side of 0; arms "
        "are equal if the effect is shown to be smaller than the zone; all else is undecided. "
        "Nothing is tested by a mask without an effect, or without a seed that has all arms. "
        "Nothing is answered where the networks have not learned enough for the question. Two "
        "equal arms (A/A) must not be distinguishable, and the weakened arms (B-80%, B-half) must "
        "be worse than B; otherwise no verdict of the study counts."
    ),
    "order_exposure": (
        "Is it the order of the noise levels, or only how often each is trained (the exposure)? "
        "Left: each arm's distance at the end, as a change against B. Along x is the exposure: "
        "that of plain training (B, C-flat) or that of the curriculum (density*, C). The colour "
        "is the order: high noise first (C-flat, C), or not (B, density*). At one exposure, the "
        "height of blue above or below black is the effect of the order; along one colour, the "
        "rise or fall is the effect of the exposure. density* ends with the curriculum's last "
        "stage, so its step from B holds exposure and last stage together. Right: these effects "
        "with their 95 % intervals. total = early order + (exposure + last stage); where static, "
        "which has the exposure and no order at all, was trained, the latter two stand apart. "
        "An arm that is not there was not trained."
    ),
    "denoising_profile": (
        "Error of the noise prediction on held-out images by noise level at each arm's last step, "
        "and its change against plain training (B). An arm below 0 denoises that level better. "
        "Gains at high noise together with losses at low noise are an exchange, not progress."
    ),
    "learnable": (
        "What there is to learn at each noise level: the grey area lies between always answering "
        "with the mean and the best linear denoiser. Only an error below the linear denoiser's "
        "needs a network. Where the two bounds nearly meet, a curriculum stage has little to teach."
    ),
    "stitched": (
        "Where quality comes from: each arm's network works on one side of the noise level τ, one "
        "common network on the other. Where a curve falls, the arm's own levels matter; where arms "
        "meet, they are equally good there."
    ),
    "feature_emergence": (
        "Which attributes can be read in the denoised images beyond what a linear denoiser shows, "
        "by noise level and by step. If plain training (B) also learns coarse attributes before "
        "fine ones, this order is not due to a curriculum; only the difference to B is."
    ),
    "samples": (
        "Samples from the same noise in each column, at milestones of training. A dashed frame "
        "marks networks that have not yet been trained on all noise levels."
    ),
    "curriculum": (
        "What is trained when: how often each noise level is drawn, relative to plain training, "
        "over the steps; bars show the average of the run by fifths. Arms with the same bars "
        "differ in order alone. Arms that share all of it share a panel."
    ),
    "capacity": (
        "What the networks may use when: channels that are switched on, and the weight of the "
        "group penalty. Arms that use neither are not shown."
    ),
    "channel_births": (
        "When channels are switched on, how repeatable their choice is (1: both halves of the "
        "probe rank the channels alike, 0: by chance), what lifting the mask does to the error, "
        "and whether masked channels' weights stay where they were (0) or move as all others (1). "
        "If the effect of the mask stays within the grey zone, the masked arms have not tested "
        "masks."
    ),
    "group_norms": (
        "Norms of the filters of penalised networks over training, and the share that fell below "
        "1 % of its first norm. If no share vanishes, the penalty has not made the network sparse."
    ),
    "cost_vs_quality": (
        "Distance against the time of training: along the runs, and at their end relative to "
        "plain training (B). Below and left of B is better and cheaper. Shorter and narrower runs "
        "show what the same saving costs without any curriculum."
    ),
    "closest": (
        "The generated images that are nearest to a training image, each above it. Copies would "
        "show that the network remembers its data."
    ),
}
"""What each figure shows, and what would mean what."""

# A figure with what says whether a study has the rows for it.
_FIGURES: dict[str, tuple[_HasRows, _Draw]] = {
    "fid_vs_steps": (
        lambda frame, terms=USUAL: not distance_rows(frame).empty,
        fid_vs_steps.figure,
    ),
    "forest": (forest.has_rows, forest.figure),
    "order_exposure": (order_exposure.has_rows, order_exposure.figure),
    "curriculum": (curriculum.has_rows, curriculum.figure),
    "capacity": (lambda frame: bool(capacity.capacity_stages(frame)), capacity.figure),
    "channel_births": (channel_births.has_rows, channel_births.figure),
    "group_norms": (lambda frame: not group_norms.norm_rows(frame).empty, group_norms.figure),
    "cost_vs_quality": (
        lambda frame, terms=USUAL: not cost_vs_quality.cost_rows(frame).empty,
        cost_vs_quality.figure,
    ),
    "denoising_profile": (
        lambda frame: bool((frame["metric"] == EPS_MSE).any()),
        denoising_profile.figure,
    ),
    "feature_emergence": (
        lambda frame: not feature_emergence.gain_rows(frame).empty,
        feature_emergence.figure,
    ),
    "learnable": (lambda frame: not learnable.learnable_rows(frame).empty, learnable.figure),
    "stitched": (lambda frame: not stitched.stitched_rows(frame).empty, stitched.figure),
}
# The same with what names the pictures; last, for they alone read files that may be broken.
_PICTURES: dict[
    str, tuple[Callable[[pd.DataFrame], pd.DataFrame], Callable[[pd.DataFrame, Path], Figure]]
] = {
    "samples": (samples.page_cells, samples.figure),
    "closest": (closest.closest_cells, closest.figure),
}


def _figure(name: str, terms: Terms) -> tuple[_HasRows, _Draw]:
    """A figure by name, one about verdicts or distances by the study's own terms."""
    has_rows, draw = _FIGURES[name]
    if name not in _BY_TERMS:
        return has_rows, draw
    return functools.partial(has_rows, terms=terms), functools.partial(draw, terms=terms)


def drawable(frame: pd.DataFrame, terms: Terms = USUAL) -> dict[str, _Draw]:
    """The figures of rows alone that these rows suffice for, by name."""
    figures = {name: _figure(name, terms) for name in _FIGURES}
    return {name: draw for name, (has_rows, draw) in figures.items() if has_rows(frame)}


def some_arms(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of as many arms as figures have room for, and what to say of it."""
    arms = arm_order(frame)
    shown = main_arms(arms, MOST_ARMS)
    if len(shown) == len(arms):
        return frame, ""
    note = f"{len(shown)} of {len(arms)} arms shown, all are in the tables"
    return frame[frame["arm"].isin(shown)].reset_index(drop=True), note


def drawn(frame: pd.DataFrame, terms: Terms = USUAL) -> Iterator[tuple[str, Figure]]:
    """Every figure of rows alone that a study's frame suffices for, with its name.

    Args:
        frame: the frame of a study's rows.
        terms: what the study's file fixed beforehand.
    """
    whole = with_names_that_fit(frame)
    some, note = some_arms(whole)
    for name in _FIGURES:
        own = whole if name in _OF_ALL_ARMS else some
        has_rows, draw = _figure(name, terms)
        if has_rows(own):
            figure = draw(own)
            if own is not whole:
                figure.text(1, 0, note, ha="right", va="bottom", fontsize=6, color=GREY)
            yield name, figure


def write_figures(study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/figures/*.{png,pdf}``; one without rows is left out, or removed.

    Where pictures that rows name are missing or of no use, the figures of samples and of closest
    pairs stay as they are, with a warning: pictures are larger than the rows, and not every copy of
    a study has them.

    Raises:
        UserError: the study has no rows, or contradicting ones.
    """
    study = load_rows(study_dir)
    frame, _ = some_arms(with_names_that_fit(study))
    folder, written, kept = study_dir / "figures", list[Path](), list[Path]()
    with paper_style():
        for name, figure in drawn(study, terms_of(read_index(study_dir))):
            written += save(figure, folder / name)
        for name, (cells, draw_pictures) in _PICTURES.items():
            named = cells(frame)
            if named.empty:
                continue
            kept += files_of(folder / name)
            if not _has_pictures(name, named, study_dir):
                continue
            try:
                picture = draw_pictures(frame, study_dir)
            except UserError as error:
                LOGGER.warning("figure of %s not drawn: %s", name, error)
            else:
                written += save(picture, folder / name)
    owned = (path for name in CAPTIONS for path in files_of(folder / name))
    remove_stale(owned, [*written, *kept])
    return written


def _has_pictures(name: str, cells: pd.DataFrame, study_dir: Path) -> bool:
    """Whether the pictures that a figure's cells name are all there; warns if some are not."""
    missing = samples.missing_strips(cells, study_dir)
    if missing:
        LOGGER.warning(
            "figure of %s not drawn: %d of its strips missing or unreadable, the first is %s; "
            "restore them or sample again.",
            name,
            len(missing),
            missing[0],
        )
    return not missing
