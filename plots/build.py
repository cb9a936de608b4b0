"""All figures of a study, drawn from its rows and the sample strips they name."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import arm_order
from benchmark.study.arm_catalogue import SHORT, checks_that_are, control_name
from mindiffusion.errors import UserError
from mindiffusion.files import remove_stale
from plots.arm_groups import main_arms
from plots.entries import ENTRIES, FigureEntry, PictureEntry
from plots.figures import (
    samples,
)
from plots.names import with_names_that_fit
from plots.style import GREY, files_of, paper_style, save

LOGGER = logging.getLogger(__name__)
MOST_ARMS = 48
"""In figures. So many are hard enough to look at; each may take as many panels."""


class Legend(NamedTuple):
    """What a figure is called, what it shows, and what would mean what."""

    title: str
    caption: str


_CURVES_OF = {
    "distance": "Distance between generated and real images",
    "score": "The primary metric",
    "error": "The primary metric, a held-out error,",
    "share": "The primary metric, a share,",
}


_COUNTS = (
    "The number after @ is the number of generated images. A change compares two {curve}s from "
    "equally many images. "
)
_ALONE = ", which the lowest panel shows where it has a number of images of its own"
_WAYS = {
    True: (
        "the feature net, the number of images, the average of the weights, the sampler or the "
        "step, or take a held-out error in place of a distance"
    ),
    False: "the number of images, the average of the weights, the sampler or the step",
}
"""What is comparable with the primary endpoint: on a scale of ratios, and on a plain one."""


def _fewer_images(study: StudyAnalysis) -> str:
    """What few images do to curves; nothing to what is made of no images."""
    if study.noun_of_curves in ("error", "share"):
        return ""
    is_frechet = study.curves["metric"].str.startswith(("FID", "FD")).all()
    higher = f"their {study.noun_of_curves}s are then higher, and " * bool(is_frechet)
    return (
        f"Curves may be drawn from fewer images than the end: {higher}their changes are then less "
        "exact. "
    )


def _words(study: StudyAnalysis) -> dict[str, str]:
    """What legends call a study's primary metric, what its curves are of, and which is better."""
    scale, curve = study.scale, study.noun_of_curves
    return {
        "smallest": scale.smallest,
        "noun": study.noun,
        "curve": curve,
        "Curve": curve.capitalize(),
        "Curve_of": _CURVES_OF[curve],
        "Fewer": _fewer_images(study),
        "Counts": _COUNTS.format(curve=curve) * study.has_images,
        "alone": _ALONE * study.has_images,
        "units": "images" if study.has_images else "samples",
        "ways": _WAYS[scale.is_share],
        "better": scale.better,
        "Better": scale.better.capitalize(),
        "below": scale.better_side,
        "Below": scale.better_side.capitalize(),
        "equal": ", ".join(checks_that_are("equal")),
        "weakened": ", ".join(checks_that_are("worse")),
        "density": control_name("density", SHORT),
    }


def legends(study: StudyAnalysis) -> dict[str, Legend]:
    """Figure's name → its legend in a study, in the order of the report."""
    own = _words(study)
    return {
        entry.name: Legend(entry.title.format(**own), entry.caption.format(**own))
        for entry in ENTRIES
    }


def drawable(study: StudyAnalysis) -> dict[str, Callable[[StudyAnalysis], Figure]]:
    """The figures of rows alone that a study has the rows for, by name."""
    return {entry.name: entry.draw for entry in _of_rows_alone() if entry.has_rows(study)}


def _of_rows_alone() -> list[FigureEntry]:
    return [entry for entry in ENTRIES if isinstance(entry, FigureEntry)]


def some_arms(study: StudyAnalysis) -> tuple[StudyAnalysis, str]:
    """The study with the rows of as many arms as figures have room for, and what to say of it."""
    arms = arm_order(study.frame)
    shown = main_arms(arms, MOST_ARMS)
    if len(shown) == len(arms):
        return study, ""
    note = f"{len(shown)} of {len(arms)} arms shown, all are in the tables"
    return study.with_rows_of(shown), note


def drawn(study: StudyAnalysis) -> Iterator[tuple[str, Figure]]:
    """Every figure of rows alone that a study has the rows for, with its name."""
    whole = with_names_that_fit(study)
    some, note = some_arms(whole)
    for entry in _of_rows_alone():
        own = whole if entry.of_all_arms else some
        if entry.has_rows(own):
            figure = entry.draw(own)
            if own is not whole:
                figure.text(1, 0, note, ha="right", va="bottom", fontsize=6, color=GREY)
            yield entry.name, figure


def write_figures(study: StudyAnalysis, study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/figures/*.{png,pdf}``; one without rows is left out, or removed.

    Where pictures that rows name are missing or of no use, the figures of samples and of closest
    pairs stay as they are, with a warning: pictures are larger than the rows, and not every copy of
    a study has them.
    """
    frame = some_arms(with_names_that_fit(study))[0].frame
    folder, written, kept = study_dir / "figures", list[Path](), list[Path]()
    with paper_style():
        for name, figure in drawn(study):
            written += save(figure, folder / name)
        # Last, for they alone read files that may be broken.
        for entry in ENTRIES:
            if not isinstance(entry, PictureEntry) or (named := entry.cells(frame)).empty:
                continue
            kept += files_of(folder / entry.name)
            if not _has_pictures(entry, named, study_dir):
                continue
            try:
                picture = entry.draw(frame, study_dir)
            except UserError as error:
                LOGGER.warning("figure of %s not drawn: %s", entry.name, error)
            else:
                written += save(picture, folder / entry.name)
    owned = (path for entry in ENTRIES for path in files_of(folder / entry.name))
    remove_stale(owned, [*written, *kept])
    return written


def _has_pictures(entry: PictureEntry, cells: pd.DataFrame, study_dir: Path) -> bool:
    """Whether the pictures that a figure's cells name are all there; warns if some are not."""
    missing = samples.missing_strips(cells, study_dir)
    if missing:
        LOGGER.warning(
            "figure of %s not drawn: %d of its strips missing or unreadable, the first is %s; "
            "restore them or sample again.",
            entry.name,
            len(missing),
            missing[0],
        )
    return not missing
