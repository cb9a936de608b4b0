"""Makes a feature set on every rank: drive_features.py FOLDER, which has a job and gets dumps."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmark.evaluation.features.extract import FeatureExtractor, feature_set, own_ranges
from benchmark.evaluation.features.net import Backbone, FeatureNet
from mindiffusion.training.ranks import process_group, ranks_from_environment

DIM, GROUPS = 12, 5


def extractor() -> FeatureExtractor:
    """A small convolutional net, the same in every process."""
    module = nn.Sequential(
        nn.Conv2d(3, DIM, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for parameter in module.parameters():
        parameter.data = torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32))
    net = FeatureNet("Stub", DIM, 16, "bicubic", False, lambda path, device: Backbone(module))
    return FeatureExtractor(net, "0" * 64, module.eval(), torch.device("cpu"), batch_size=3)


def picture(index: int) -> np.ndarray:
    """Image ``index``, (9, 9, 3) uint8."""
    return np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)


def pictures_of(ranges, size):
    """Batches of the images in some ranges."""
    for wanted in ranges:
        for start in range(wanted.start, wanted.stop, size):
            indices = np.arange(start, min(start + size, wanted.stop))
            yield indices, np.stack([picture(k) for k in indices])


def main(folder: Path) -> None:
    n = json.loads((folder / "job.json").read_text())["n"]
    ranks = ranks_from_environment()
    drawn = own_ranges(n, GROUPS, ranks)
    with process_group(ranks, "cpu"):
        found = feature_set(extractor(), pictures_of(drawn, 4), n, GROUPS, keep=True, ranks=ranks)
    np.savez(
        folder / f"rank{ranks.rank}.npz",
        means=np.stack([group.mean for group in found.groups]),
        covariances=np.stack([group.covariance for group in found.groups]),
        features=found.features,
        drawn=np.array([index for one in drawn for index in one]),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
