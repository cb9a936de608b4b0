"""Rows that need no trained net: limits of the data, closed forms of its spectrum, neighbours.

``level`` of a row by interval is the interval's upper edge.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.difficulty.nearest import knn_relative_entropy, standardised_scores
from benchmark.difficulty.scoring import RowOf, Scoring, part_of_seed
from benchmark.difficulty.setting import Net, Setting
from benchmark.difficulty.spectrum import Spectrum, entropy_rate, relative_entropy, spectrum_of
from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.nets import load_feature_net
from benchmark.evaluation.metrics.linear_oracle import LinearOracle, linear_oracle
from benchmark.evaluation.metrics.neighbours import MeanEstimate
from benchmark.rows.file import ROWS_FILE
from benchmark.rows.keeper import Keeper
from benchmark.rows.known_rows import known_rows
from benchmark.rows.metric_names import EPS_MSE_LINEAR, EPS_MSE_MEAN
from benchmark.rows.row import Row
from mindiffusion.build import build_codec, build_process
from mindiffusion.data.prepared import PreparedData
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.places import cache_root
from mindiffusion.process import Level, add_noise

DATA = "data"
"""Arm of the rows that need no net."""
KL_STEP, KL_LOG_SNR = "relative-entropy/step", "relative-entropy/log-SNR"
KL_OF_RATIO = "relative-entropy/log-SNR/unscaled"
KL_NEIGHBOURS = "relative-entropy/neighbours"
ENTROPY_RATE = "entropy-rate/gaussian"
FEATURE_NET = "effnet-lite0-64"
COMPONENTS = 8
"""Principal components of the features: neighbours in more dimensions tell less."""
POINTS = 128
"""Pictures on either side of an estimate."""
_FEWEST_POINTS = 16
_ALL_INSIDE = 2.5
"""Standard deviations of the noise that a picture of noisy pixels has room for."""
_P, _Q, _ORDER = 1, 2, 3
"""Variants of the draws: noise of the two sides, which must be independent, and which images."""


def add_data_rows(setting: Setting, data: PreparedData) -> None:
    """Append the rows that are not there yet.

    Raises:
        UserError: too few images.
    """
    _check_points(data)
    path = Path(setting.folder) / ROWS_FILE
    oracle = linear_oracle(data.train, cache_root(), f"{data.manifest_id}-train")
    for seed in setting.seeds:
        scoring = Scoring(setting, Net(seed, None), data)
        untrained = Keeper(path, scoring.config.arm, seed)
        if not scoring.are_complete(_known(path, scoring.config.arm, seed), 0):
            untrained.add(scoring.untrained_rows())
        if not _has(_known(path, DATA, seed), KL_NEIGHBOURS):
            rows = [*_limit_rows(scoring, oracle), *_neighbour_rows(scoring)]
            Keeper(path, DATA, seed).add(rows)
    scoring = Scoring(setting, Net(0, None), data)
    if not _has(_known(path, DATA, 0), ENTROPY_RATE):
        Keeper(path, DATA, 0).add(list(_spectrum_rows(scoring, oracle)))


def _known(path: Path, arm: str, seed: int) -> list[Row]:
    return list(known_rows(path).rows_of(arm, seed).values())


def _has(rows: list[Row], metric: str) -> bool:
    # Those of all intervals are one line of the file, and of a call's lines it is the last.
    return any(row.metric == metric for row in rows)


def _limit_rows(scoring: Scoring, oracle: LinearOracle) -> Iterator[Row]:
    """Held-out errors of the linear denoiser and of the mean picture."""
    row = RowOf.of_data(
        scoring,
        arm=DATA,
        direction="lower",
        n_reference=scoring.num_held_out,
    )
    denoisers = {EPS_MSE_LINEAR: oracle, EPS_MSE_MEAN: oracle.mean_only()}
    yield from scoring.errors(denoisers, row, torch.device("cpu"))


def _spectrum_rows(scoring: Scoring, oracle: LinearOracle) -> Iterator[Row]:
    """The closed forms of the Gaussian fit, averaged over each interval."""
    setting, n = scoring.setting, oracle.n
    row, spectrum = RowOf.of_data(scoring, arm=DATA, n_reference=n), spectrum_of(oracle)
    fine = build_process(scoring.config).fine_grid()
    # Without the lower end, where there may be no noise.
    t, alpha, sigma = (each.numpy()[1:] for each in (fine.t, fine.alpha, fine.sigma))
    for metric, values in relative_entropies(spectrum, alpha, sigma).items():
        yield from _by_interval(setting, metric, t[1:], values, row)
    ratio = np.array([float(level.sigma / level.alpha) for level in scoring.levels])
    times = np.array([level.time for level in scoring.levels])
    yield from _by_interval(setting, ENTROPY_RATE, times, entropy_rate(spectrum, ratio), row)


def relative_entropies(
    spectrum: Spectrum, alpha: NDArray[np.float64], sigma: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Relative entropy of neighbouring noise levels by metric, (L − 1,) nats each.

    Per step of the levels; over the square of the step in log-SNR, because it grows with that; and
    so for x_t/alpha, where the image keeps its size.

    Args:
        spectrum: the data.
        alpha: (L,) factors of the image, from low noise to high.
        sigma: (L,) factors of the noise, > 0.
    """
    steps = np.diff(2 * np.log(sigma / alpha)) ** 2
    by_step = relative_entropy(spectrum, alpha, sigma)
    unscaled = relative_entropy(spectrum, np.ones_like(alpha), sigma / alpha)
    return {KL_STEP: by_step, KL_LOG_SNR: by_step / steps, KL_OF_RATIO: unscaled / steps}


def _by_interval(
    setting: Setting,
    metric: str,
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    row: RowOf,
) -> Iterator[Row]:
    """Means of values (L,) at noise times t (L,) over each interval (t_i, t_{i+1}]."""
    number = np.searchsorted(np.array(setting.edges) + 1e-9, t) - 1
    for interval, edge in enumerate(setting.edges[1:]):
        yield row(metric, float(values[number == interval].mean()), level=edge)


def _neighbour_rows(scoring: Scoring) -> Iterator[Row]:
    """An estimate for each interval: of the levels at its ends, in the features of a net."""
    row = RowOf.of_data(scoring, arm=DATA, n_reference=points_of(len(scoring.data.train)))
    extractor = load_feature_net(FEATURE_NET)
    for interval, edge in enumerate(scoring.setting.edges[1:]):
        found = _neighbour_estimate(scoring, extractor, interval)
        yield row(KL_NEIGHBOURS, found.value, level=edge, error=found.standard_error)


def points_of(num_train: int) -> int:
    """Pictures on either side of an estimate: half of all at most, for no picture is on both."""
    return min(POINTS, num_train // 2)


def _check_points(data: PreparedData) -> None:
    if points_of(len(data.train)) < _FEWEST_POINTS:
        raise UserError(
            f"{data.folder} has {len(data.train)} training images; relative entropy by neighbours "
            f"takes {2 * _FEWEST_POINTS} or more, so give more images."
        )


def _neighbour_estimate(
    scoring: Scoring, extractor: FeatureExtractor, interval: int
) -> MeanEstimate:
    """KL of the noise levels at an interval's ends, the lower against the higher one."""
    process, count = build_process(scoring.config), points_of(len(scoring.data.train))
    lowest = float(process.fine_grid().t[1])
    ends = [max(scoring.setting.edges[interval + end], lowest) for end in (0, 1)]
    low, high = (process.level(torch.tensor([t], dtype=torch.float64)) for t in ends)
    size, seed = len(scoring.data.train), scoring.net.seed
    order = part_of_seed(scoring.setting, seed, size, 2 * count, _ORDER)
    # One map for both sides, so that the relative entropy can only fall by it.
    room = float(high.alpha + _ALL_INSIDE * high.sigma)
    sides = ((low, order[:count], _P), (high, order[count:], _Q))
    features = [
        extractor(_noisy_pictures(scoring, level, index, interval, variant, room))
        for level, index, variant in sides
    ]
    return knn_relative_entropy(*standardised_scores(features[0], features[1], COMPONENTS))


def _noisy_pictures(
    scoring: Scoring, level: Level, index: Tensor, step: int, variant: int, room: float
) -> NDArray[np.uint8]:
    """Training images with noise as pictures (N, H, W, 3) in which ``room`` is white."""
    codec, seed = build_codec(scoring.config), scoring.config.seed
    chosen = torch.from_numpy(scoring.data.train[np.sort(index.numpy())])
    clean = codec.inputs(chosen, torch.float32)
    noise = normals(
        seed, Stream.EVALUATION_NOISE, index.sort().values, step, tuple(clean.shape[1:]), variant
    )
    return codec.images(add_noise(clean, level, noise) / room)
