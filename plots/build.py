"""Every figure of a study, from its rows and the sample strips they name."""

from pathlib import Path

from benchmark.results import EPS_MSE, STAGE_METRICS, distance_rows, load_study
from plots import curriculum, denoising_profile, fid_vs_steps, samples
from plots.style import paper_style, save


def write_figures(study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/figures/*.{png,pdf}``; a figure without rows is left out.

    Raises:
        UserError: the study has no rows, contradicting ones, or a strip is missing or broken.
    """
    frame = load_study(study_dir)
    metrics = frame["metric"]
    jobs = (
        ("fid_vs_steps", not distance_rows(frame).empty, lambda: fid_vs_steps.figure(frame)),
        (
            "samples",
            bool(frame["samples"].notna().any()),
            lambda: samples.figure(frame, study_dir),
        ),
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
    )
    written: list[Path] = []
    with paper_style():
        for name, has_rows, draw in jobs:
            if has_rows:
                written += save(draw(), study_dir / "figures" / name)
    return written
