"""Every figure of a study, from its rows and the sample strips they name."""

import logging
from pathlib import Path

import pandas as pd

from benchmark.results import EPS_MSE, STAGE_METRICS, distance_rows, load_study
from plots import (
    closest,
    curriculum,
    denoising_profile,
    feature_emergence,
    fid_vs_steps,
    learnable,
    samples,
    stitched,
)
from plots.style import paper_style, save

LOGGER = logging.getLogger(__name__)


def write_figures(study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/figures/*.{png,pdf}``; a figure without rows is left out.

    So are those of samples and of closest pairs, with a warning, where pictures are missing: they
    are larger than the rows, and not every copy of a study has them.

    Raises:
        UserError: the study has no rows, contradicting ones, or a strip is broken.
    """
    frame = load_study(study_dir)
    metrics = frame["metric"]
    jobs = (
        ("fid_vs_steps", not distance_rows(frame).empty, lambda: fid_vs_steps.figure(frame)),
        (
            "curriculum",
            bool(metrics.isin(STAGE_METRICS).any()),
            lambda: curriculum.figure(frame),
        ),
        (
            "denoising_profile",
            bool((metrics == EPS_MSE).any()),
            lambda: denoising_profile.figure(frame),
        ),
        (
            "feature_emergence",
            bool(metrics.str.startswith(feature_emergence.GAIN).any()),
            lambda: feature_emergence.figure(frame),
        ),
        ("learnable", not learnable.learnable_rows(frame).empty, lambda: learnable.figure(frame)),
        ("stitched", not stitched.stitched_rows(frame).empty, lambda: stitched.figure(frame)),
        # Last, for they alone read files that may be broken.
        *(
            (name, _has_pictures(name, cells(frame), study_dir), draw)
            for name, cells, draw in (
                ("samples", samples.sample_cells, lambda: samples.figure(frame, study_dir)),
                ("closest", closest.closest_cells, lambda: closest.figure(frame, study_dir)),
            )
        ),
    )
    written: list[Path] = []
    with paper_style():
        for name, has_rows, draw in jobs:
            if has_rows:
                written += save(draw(), study_dir / "figures" / name)
    return written


def _has_pictures(name: str, cells: pd.DataFrame, study_dir: Path) -> bool:
    """Whether a figure's cells name pictures and all are there; warns if some are not."""
    missing = samples.missing_strips(cells, study_dir)
    if missing:
        LOGGER.warning(
            "figure of %s left out: %d of its strips missing, the first is %s; restore "
            "them or sample again.",
            name,
            len(missing),
            missing[0],
        )
    return not cells.empty and not missing
