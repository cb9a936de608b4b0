"""The metrics' contracts, measured where they are asked for: each number against accepted tools.

A contract is data: what is compared with what, how far they may differ, and a function that
measures the difference on small synthetic input with fixed seeds. A new row is one entry of
``CONTRACTS``. Tools of the ``dev`` extra that are absent leave their row "not run".
"""

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.evaluation.metrics.extrapolation import frechet_estimate
from benchmark.evaluation.metrics.frechet import (
    FloatArray,
    Moments,
    covariance_root,
    frechet_distance,
    merge_moments,
    moments,
)
from benchmark.evaluation.metrics.inception_score import inception_score
from benchmark.evaluation.metrics.kid import draw_subsets, kid
from benchmark.evaluation.metrics.neighbours import NeighbourScores, neighbour_scores


@dataclass(frozen=True)
class Contract:
    """What one metric promises.

    Attributes:
        metric: whose number it is.
        against: what it is held against, and on which input.
        allowed: largest difference that keeps the promise.
        unit: of the difference: "relative", "absolute" or "grey levels".
        measure: the difference, measured now.
        needs: packages that the measurement takes.
    """

    metric: str
    against: str
    allowed: float
    unit: str
    measure: Callable[[], float]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContractRow:
    """A contract with what was measured; ``difference`` and ``met`` are None where not run."""

    metric: str
    against: str
    difference: float | None
    allowed: float
    unit: str
    met: bool | None
    note: str = ""


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / abs(theirs)


def _spectral_pair(n_a: int, n_b: int, dim: int = 128) -> tuple[Moments, Moments]:
    """Moments of two sets with variances 1 to 1e-8, one of them shifted and 10 % larger."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    sd = np.logspace(0, -4, dim)
    a = 1.1 * (rng.normal(size=(n_a, dim)) * sd) @ basis + 0.01
    return moments(a), moments((rng.normal(size=(n_b, dim)) * sd) @ basis)


def _frechet_and_sqrtm(n_a: int, n_b: int) -> float:
    from scipy.linalg import sqrtm

    a, b = _spectral_pair(n_a, n_b)
    shift = a.mean - b.mean
    spread = np.trace(a.covariance) + np.trace(b.covariance)
    trace = float(np.trace(sqrtm(a.covariance @ b.covariance)).real)
    return _relative(frechet_distance(a, b), float(shift @ shift + spread - 2 * trace))


def _frechet_and_closed_form() -> float:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    first, second = np.logspace(0, -8, 128), np.logspace(0.1, -7, 128)
    shift = 0.01 * rng.normal(size=128)
    a = Moments(shift, (basis.T * first) @ basis, 1000)
    b = Moments(np.zeros(128), (basis.T * second) @ basis, 1000)
    expected = shift @ shift + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    return _relative(frechet_distance(a, b), float(expected))


def _frechet_at_low_rank() -> float:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(256, 12)))[0].T
    a, b = rng.normal(size=(40, 12)), 1.5 * rng.normal(size=(30, 12)) + 0.3
    inside = frechet_distance(moments(a), moments(b))
    return _relative(frechet_distance(moments(a @ basis), moments(b @ basis)), inside)


def _frechet_of_equal_sets() -> float:
    features = np.random.default_rng(0).normal(size=(64, 128)) * np.logspace(0, -4, 128)
    a, b = moments(features), moments(features[::-1])
    return frechet_distance(a, b) / float(np.trace(a.covariance))


def _merging() -> float:
    features = np.random.default_rng(0).normal(size=(501, 32)) + 100
    merged = merge_moments([moments(part) for part in np.array_split(features, 7)])
    covariance = np.cov(features, rowvar=False)
    return float(np.abs(merged.covariance - covariance).max() / np.abs(covariance).max())


def _infinity() -> float:
    """How far the mean limit of 50 draws lies from the true distance, over their mean error."""
    scale, variances = 1.2, np.arange(1, 17) ** -1.5
    reference = Moments(np.zeros(16), np.diag(variances), 10**9)
    root = covariance_root(reference)
    truth = (scale - 1) ** 2 * variances.sum()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        features = scale * rng.normal(size=(400, 16)) * np.sqrt(variances)
        groups = [moments(part) for part in np.array_split(features, 10)]
        found.append(frechet_estimate(groups, reference, root))
    limit = np.mean([estimate.infinity for estimate in found])
    return abs(float(limit - truth)) / float(np.mean([e.infinity_error for e in found]))


def _kid_and_torch_fidelity() -> float:
    from torch_fidelity.metric_kid import kernel_mmd

    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3}
    kernel |= {"kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    x, y = _two_sets()
    subsets = draw_subsets(len(x), len(y), 10, 100, seed=0)
    theirs = np.mean([kernel_mmd(x[i], y[j], **kernel) for i, j in subsets])
    return _relative(kid(x, y, num_subsets=10, subset_size=100, seed=0).mean, float(theirs))


def _two_sets() -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 16)) * 1.1 + 0.2, rng.normal(size=(250, 16))


def _precision_and_recall_and_torch_fidelity() -> float:
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = _two_sets()
    theirs = calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y))
    ours = neighbour_scores(x, y)
    pairs = zip((ours.precision.value, ours.recall.value), theirs, strict=True)
    return max(abs(mine - other) for mine, other in pairs)


def _neighbours_and_brute_force() -> float:
    x, y = _two_sets()

    def distances(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))

    inside = distances(y, x) <= np.sort(distances(y, y), axis=1)[:, 5, None]
    ours: NeighbourScores = neighbour_scores(x, y)
    density = abs(ours.density.value - inside.sum(axis=0).mean() / 5)
    return float(max(density, abs(ours.coverage.value - inside.any(axis=1).mean())))


def _inception_score_and_torch_fidelity() -> float:
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * np.random.default_rng(0).normal(size=(1003, 50))
    theirs = isc_features_to_metric(torch.from_numpy(logits))
    return _relative(inception_score(logits).mean, theirs["inception_score_mean"])


def _images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)


def _resize_and_pil() -> float:
    """Largest difference over enlarging, shrinking and a picture that is not square."""
    import torch
    from PIL import Image

    from benchmark.evaluation.features.resize import resize

    def by_pil(plane: np.ndarray, side: int) -> np.ndarray:
        picture = Image.fromarray(plane.astype(np.float32))
        return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 255)

    largest = 0.0
    for height, width, side in ((32, 32, 299), (64, 48, 224), (300, 400, 64)):
        images = _images(height, width)
        ours = resize(torch.from_numpy(images), side).numpy()
        planes = images.transpose(0, 3, 1, 2)
        theirs = np.stack([[by_pil(plane, side) for plane in image] for image in planes])
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest


def _inception_and_clean_fid() -> float:
    """The whole way of an image on an Inception of random weights; ours and clean-fid's own."""
    import torch
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    from benchmark.speed.rivals.random_inception import (
        random_inception_extractor,
        write_random_inception,
    )

    images = _images(32, 32)
    with tempfile.TemporaryDirectory() as folder:
        # The name under which clean-fid looks for its weights.
        weights = Path(folder) / "inception-2015-12-05.pt"
        sha256 = write_random_inception(weights)
        ours = random_inception_extractor(weights, sha256)(images)
        with warnings.catch_warnings():
            # torch has deprecated TorchScript, in which clean-fid's weights are published.
            warnings.simplefilter("ignore")
            net = InceptionV3W(folder, download=False)
    resized = np.stack([build_resizer("clean")(image) for image in images])
    with torch.inference_mode():
        theirs = net(torch.from_numpy(resized.transpose(0, 3, 1, 2))).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        "FD", "scipy sqrtm, n > D, condition 1e8", 1e-6, "relative",
        lambda: _frechet_and_sqrtm(2000, 1500),
    ),
    Contract(
        "FD", "scipy sqrtm, n < D on one side", 1e-6, "relative",
        lambda: _frechet_and_sqrtm(100, 1500),
    ),
    Contract(
        "FD", "closed form, commuting Gaussians, condition 1e8", 1e-6, "relative",
        _frechet_and_closed_form,
    ),
    Contract(
        "FD", "the same sets in their subspace, n < D on both sides", 1e-6, "relative",
        _frechet_at_low_rank,
    ),
    Contract(
        "FD", "0 for identical sets, over the trace", 1e-9, "absolute", _frechet_of_equal_sets,
    ),
    Contract("moments", "numpy cov of all features, merged parts", 1e-12, "relative", _merging),
    Contract(
        "FD∞", "true distance of Gaussians, mean of 50 draws, in mean errors", 0.5, "absolute",
        _infinity,
    ),
    Contract(
        "KID", "torch-fidelity, equal subsets", 1e-9, "relative", _kid_and_torch_fidelity,
        ("torch_fidelity",),
    ),
    Contract(
        "precision, recall", "torch-fidelity, equal features", 1e-6, "absolute",
        _precision_and_recall_and_torch_fidelity, ("torch_fidelity",),
    ),
    Contract(
        "density, coverage", "brute force of the definitions", 1e-12, "absolute",
        _neighbours_and_brute_force,
    ),
    Contract(
        "Inception score", "torch-fidelity, equal logits and splits", 1e-9, "relative",
        _inception_score_and_torch_fidelity, ("torch_fidelity",),
    ),
    Contract(
        "resize", "PIL float bicubic, larger, smaller, not square", 1e-3, "grey levels",
        _resize_and_pil, ("torch",),
    ),
    Contract(
        "Inception features", "clean-fid mode clean, random weights", 1e-5, "relative",
        _inception_and_clean_fid, ("torch", "torchvision", "cleanfid"),
    ),
)  # fmt: skip


def contract_rows(contracts: Sequence[Contract] = CONTRACTS) -> list[ContractRow]:
    """Measure every contract; 20 s or less in all on one core."""
    return [_measured(contract) for contract in contracts]


def _measured(contract: Contract) -> ContractRow:
    difference, met, note = None, None, ""
    missing = [name for name in contract.needs if importlib.util.find_spec(name) is None]
    if missing:
        note = f"not run: {', '.join(missing)} missing"
    else:
        try:
            difference = contract.measure()
            met = difference <= contract.allowed
        # A tool that breaks is a finding, and must not hide the other rows.
        except Exception as error:
            lines = str(error).splitlines() or [""]
            met, note = False, f"failed: {type(error).__name__}: {lines[0]}"
    return ContractRow(
        contract.metric, contract.against, difference, contract.allowed, contract.unit, met, note
    )


def contract_table(rows: Sequence[ContractRow]) -> str:
    """The rows as a Markdown table with aligned columns, for the screen and for the docs."""
    header = ("metric", "held against", "difference", "allowed", "unit", "met")
    cells: list[tuple[str, ...]] = [header]
    cells += [
        (
            row.metric,
            row.against,
            "" if row.difference is None else f"{row.difference:.1e}",
            f"{row.allowed:.0e}",
            row.unit,
            row.note or ("yes" if row.met else "NO"),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    cells.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| "
        + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    )
