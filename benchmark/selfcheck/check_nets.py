"""``python -m benchmark selfcheck``: does the instrument measure what it should, on this machine?

Every feature net at hand is held against known answers: a set has no distance to itself, two
halves of the real images have next to none, and images that are blurred, noisy, compressed or of
fewer kinds come out the farther, the more was done to them. A net that gets this wrong on a data
set cannot tell a better model from a worse one there.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.nets import FEATURE_NETS, find_weights, load_feature_net
from benchmark.evaluation.metrics.frechet import covariance_root, frechet_distance, moments
from benchmark.evaluation.metrics.kid import kid_full
from benchmark.evaluation.metrics.neighbours import MeanEstimate, neighbour_scores
from benchmark.rows.metric_names import is_smoke, metric_label
from benchmark.rows.provenance import git_revision, now, versions
from benchmark.rows.text_table import text_table
from benchmark.selfcheck.contracts import contract_rows, contract_table
from benchmark.selfcheck.known_cases import HALVES, MODE, SAME, Case, Images, known_cases
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.data.store import prepared_data
from mindiffusion.errors import UserError
from mindiffusion.files import write_json
from mindiffusion.places import cache_root
from mindiffusion.writable import try_file

NUM_IMAGES = 1024
_SETS_PREPARED = 8
"""Sets of images used at most; beyond the two halves they give the images of a dropped mode."""
_MIN_IMAGES = 16
_ROUNDING = 1e-6
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Line:
    """What one net says of one set of n images against the n reference images."""

    case: str
    level: str
    frechet: float
    kernel: float
    kernel_error: float
    precision: MeanEstimate
    recall: MeanEstimate
    coverage: MeanEstimate


def selfcheck(
    nets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    n: int = NUM_IMAGES,
    json_path: Path | None = None,
) -> int:
    """Print contracts and known answers; 0 if all are met and in order, else 1.

    Args:
        nets: feature nets; all whose weights are at hand if empty.
        overrides: ``--set`` words, those of ``data`` matter: a data set of 4 n training images or
            more; 8 n avatars of 32 pixels if empty.
        n: images a set, ≥ 16.
        json_path: also keep the numbers there.

    Raises:
        UserError: n does not suit the data, or a net that was named can't be loaded.
    """
    if n < _MIN_IMAGES:
        raise UserError(f"selfcheck of {n} images asked for; give {_MIN_IMAGES} or more.")
    if json_path is not None:
        try_file(json_path)
    contracts = contract_rows()
    print(contract_table(contracts), end="\n\n", flush=True)
    base = {"data": {"dataset": "avatars", "num_train": _SETS_PREPARED * n, "num_held_out": 1}}
    content = apply_overrides(merge(load_preset("celeba_b_32"), base), overrides)
    config = build_config(content, "preset celeba_b_32")
    prepared = prepared_data(config.data, show_progress=True)
    cases = known_cases(prepared, n)
    extractors, absent = _at_hand(nets)
    results, faults = {}, [f"contract: {row.metric}" for row in contracts if row.met is False]
    for name, extractor in extractors.items():
        results[name] = check_net(extractor, np.array(prepared.train[:n]), cases)
        faults += (found := [f"{name}: {fault}" for fault in faults_of(results[name])])
        print(net_text(extractor, results[name], n), end="\n\n", flush=True)
        print("\n".join(found) if found else "in order", end="\n\n", flush=True)
    if json_path is not None:
        content = {
            "n": n,
            "manifest": prepared.manifest_id,
            "contracts": [asdict(row) for row in contracts],
            "nets": {name: [asdict(line) for line in lines] for name, lines in results.items()},
            "absent": absent,
            "faults": faults,
            "made": {"time": now(), "git": git_revision(), **versions()},
        }
        write_json(json_path, content)
    for name, reason in absent.items():
        print(f"{name}: absent ({reason.rstrip('.')})")
    print(f"not in order: {len(faults)}" if faults else "all in order")
    return 1 if faults else 0


def _at_hand(nets: Sequence[str]) -> tuple[dict[str, FeatureExtractor], dict[str, str]]:
    """The nets asked for, or all there are; of the others why they are absent."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found, absent = {}, {}
    for name in nets or FEATURE_NETS:
        try:
            found[name] = load_feature_net(name, find_weights(name, cache_root()), device)
        except UserError as error:
            if nets:
                raise
            absent[name] = str(error)
    return found, absent


def check_net(extractor: FeatureExtractor, reference: Images, cases: Sequence[Case]) -> list[Line]:
    """Score every set against the reference.

    Args:
        extractor: the loaded net.
        reference: (n, H, W, 3) uint8.
        cases: the sets.
    """
    features = extractor(reference)
    gaussian = moments(features)
    root = covariance_root(gaussian)
    lines = []
    sets = [(case.name, level, make) for case in cases for level, make in case.levels.items()]
    for name, level, make in tqdm(sets, extractor.net.label, unit="set", disable=None):
        made = extractor(make())
        kernel = kid_full(made, features)
        scores = neighbour_scores(made, features)
        lines.append(
            Line(
                case=name,
                level=level,
                frechet=frechet_distance(moments(made), gaussian, root),
                kernel=kernel.value,
                kernel_error=kernel.standard_error,
                precision=scores.precision,
                recall=scores.recall,
                coverage=scores.coverage,
            )
        )
    return lines


def faults_of(lines: Sequence[Line]) -> list[str]:
    """What is not as it must be; empty where everything is in order.

    A set with itself: no Fréchet distance, and a kernel distance of at most 0 (its estimate is
    unbiased for two independent sets only). Halves: no kernel distance beyond its error.
    Distortions: both distances rise with every level. A dropped mode: recall and coverage fall,
    precision does not.
    """
    by_case: dict[str, list[Line]] = {}
    for line in lines:
        by_case.setdefault(line.case, []).append(line)
    (same,), (half,) = by_case.pop(SAME), by_case.pop(HALVES)
    faults = []
    if same.frechet > _ROUNDING * half.frechet:
        faults.append(f"a set has Fréchet distance {same.frechet:.3g} to itself")
    if same.kernel > 0:
        faults.append(f"a set has kernel distance {same.kernel:.3g} to itself")
    if abs(half.kernel) > _STANDARD_ERRORS * half.kernel_error:
        faults.append(
            f"two halves have kernel distance {half.kernel:.3g} ± {half.kernel_error:.2g}, not 0"
        )
    for case, levels in by_case.items():
        faults += _not_rising(case, [half, *levels])
        if case.startswith(MODE):
            faults += _mode_faults(case, half, levels[-1])
    return faults


def _not_rising(case: str, lines: Sequence[Line]) -> Iterator[str]:
    for before, after in itertools.pairwise(lines):
        start = before.level or before.case
        for name in ("frechet", "kernel"):
            a, b = getattr(before, name), getattr(after, name)
            if not b > a:
                yield f"{case}: {name} distance {a:.4g} at {start}, {b:.4g} at {after.level}"


def _mode_faults(case: str, half: Line, last: Line) -> Iterator[str]:
    for name in ("recall", "coverage"):
        a, b = getattr(half, name).value, getattr(last, name).value
        if not b < a:
            yield f"{case}: {name} {a:.3f} before, {b:.3f} after"
    a, b = half.precision, last.precision
    if b.value < a.value - _STANDARD_ERRORS * math.hypot(a.standard_error, b.standard_error):
        yield f"{case}: precision falls from {a.value:.3f} to {b.value:.3f}"


def net_text(extractor: FeatureExtractor, lines: Sequence[Line], n: int) -> str:
    """A net's table."""
    net = extractor.net
    columns = {
        net.label: "set",
        metric_label(net.frechet_name, n): "frechet",
        metric_label(net.kernel_name, n): "kernel",
        "± se": "error",
        "precision": "precision",
        "recall": "recall",
        "coverage": "coverage",
    }
    rows = [
        {
            "set": f"{line.case} {line.level}".strip(),
            "frechet": f"{line.frechet:.5g}",
            "kernel": f"{line.kernel:.4g}",
            "error": f"{line.kernel_error:.2g}",
            **{k: f"{getattr(line, k).value:.3f}" for k in ("precision", "recall", "coverage")},
        }
        for line in lines
    ]
    smoke = [f"smoke: {n} images a set, too few to compare with other work"] if is_smoke(n) else []
    return "\n".join([*text_table(rows, columns), *smoke])
