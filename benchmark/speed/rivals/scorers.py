"""Ways from a folder of PNGs to a Fréchet distance: ours, and other tools by their own functions.

Every way gets the same layers behind its own reading and resizing of images, and statistics of
the same reference, so that what is timed is what a user of it waits for at every milestone.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.evaluation.features import inception
from benchmark.evaluation.features.extract import (
    GROUPS,
    FeatureExtractor,
    array_batches,
    feature_set,
)
from benchmark.evaluation.features.reference_set import ReferenceSet
from benchmark.evaluation.images.image_source import open_images
from benchmark.evaluation.metrics.frechet import Moments, frechet_distance
from benchmark.speed.rivals.peer import silence
from benchmark.speed.setting import wait_for
from benchmark.speed.timing import Loop

CLEAN_FID_BATCH, TORCH_FIDELITY_BATCH, PYTORCH_FID_BATCH = 32, 64, 50
"""Each tool's default."""

Layers = Callable[[Tensor], Tensor]
"""From (B, 3, S, S), in Inception's range of values, to features (B, D)."""


@dataclass(frozen=True, eq=False)
class Task:
    """What all ways have to do.

    Attributes:
        folder: PNGs of one size.
        images: the same, (N, H, W, 3) uint8.
        layers: the net, as other tools are given it.
        extractor: the same net as ours.
        device: where.
        threads: CPU threads of torch.
        workers: processes that read images, where a tool lets one choose.
    """

    folder: Path
    images: NDArray[np.uint8]
    layers: Layers
    extractor: FeatureExtractor
    device: torch.device
    threads: int
    workers: int

    @property
    def files(self) -> list[Path]:
        """The PNGs."""
        return sorted(self.folder.glob("*.png"))


@dataclass(frozen=True)
class Way:
    """One way, in two halves.

    Attributes:
        features: images → what the way makes of them.
        distance: that, and the reference → the distance.
        is_ours: errors of ours end the measurement, those of others become a note.
    """

    features: Callable[[], Any]
    distance: Callable[[Any, ReferenceSet], float]
    is_ours: bool = False


class ScoringLoop(Loop):
    """One way; a step is all images of the task.

    Args:
        name: its row.
        way: what is timed.
        task: the images.
        reference: what the distance is to; features alone if None.

    Attributes:
        distance_seconds: of each step.
        value: the distance; None until there is one.
        failure: why there is none.
    """

    warm_up = 0
    lead_in = 0
    min_steps = 1

    def __init__(
        self, name: str, way: Way, task: Task, reference: ReferenceSet | None = None
    ) -> None:
        self.name = name
        self.images_per_step = len(task.images)
        self.distance_seconds: list[float] = []
        self.value: float | None = None
        self.failure: str | None = None
        self._way = way
        self._task = task
        self._reference = reference

    @property
    def is_ours(self) -> bool:
        """Whether the way is ours."""
        return self._way.is_ours

    def run(self, steps: int) -> None:
        """Score; a way that has failed once does nothing."""
        torch.set_num_threads(self._task.threads)
        for _ in range(steps):
            if self._way.is_ours:
                self._once()
            elif self.failure is None:
                try:
                    with silence():
                        self._once()
                except Exception as error:  # other tools raise anything: their row says what
                    self.failure = f"fails: {type(error).__name__}: {error}".splitlines()[0]
        wait_for(self._task.device)

    def _once(self) -> None:
        found = self._way.features()
        if self._reference is not None:
            started = time.perf_counter()
            self.value = float(self._way.distance(found, self._reference))
            self.distance_seconds.append(time.perf_counter() - started)


def our_way(task: Task, source: str) -> Way:
    """Ours, from the folder or from the array, streamed into moments.

    Args:
        task: what to do.
        source: "folder" or "array".
    """
    n, size = len(task.images), task.extractor.batch_size
    groups = min(GROUPS, n // 2)

    def features() -> Moments:
        if source == "folder":
            batches = open_images(task.folder).batches(size)
        else:
            batches = array_batches(task.images, size)
        return feature_set(task.extractor, batches, n, groups).moments

    def distance(found: Moments, reference: ReferenceSet) -> float:
        return frechet_distance(found, reference.moments, reference.root)

    return Way(features, distance, is_ours=True)


def our_pipeline(task: Task) -> Way:
    """Ours from the folder to features, as other tools' first halves end."""
    extractor = task.extractor

    def features() -> NDArray[np.float32]:
        batches = open_images(task.folder).batches(extractor.batch_size)
        return np.concatenate([extractor.batch(images) for _, images in batches])

    return Way(features, lambda found, reference: np.nan, is_ours=True)


def clean_fid_way(task: Task) -> Way:
    """clean-fid: a folder's features in mode "clean", then its distance."""
    from cleanfid import fid

    def model(pixels: Tensor) -> Tensor:
        return task.layers((pixels - inception.SHIFT) / inception.SCALE)

    def features() -> NDArray:
        return fid.get_folder_features(
            str(task.folder),
            model,
            num_workers=task.workers,
            batch_size=CLEAN_FID_BATCH,
            device=task.device,
            mode="clean",
            verbose=False,
        )

    def distance(found: NDArray, reference: ReferenceSet) -> float:
        mean, covariance = found.mean(axis=0), np.cov(found, rowvar=False)
        given = reference.moments
        return fid.frechet_distance(mean, covariance, given.mean, given.covariance)

    return Way(features, distance)


def pytorch_fid_way(task: Task) -> Way:
    """pytorch-fid: activations of a list of files, then its distance."""
    from pytorch_fid import fid_score

    class Model(nn.Module):
        """The resizing of pytorch-fid's Inception before the given layers."""

        def forward(self, pixels: Tensor) -> list[Tensor]:
            size = (inception.INPUT_SIZE, inception.INPUT_SIZE)
            resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
            return [task.layers(2 * resized - 1)[:, :, None, None]]

    def features() -> NDArray:
        return fid_score.get_activations(
            task.files,
            Model(),
            PYTORCH_FID_BATCH,
            task.extractor.net.dim,
            task.device,
            task.workers,
        )

    def distance(found: NDArray, reference: ReferenceSet) -> float:
        mean, covariance = found.mean(axis=0), np.cov(found, rowvar=False)
        given = reference.moments
        return fid_score.calculate_frechet_distance(mean, covariance, given.mean, given.covariance)

    return Way(features, distance)


def torch_fidelity_way(task: Task) -> Way:
    """torch-fidelity: features of a folder's files, then its distance."""
    from torch_fidelity import metric_fid, utils
    from torch_fidelity.datasets import ImagesPathDataset

    extractor = _torch_fidelity_extractor(task.layers)
    on_gpu = task.device.type == "cuda"

    def features() -> Tensor:
        images = ImagesPathDataset([str(path) for path in task.files])
        found = utils.get_featuresdict_from_dataset(
            images, extractor, TORCH_FIDELITY_BATCH, on_gpu, save_cpu_ram=False, verbose=False
        )
        return found["features"]

    def distance(found: Tensor, reference: ReferenceSet) -> float:
        ours = metric_fid.fid_features_to_statistics(found)
        given = {
            "mu": reference.moments.mean.astype(ours["mu"].dtype),
            "sigma": reference.moments.covariance,
        }
        value = metric_fid.fid_statistics_to_metric(ours, given, verbose=False)
        return value[metric_fid.KEY_METRIC_FID]

    return Way(features, distance)


def _torch_fidelity_extractor(layers: Layers) -> Any:
    """A feature extractor of torch-fidelity's kind: the resizing of its Inception, then layers."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    class Extractor(FeatureExtractorBase):
        @staticmethod
        def get_provided_features_list() -> tuple[str]:
            return ("features",)

        def forward(self, images: Tensor) -> tuple[Tensor]:
            size = (inception.INPUT_SIZE, inception.INPUT_SIZE)
            resized = interpolate_bilinear_2d_like_tensorflow1x(
                images.float(), size=size, align_corners=False
            )
            return (layers((resized - inception.SHIFT) / inception.SCALE),)

    return Extractor("given-layers", ["features"])


OTHER_TOOLS: dict[str, Callable[[Task], Way]] = {
    "clean-fid": clean_fid_way,
    "torch-fidelity": torch_fidelity_way,
    "pytorch-fid": pytorch_fid_way,
}


def other_ways(task: Task) -> Iterator[tuple[str, Way | None]]:
    """Each other tool's name and way; None where the tool is not installed."""
    for name, make in OTHER_TOOLS.items():
        way = None
        with contextlib.suppress(ImportError):
            way = make(task)
        yield name, way
