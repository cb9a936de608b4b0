"""Images from a checkpoint, for a person or another tool."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmark.evaluation.images.image_source import origin_file
from mindiffusion.class_conditions import class_conditions, one_class
from mindiffusion.config.run import RunConfig
from mindiffusion.config.sampler import MOST_GUIDANCE
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.files import atomic_write, write_json
from mindiffusion.kept_classes import classes_of
from mindiffusion.printable import printable
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import (
    Conditions,
    codec_of,
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


@dataclass(frozen=True)
class Wish:
    """What is to be drawn otherwise than the config inside the weights says; None: as it says.

    Attributes:
        seed: sampling seed.
        shown: a class, by name or number, that all images show.
        guidance: strength of guidance.
    """

    seed: int | None = None
    shown: str | None = None
    guidance: float | None = None

    def of(self, config: RunConfig) -> RunConfig:
        """The config with these settings.

        Raises:
            UserError: a seed or a strength outside what is allowed.
        """
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: a sampling seed is in 0 to 4294967295.")
        if self.guidance is not None and not 0 <= self.guidance <= MOST_GUIDANCE:
            raise UserError(
                f"--guidance {self.guidance:g}: give a strength from 0 to {MOST_GUIDANCE}; 1 is no "
                "guidance."
            )
        wished: dict[str, Any] = {"seed": self.seed, "guidance": self.guidance}
        given = {name: value for name, value in wished.items() if value is not None}
        return replace(config, sampler=replace(config.sampler, **given))

    def conditions(self, content: Mapping[str, Any], config: RunConfig) -> Conditions | None:
        """What the images are to show; None where the network knows no classes.

        Raises:
            UserError: no such class.
        """
        classes = classes_of(content, config)
        if classes is None:
            if self.shown is not None:
                raise UserError(
                    f"--class {self.shown}: these weights are of a network that knows no classes; "
                    "leave it out."
                )
            return None
        if self.shown is None:
            return class_conditions(classes, config.sampler.classes)
        return one_class(classes.number_of(self.shown))


def draw(
    path: Path,
    count: int,
    weights: str | None,
    output: Path,
    wish: Wish,
    told: RunConfig | None = None,
) -> int:
    """Sample ``count`` images from a milestone's weights into a PNG grid or an .npy array.

    Args:
        path: weights as ``open_weights`` takes them; their config says how to sample.
        count: number of images, ≥ 1.
        weights: "raw" or an average; if None the primary average, or the only ones there are.
        output: ``.png`` or ``.npy``; beside an array goes a file that names the data behind it.
        wish: what else to draw than the config says.
        told: the config of weights that are in a folder without one.

    Raises:
        UserError: another ending, a count below 1, a bad checkpoint, or a wish that its network
            cannot fulfil.
        OSError: the output can't be written; found out before anything is drawn.
    """
    if output.suffix not in (".png", ".npy"):
        raise UserError(f"--output {output}: give a name that ends in .png or .npy.")
    if count < 1:
        raise UserError(f"--count {count}: ask for at least one image.")
    try_file(output)
    content = open_weights(path, told)
    config = wish.of(config_of(content))
    check_sampler(config)
    images = _drawn(content, config, weights, count, wish.conditions(content, config), path)
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


def _drawn(
    content: Mapping[str, Any],
    config: RunConfig,
    weights: str | None,
    count: int,
    conditions: Conditions | None,
    path: Path,
) -> NDArray[np.uint8]:
    chosen = weights or usual_weights(content, config)
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

        settings = config.sampler, count, config.data.size, on_chunk
        codec = codec_of(content, config)
        return sample_images(model, model.process, codec, *settings, conditions=conditions)
