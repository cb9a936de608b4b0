"""Every random draw of the project: a counter-based generator, a pure function of its key.

A draw is keyed by (seed, stream, index, step): which run, what the numbers are for, which image
or position, and which step; ``variant``, the counter's fourth word, gives a run of the same seed
other draws. Nothing depends on the order of calls, the batch split, the number
of ranks or an interruption, and no generator state is ever saved. Integer arithmetic makes the
uniforms the same bits on CPU and GPU; normals agree to rounding of log and cos.

Source: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

import enum
import math
from collections.abc import Callable

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK32 = 0xFFFFFFFF


class Stream(enum.IntEnum):
    """What a draw is for. Values are part of every result: append, never renumber."""

    ORDER = 1
    FLIP = 2
    TIME = 3
    NOISE = 4
    CHANNELS = 5
    PROBE_TIME = 6
    PROBE_NOISE = 7
    SAMPLE_START = 8
    SAMPLE_STEP = 9
    EVALUATION_NOISE = 10
    CLASSIFIER_WEIGHTS = 11
    CLASSIFIER_NOISE = 12
    STAGE_ORDER = 13
    LABEL_DROP = 14
    AUGMENT = 15
    AUGMENT_SIZE = 16
    CAPTION = 17
    LATENT = 20
    EVALUATION_LATENT = 21
    JACOBIAN = 24
    ABLATION = 25
    FEATURE_DIRECTIONS = 40
    FEATURE_SAMPLES = 41
    FIXED_SAMPLES = 42
    HELD_OUT_SAMPLES = 43
    TWO_LAYER_WEIGHTS = 44


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int | Tensor, int]
) -> list[Tensor]:
    """Philox4x32-10 on int64 tensors that hold 32-bit words.

    Args:
        counter: four tensors of one shape, values in [0, 2³²).
        key: two 32-bit words; the first may be a tensor that broadcasts to that shape.

    Returns:
        Four tensors of that shape, values in [0, 2³²).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # Products wrap modulo 2⁶⁴; the mask after the arithmetic shift leaves the high word.
        p0 = c0 * _MULTIPLIERS[0]
        p1 = c2 * _MULTIPLIERS[1]
        c0 = ((p1 >> 32) & _MASK32) ^ c1 ^ k0
        c2 = ((p0 >> 32) & _MASK32) ^ c3 ^ k1
        c1 = p1 & _MASK32
        c3 = p0 & _MASK32
        k0 = (k0 + _KEY_STEPS[0]) & _MASK32
        k1 = (k1 + _KEY_STEPS[1]) & _MASK32
    return [c0, c1, c2, c3]


def random_bits(
    seed: int | Tensor,
    stream: Stream,
    index: Tensor,
    step: int | Tensor,
    count: int,
    variant: int | Tensor = 0,
) -> Tensor:
    """``count`` 32-bit words for every index: (N,) → (N, count) int64 in [0, 2³²).

    Seed, step and variant are one number for all indices, or an int64 tensor on the index's device
    of one number, or of one for each index, (N,): many runs' draws are then made at once. The range
    of tensors is not checked.

    Args:
        seed: the run's or the sampling seed, in [0, 2³²).
        stream: what the draw is for.
        index: (N,) int64, position in the global batch or image index, in [0, 2³²).
        step: training step, sampling step or epoch, in [0, 2³²).
        count: words per index.
        variant: which draws of this seed, in [0, 2¹⁶).

    Raises:
        ValueError: for a seed or step outside [0, 2³²).
    """
    for name, number in (("seed", seed), ("step", step)):
        if not isinstance(number, Tensor) and not 0 <= number <= _MASK32:
            raise ValueError(f"{name} {number} must be in [0, 2^32).")
    blocks = torch.arange((count + 3) // 4, device=index.device)
    shape = (len(index), len(blocks))

    def of_each(number: int | Tensor) -> Tensor:
        if not isinstance(number, Tensor):  # filled there: a copy would wait for the device
            number = torch.full((), number, dtype=torch.int64, device=index.device)
        return number.reshape(-1, 1).expand(shape)

    counter = (blocks.expand(shape), index[:, None].expand(shape), of_each(step), of_each(variant))
    key = seed.reshape(-1, 1) if isinstance(seed, Tensor) else seed
    words = philox(counter, (key, int(stream)))
    return torch.stack(words, dim=2).flatten(1)[:, :count]


def uniforms(
    seed: int | Tensor,
    stream: Stream,
    index: Tensor,
    step: int | Tensor,
    count: int = 1,
    variant: int | Tensor = 0,
) -> Tensor:
    """Uniforms in [0, 1) with 24 bits, (N, count) float32; the same bits on every device.

    Arguments as in ``random_bits``.
    """
    return (random_bits(seed, stream, index, step, count, variant) >> 8).float() * 2.0**-24


def normals(
    seed: int | Tensor,
    stream: Stream,
    index: Tensor,
    step: int | Tensor,
    shape: tuple[int, ...],
    variant: int | Tensor = 0,
) -> Tensor:
    """Standard normals by Box–Muller, (N, *shape) float32.

    Other arguments as in ``random_bits``.
    """
    count = math.prod(shape)
    bits = random_bits(seed, stream, index, step, 2 * ((count + 1) // 2), variant)
    first, second = bits.chunk(2, dim=1)
    # (bits + ½)/2³² is in (0, 1], so that the logarithm is finite.
    radius = torch.sqrt(-2.0 * torch.log((first.float() + 0.5) * 2.0**-32))
    angle = second.float() * (2.0 * math.pi * 2.0**-32)
    pair = torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), dim=1)
    return pair[:, :count].reshape(len(index), *shape)


def sample_noise(
    seed: int, index: Tensor, size: tuple[int, int, int]
) -> tuple[Tensor, Callable[[int], Tensor]]:
    """A sampler's noise: where images start, and what the step of a key adds.

    Args:
        seed: sampling seed.
        index: (B,) int64 image indices; image k has noise of its own, the same in any batch.
        size: (C, H, W).

    Returns:
        Standard normals (B, C, H, W) float32, and a function of a key to such.
    """
    start = normals(seed, Stream.SAMPLE_START, index, 0, size)
    return start, lambda key: normals(seed, Stream.SAMPLE_STEP, index, key, size)


def permutation(
    seed: int, epoch: int, size: int, variant: int = 0, stream: Stream = Stream.ORDER
) -> Tensor:
    """A keyed order of ``size`` things, (size,) int64: that in which an epoch visits its images.

    Args:
        seed: as in ``random_bits``.
        epoch: number of the order.
        size: how many things.
        variant: as in ``random_bits``.
        stream: what is ordered.
    """
    bits = random_bits(seed, stream, torch.arange(size), epoch, 1, variant)[:, 0]
    return torch.argsort(bits, stable=True)
