"""Images from a checkpoint, for a person or another tool."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmark.evaluation.images.image_source import origin_file
from mindiffusion.build import build_codec
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.files import atomic_write, write_json
from mindiffusion.printable import printable
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import (
    config_of,
    load_weights,
    sample_images,
    sampling_network,
    save_png,
    tile,
    usual_weights,
)
from mindiffusion.training.preflight import check_sampler
from mindiffusion.writable import try_file


def draw(
    path: Path,
    count: int,
    weights: str | None,
    output: Path,
    seed: int | None,
    told: RunConfig | None = None,
) -> int:
    """Sample ``count`` images from a milestone's weights into a PNG grid or an .npy array.

    Args:
        path: weights as ``open_weights`` takes them; their config says how to sample.
        count: number of images, ≥ 1.
        weights: "raw" or an average; if None the primary average, or the only ones there are.
        output: ``.png`` or ``.npy``; beside an array goes a file that names the data behind it.
        seed: sampling seed instead of the config's.
        told: the config of weights that are in a folder without one.

    Raises:
        UserError: another ending, a count below 1, or a bad checkpoint.
        OSError: the output can't be written; found out before anything is drawn.
    """
    if output.suffix not in (".png", ".npy"):
        raise UserError(f"--output {output}: give a name that ends in .png or .npy.")
    if count < 1:
        raise UserError(f"--count {count}: ask for at least one image.")
    if seed is not None and not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: a sampling seed is in 0 to 4294967295.")
    try_file(output)
    content = open_weights(path, told)
    config = config_of(content)
    check_sampler(config)
    chosen = weights or usual_weights(content, config)
    sampler = config.sampler if seed is None else replace(config.sampler, seed=seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # As studies draw the images that they score.
    runtime = resolve_sampler(config, device.type)
    network = sampling_network(config, runtime, device)
    model = load_weights(network, content, chosen)
    if runtime.compile:
        print("compiling the network first; that takes a minute or more.", file=sys.stderr)
    print(f"drawing with the weights {chosen} of {printable(path)}", file=sys.stderr)
    with tqdm(total=count, unit="image", file=sys.stderr) as bar:

        def on_chunk(done: int) -> None:
            bar.update(done - bar.n)

        images = sample_images(
            model, model.process, build_codec(config), sampler, count, config.data.size, on_chunk
        )
    if output.suffix == ".npy":
        origin_file(output).unlink(missing_ok=True)  # of what stood there before
        with atomic_write(output) as handle:
            np.save(handle, images)
        manifest = content["manifest"]
        if manifest is not None:
            write_json(origin_file(output), {"manifest": manifest, "weights_file": path.name})
    else:
        save_png(output, tile(images, max(1, min(16, round(count**0.5)))))
    print(output)
    return 0
