"""What a run is trained on, as one object."""

from dataclasses import dataclass

import numpy as np

from mindiffusion.data.captions import Captions
from mindiffusion.data.classes import Classes
from mindiffusion.data.latents import TrainingLatents
from mindiffusion.errors import UserError


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training images and what belongs to them.

    Attributes:
        images: (N, H, W, 3) uint8, usually memory-mapped.
        manifest_id: short hash of their manifest; runs are refused on data with another one.
        labels: (N, …), what each image shows: the network's condition, such as int64 classes. None:
            networks are told nothing.
        classes: what the labels are called, where they are classes.
        latents: of the images, where networks see these (``mindiffusion.prepared_latents``).
        captions: what the images show in words: of each a caption is drawn at each step, which is
            the condition then. None: networks are told no captions.

    Raises:
        UserError: not as many labels as images, or both labels and captions.
    """

    images: np.ndarray
    manifest_id: str
    labels: np.ndarray | None = None
    classes: Classes | None = None
    latents: TrainingLatents | None = None
    captions: Captions | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.images):
            raise UserError(
                f"{len(self.labels)} labels came with {len(self.images)} training images; give one "
                "for each image, or none at all."
            )
        if self.labels is not None and self.captions is not None:
            raise UserError(
                "labels and captions came with the training images, but networks are told one of "
                "them; give data.labels or data.captions."
            )

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.images)
