"""What a network is shown in each stage: a strip of noisy images, and the row that names it."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import noise_source
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.metric_names import STAGE_MEDIAN
from benchmark.rows.row import Row
from mindiffusion.build import build_process
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import Codec
from mindiffusion.process import add_noise, as_factor
from mindiffusion.sampling import save_png, tile

NUM_SHOWN = 8
_CPU = torch.device("cpu")


def stage_pictures(milestone: Milestone, yardstick: Yardstick) -> Iterator[Row]:
    """A strip for each stage that began since the milestone before.

    Held-out images of one milestone and one noise are shown in every stage and every arm of a seed,
    so what differs between strips is what the stages train.

    Args:
        milestone: the milestone.
        yardstick: has the held-out images.
    """
    if not milestone.has_pictures:
        return
    images = np.array(yardstick.data.held_out[:NUM_SHOWN])
    middles = (torch.arange(len(images), dtype=torch.float64) + 0.5) / len(images)
    num_levels = milestone.config.process.num_levels
    for stage, _ in milestone.new_stages:
        # Equal shares of the stage's draws, the noisiest first.
        times = stage.density.quantile(middles, num_levels).flip(0)
        median = stage.density.quantile(torch.full((1,), 0.5), num_levels)
        picture = milestone.folder / f"stage-{stage.start:09d}.png"
        if yardstick.ranks.is_main:
            config, codec = milestone.config, milestone.codec
            strip = shown(images, times, config, codec, yardstick.device)
            save_png(picture, tile(strip, len(images)))
        yield milestone.row(
            STAGE_MEDIAN,
            float(median),
            step=stage.start,
            stage=stage.config.name,
            samples=milestone.relative(picture),
        )


def shown(
    images: NDArray[np.uint8],
    times: torch.Tensor,
    config: RunConfig,
    codec: Codec,
    device: torch.device = _CPU,
) -> NDArray[np.uint8]:
    """Images as a network meets them at noise times, each divided by √(alpha² + sigma²).

    So the picture has the data's range for any process, also where noise has no bound. Noisy
    latents are shown as the autoencoder decodes them.

    Args:
        images: (N, H, W, 3).
        times: (N,) noise times in (0, 1].
        config: the run, for its process and its sampling seed.
        codec: of the run.
        device: where its autoencoder encodes and decodes; noise is added on the CPU.

    Returns:
        (N, H, W, 3).
    """
    level = build_process(config).level(times)
    clean = codec.inputs(torch.from_numpy(images).to(device), torch.float32).to(_CPU)
    noise = noise_source(config, _CPU)(0, torch.arange(len(images)))
    size = (level.alpha.square() + level.sigma.square()).sqrt()
    noisy = add_noise(clean, level, noise) / as_factor(size, clean)
    return codec.images(noisy.to(device))
