"""A milestone's weights as one file that other programs can read."""

from pathlib import Path

from mindiffusion.errors import UserError
from mindiffusion.exchange import exported
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.sampling import config_of, usual_weights
from mindiffusion.writable import try_file


def export(path: Path, output: Path, weights: str | None) -> int:
    """Write one set of a milestone's weights to a ``.safetensors`` file; returns the exit code.

    Args:
        path: the milestone's ``weights-<step>.pt``.
        output: the file, which is replaced if it is there.
        weights: "raw" or an average; the primary average if None.

    Raises:
        UserError: another ending, something there that is no file, a bad checkpoint, or no such
            weights in it.
        OSError: the output can't be written; found out before anything is read.
    """
    if output.suffix != exported.ENDING:
        raise UserError(f"{output}: give a name that ends in {exported.ENDING}.")
    try_file(output)
    content = open_weights(path)
    chosen = weights or usual_weights(content, config_of(content))
    exported.save(output, content, chosen)
    print(f"{output}: the weights {chosen} at step {content['step']}")
    return 0
