"""What milestones are measured with: feature nets with their references, and the data's own limits.

Made once, used for all milestones of a cell; whatever takes long is kept in the cache.
"""

import functools
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.evaluation.attributes.classifier import AttributeClassifier, Readings
from benchmark.evaluation.attributes.faithfulness import judged_features
from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.attributes.store import attribute_classifier
from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.nets import choose_feature_net, load_feature_net
from benchmark.evaluation.features.reference_set import ReferenceSet, reference_set
from benchmark.evaluation.features_of.balanced import chosen_images
from benchmark.evaluation.metrics.colour import picture_means
from benchmark.evaluation.metrics.linear_oracle import (
    LinearOracle,
    latent_oracle,
    linear_oracle,
)
from benchmark.evaluation.metrics.memorisation import Memorisation, memorisation, unseen_images
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import EvaluationConfig, check_counts
from mindiffusion.class_conditions import class_conditions
from mindiffusion.config.codec import CodecConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.data.avatars import avatar_styles
from mindiffusion.data.codec import Codec
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.spec import DataConfig
from mindiffusion.places import cache_root
from mindiffusion.prepared_latents import with_latents
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import Conditions, SamplingNetwork, sampling_network
from mindiffusion.text_conditions import prompt_conditions
from mindiffusion.training.ranks import Ranks

NO_UNSEEN = (
    "memorisation is left out: every held-out image is a copy of a training image, so nothing "
    "tells copying from chance; all else is scored."
)
_BLOCK = 1024
Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class NetYardstick:
    """A feature net and the features of training images that generated ones are held against."""

    extractor: FeatureExtractor
    reference: ReferenceSet


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What milestones are measured with.

    Attributes:
        evaluation: the settings.
        data: the prepared data.
        device: where nets run.
        nets: the feature nets; the first one's distance is the primary one. None where no metric
            needs them.
        ranks: this process among those that share the work.
    """

    evaluation: EvaluationConfig
    data: PreparedData
    device: torch.device
    nets: tuple[NetYardstick, ...]
    ranks: Ranks = field(default_factory=Ranks)

    @functools.cached_property
    def unseen(self) -> NDArray[np.uint8]:
        """Held-out images that are no training image, nor one mirrored: (M, H, W, 3)."""
        held_out = np.array(self.data.held_out[: self.evaluation.num_generated])
        return held_out[unseen_images(held_out, self.data.train)]

    @property
    def has_unseen(self) -> bool:
        """Whether memorisation can be measured: copies of training images are no yardstick."""
        return len(self.unseen) > 0

    @functools.cached_property
    def train_and_mirrored(self) -> NDArray[np.uint8]:
        """Training images (N, H, W, 3), then the same mirrored; in a file, not in memory."""
        train = self.data.train
        both = image_store(2 * len(train), train.shape[1])
        for start in range(0, len(train), _BLOCK):
            block = train[start : start + _BLOCK]
            both[start : start + len(block)] = block
            both[len(train) + start : len(train) + start + len(block)] = block[:, :, ::-1]
        return both

    def pixel_memorisation(self, images: NDArray[np.uint8]) -> Memorisation:
        """Memorisation of images (N, H, W, 3) uint8 in pixels, mirrored training images too.

        Only where ``has_unseen``.
        """
        generated, unseen, train = (
            kind.reshape(len(kind), -1) for kind in (images, self.unseen, self.train_and_mirrored)
        )
        return memorisation(generated, unseen, train)

    def unseen_features(self, net: NetYardstick) -> NDArray[np.float64] | None:
        """Features of the unseen held-out images, computed once a net; None if there are none."""
        return _features_of(net.extractor, self) if self.has_unseen else None

    def labels(self, config: RunConfig, split: Split, count: int | None = None) -> Tensor | None:
        """What a run's network is told of the first ``count`` images of a split, (count,) int64.

        Classes, or numbers of captions among ``texts``: of each image its first. None where its
        network knows neither. Of ``profile_images`` where no count is given.
        """
        data = self.data
        if config.model.text is not None and data.captions is not None:
            of_split = data.captions.train if split == "train" else data.captions.held_out
            told = torch.from_numpy(of_split.first[: count or self.evaluation.profile_images])
            return told.to(self.device)
        if config.data.labels is None:
            return None
        codes = (data.train_labels if split == "train" else data.held_out_labels)[
            config.data.labels
        ]
        first = codes[: count or self.evaluation.profile_images].astype(np.int64)
        return torch.from_numpy(first).to(self.device)

    def conditions(self, config: RunConfig) -> Conditions | None:
        """What a run's drawn images are to show, by their index; None: its network is told nothing.

        Shares of classes are those of all training images; captions are the held-out prompts.
        """
        if config.model.text is not None and self.data.captions is not None:
            return prompt_conditions(self.data.captions)
        if config.data.labels is None:
            return None
        return class_conditions(self.data.classes(config.data.labels), config.sampler.classes)

    @property
    def texts(self) -> tuple[str, ...] | None:
        """What numbers of captions stand for; None: the data have none."""
        return None if self.data.captions is None else self.data.captions.texts

    def sampling_network(self, config: RunConfig, role: str = "arm") -> SamplingNetwork:
        """The network that draws all samples of a run: compiled once, weights are loaded into it.

        Args:
            config: the run.
            role: networks of different roles are different ones, and used at once.
        """
        return _sampling_network(config, self.device, role)

    def oracle(self, config: RunConfig) -> LinearOracle:
        """The best linear denoiser of what a run's network sees of the training images.

        Cached on disk.
        """
        return _oracle(self, config.codec, config.data)

    def inputs(self, codec: Codec, split: Split, count: int | None = None) -> Tensor:
        """What a network sees of the first ``count`` images of a split, (count, C, h, w) float32.

        Of ``profile_images`` where no count is given.
        """
        return _inputs(self, codec, split, count or self.evaluation.profile_images)

    @functools.cached_property
    def classifier(self) -> AttributeClassifier:
        """The frozen attribute classifier of the training images (cached on disk)."""
        found = attribute_classifier(self.data, ClassifierConfig(), cache_root())
        return found.to(self.device)

    @functools.cached_property
    def training_readings(self) -> Readings:
        """What the classifier reads in the reference's training images."""
        return self.classifier.read_uint8(self.data.train[: self.evaluation.num_reference])

    @functools.cached_property
    def training_colours(self) -> NDArray[np.float64]:
        """Mean colours (N, 3) of all training images: what the network is to learn, not a part."""
        return picture_means(self.data.train)

    def fill_cache(self, configs: Iterable[RunConfig]) -> None:
        """Compute what the metrics need and cells would otherwise compute all at once.

        Args:
            configs: the runs that are trained on these data.

        Raises:
            UserError: the classifier can judge nothing that captions say.
        """
        wanted, configs = set(self.evaluation.metrics), tuple(configs)
        if metrics_needing("kernel sums") & wanted:
            for net in self.nets:
                _ = net.reference.kernel_sums
        if metrics_needing("unseen") & wanted and not self.has_unseen:
            print(NO_UNSEEN, file=sys.stderr)
        if metrics_needing("oracle") & wanted:
            for config in configs:
                _ = self.oracle(config)
        if metrics_needing("classifier") & wanted:
            for line in self.classifier.dropped:
                print(line, file=sys.stderr)
        if "faithfulness" in wanted:
            for styles in dict.fromkeys(avatar_styles(config.data) for config in configs):
                judged_features(self.classifier.attributes, styles)


@functools.lru_cache(maxsize=8)
def _features_of(extractor: FeatureExtractor, yardstick: Yardstick) -> NDArray[np.float64]:
    return extractor(yardstick.unseen)


@functools.lru_cache(maxsize=4)
def _oracle(yardstick: Yardstick, codec: CodecConfig, spec: DataConfig) -> LinearOracle:
    data, array = yardstick.data, f"{yardstick.data.manifest_id}-train"
    seen = with_latents(data.training, codec, spec, yardstick.device, show_progress=False)
    if seen.latents is not None:
        return latent_oracle(seen.latents, cache_root(), array)
    return linear_oracle(data.train, cache_root(), array)


@functools.lru_cache(maxsize=4)
def _inputs(yardstick: Yardstick, codec: Codec, split: Split, count: int) -> Tensor:
    data = yardstick.data
    images = data.train if split == "train" else data.held_out
    # An autoencoder encodes where the images are.
    first = torch.from_numpy(np.array(images[:count])).to(yardstick.device)
    return codec.inputs(first, torch.float32)


@functools.lru_cache(maxsize=4)
def _sampling_network(config: RunConfig, device: torch.device, role: str) -> SamplingNetwork:
    return sampling_network(config, resolve_sampler(config, device.type), device)


def image_store(n: int, side: int) -> NDArray[np.uint8]:
    """Room for ``n`` images (n, side, side, 3) uint8, in a file without a name."""
    with tempfile.TemporaryFile(prefix="images-") as file:
        return np.memmap(file, np.uint8, "w+", shape=(n, side, side, 3))


def make_yardstick(
    evaluation: EvaluationConfig,
    data: PreparedData,
    device: torch.device | str,
    ranks: Ranks | None = None,
) -> Yardstick:
    """Load the feature nets and their reference features (cached on disk), where metrics need them.

    Raises:
        UserError: fewer images than the settings ask for, in all or of an attribute's classes.
    """
    check_counts(evaluation, len(data.train), len(data.held_out), str(data.folder))
    if metrics_needing("labels") & set(evaluation.metrics):
        chosen_images(evaluation.features, data.held_out_labels)
    is_made_of_features = metrics_needing("nets") & set(evaluation.metrics)
    nets = [
        _net_yardstick(name, evaluation.num_reference, data, device)
        for name in (evaluation.feature_nets if is_made_of_features else ())
    ]
    return Yardstick(evaluation, data, torch.device(device), tuple(nets), ranks or Ranks())


def _net_yardstick(
    name: str, n: int, data: PreparedData, device: torch.device | str
) -> NetYardstick:
    resolved, weights = choose_feature_net(name)
    extractor = load_feature_net(resolved, weights, device)
    reference = reference_set(extractor, data.train, n, cache_root(), f"{data.manifest_id}-train")
    return NetYardstick(extractor, reference)
