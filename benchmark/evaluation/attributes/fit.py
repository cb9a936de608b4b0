"""Training and calibrating the attribute classifier, a pure function of images, labels, config."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmark.evaluation.attributes.architecture import AttributeNet, build_attribute_net
from benchmark.evaluation.attributes.classifier import to_float
from benchmark.evaluation.attributes.damage import damaged
from benchmark.evaluation.attributes.scores import UNKNOWN
from mindiffusion.noise import permutation

_WEIGHT_DECAY = 0.05
_LARGEST_LOG_TEMPERATURE = math.log(5)
"""Where nothing is misread on the calibration images, likelihood alone would ask for T = 0."""
OnStep = Callable[[int], object]
"""Called with the number of training steps done."""


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is made; all of it is in the key of the cached file.

    Attributes:
        num_images: training images to use at most: 3/4 to train on, 1/8 to calibrate, 1/8 to
            measure what it reads.
        steps: optimizer steps.
        batch: images a step, half of them damaged.
        lr: peak rate of AdamW, falling to 0 by a cosine.
        width: channels of the first stage.
        seed: of weights, order and noise.
        threads: CPU threads, part of the key because sums depend on them.
    """

    num_images: int = 8192
    steps: int = 600
    batch: int = 128
    lr: float = 3e-3
    width: int = 32
    seed: int = 0
    threads: int = 1


def fit_network(
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    head_sizes: Sequence[int],
    config: ClassifierConfig,
    on_step: OnStep,
) -> AttributeNet:
    """Train a network, on the CPU, whatever else there is: the same bits with equal threads.

    Attribute heads learn from the damaged half too: a soft x̂₀ is then read for what it shows,
    and answered by the classes' shares where it shows nothing. Without that, the x̂₀ of a demo
    network at t = .15 gave .57 instead of .72 for clothes, the oracle's .88 instead of .90.

    Args:
        images: (N, side, side, 3) uint8.
        classes: (N, A) class of each attribute, ``UNKNOWN`` where it teaches nothing.
        head_sizes: classes of each of the A attributes.
        config: how.
        on_step: told the progress.
    """
    net = build_attribute_net(images.shape[1], config.width, head_sizes, config.seed).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=_WEIGHT_DECAY)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        for step, rows in enumerate(_batches(len(images), config)):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))
            loss = _loss(net, to_float(images[rows]), classes[rows], config.seed, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step(step + 1)
    finally:
        torch.set_num_threads(before)
    return net.eval().requires_grad_(False)


def _batches(count: int, config: ClassifierConfig) -> Iterator[NDArray[np.int64]]:
    """The rows of each step: whole epochs in an order of their own; what is left over waits."""
    batch = min(config.batch, count)
    per_epoch = count // batch
    for step in range(config.steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            # Epoch 0 is the order by which images were chosen.
            order = permutation(config.seed, epoch + 1, count).numpy()
        yield order[place * batch : (place + 1) * batch]


def _loss(
    net: AttributeNet, images: Tensor, classes: NDArray[np.int64], seed: int, step: int
) -> Tensor:
    """Mean cross-entropy of the heads plus that of "whole"; half the batch is damaged."""
    # Every other image is mirrored, as the denoisers' training images are.
    images[::2] = images[::2].flip(3)
    half = len(images) // 2
    shown = torch.cat((images[:half], damaged(images[half:], seed, step)))
    whole, heads = net.split(net(shown))
    target = (torch.arange(len(images)) < half).float()
    loss = F.binary_cross_entropy_with_logits(whole, target)
    truth = torch.from_numpy(classes)
    for number, logits in enumerate(heads):
        own = truth[:, number]
        total = F.cross_entropy(logits, own, ignore_index=UNKNOWN, reduction="sum")
        loss = loss + total / (own != UNKNOWN).sum().clamp_min(1) / len(heads)
    return loss


def best_temperature(logits: NDArray, classes: NDArray[np.int64]) -> float:
    """The T in [1/5, 5] that gives softmax(logits / T) the least negative log-likelihood.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2.

    Args:
        logits: (N, K).
        classes: (N,) true classes; ``UNKNOWN`` ones are left out, and without others T is 1.
    """
    known = classes != UNKNOWN
    if not known.any():
        return 1.0
    kept, truth = logits[known].astype(np.float64), classes[known]
    found = scipy.optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(kept / math.exp(log_t), truth),
        bounds=(-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE),
        method="bounded",
    )
    return float(math.exp(found.x))


def negative_log_likelihood(logits: NDArray, classes: NDArray[np.int64]) -> float:
    """Mean −log softmax(logits)[class] of logits (N, K) and classes (N,), in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return float((log_sum - shifted[np.arange(len(classes)), classes]).mean())
