"""Images from a checkpoint, for a person or another tool."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmark.evaluation.images.image_source import origin_file
from benchmark.evaluation.images.wish import Wish
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.files import atomic_write, write_json
from mindiffusion.printable import printable
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import (
    SamplingNetwork,
    codec_of,
    config_of,
    kept_weights,
    load_weights,
    sample_images,
    sampling_network,
    save_png,
    tile,
    usual_weights,
)
from mindiffusion.training.preflight import check_sampler
from mindiffusion.writable import try_file


@dataclass(frozen=True, eq=False)
class Painter:
    """A network that draws what is wished, again and again.

    Attributes:
        content: of the weights.
        config: the one inside them.
        weights: which set of them.
        network: compiled once.
    """

    content: Mapping[str, Any]
    config: RunConfig
    weights: str
    network: SamplingNetwork

    def images(self, wish: Wish, count: int) -> NDArray[np.uint8]:
        """Images 0 … count − 1 as wished, (count, H, W, 3).

        Raises:
            UserError: a wish that the network cannot fulfil.
        """
        config = wish.of(self.config)
        check_sampler(config)
        shown = wish.shows(self.content, config)
        for note in shown.notes:
            print(note, file=sys.stderr)
        model = load_weights(self.network, self.content, self.weights, shown.texts)
        with tqdm(total=count, unit="image", file=sys.stderr) as bar:

            def on_chunk(done: int) -> None:
                bar.update(done - bar.n)

            return sample_images(
                model,
                model.process,
                codec_of(self.content, config),
                config.sampler,
                count,
                config.data.size,
                on_chunk,
                conditions=shown.conditions,
            )


def draw(
    path: Path,
    count: int,
    weights: str | None,
    output: Path,
    wish: Wish,
    told: RunConfig | None = None,
    asked: TextIO | None = None,
) -> int:
    """Sample ``count`` images from a milestone's weights into a PNG grid or an .npy array.

    Args:
        path: weights as ``open_weights`` takes them; their config says how to sample.
        count: number of images, ≥ 1.
        weights: "raw" or an average; if None the primary average, or the only ones there are.
        output: ``.png`` or ``.npy``; beside an array goes a file that names the data behind it.
        wish: what else to draw than the config says.
        told: the config of weights that are in a folder without one.
        asked: further wishes, a line each, for which the output is written again; None: none.

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
    config = config_of(content)
    first = wish.of(config)
    check_sampler(first)
    wish.shows(content, first)  # a mistake is told before the network is made
    painter = _painter(content, first, weights, path)
    _write(output, painter.images(wish, count), content["manifest"], path)
    print(output)
    _ask(
        lambda one: _write(output, painter.images(one, count), content["manifest"], path),
        wish,
        first,
        asked,
    )
    return 0


def _painter(
    content: Mapping[str, Any], config: RunConfig, weights: str | None, path: Path
) -> Painter:
    chosen = weights or usual_weights(content, config)
    kept_weights(content, chosen)  # a mistake is told before anything else is said
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # As studies draw the images that they score.
    runtime = resolve_sampler(config, device.type)
    if runtime.compile:
        print("compiling the network first; that takes a minute or more.", file=sys.stderr)
    print(f"drawing with the weights {chosen} of {printable(path)}", file=sys.stderr)
    return Painter(content, config, chosen, sampling_network(config, runtime, device))


def _write(
    output: Path, images: NDArray[np.uint8], manifest: str | None, weights_file: Path
) -> None:
    if output.suffix == ".png":
        save_png(output, tile(images, max(1, min(16, round(len(images) ** 0.5)))))
        return
    origin_file(output).unlink(missing_ok=True)  # of what stood there before
    with atomic_write(output) as handle:
        np.save(handle, images)
    if manifest is not None:
        write_json(origin_file(output), {"manifest": manifest, "weights_file": weights_file.name})


def _ask(
    write: Callable[[Wish], None], wish: Wish, config: RunConfig, asked: TextIO | None
) -> None:
    """Write what lines of a terminal wish: a prompt, or a class; an empty one draws other images.

    A line that can't be fulfilled says why, and the wish before it stays.
    """
    if asked is None:
        return
    is_text, is_class = config.model.text is not None, config.model.num_classes is not None
    noun = "give a prompt; " if is_text else "give a class; " if is_class else ""
    print(f"{noun}an empty line draws other images, q ends.", file=sys.stderr)
    seed = config.sampler.seed
    for said in map(str.strip, asked):
        if said in ("q", "quit"):
            return
        if not said:
            seed = (seed + 1) % 2**32
            one = replace(wish, seed=seed)
        elif is_class:
            one = Wish(seed, said, wish.guidance)
        else:
            one = Wish(seed, None, wish.guidance, said)
        try:
            write(one)
        except UserError as error:
            print(error, file=sys.stderr)
        else:
            wish = one
