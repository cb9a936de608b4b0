"""What the config of every network has, and what a table is told of it; free of PyTorch."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.data.classes import MOST_CLASSES

if TYPE_CHECKING:
    from mindiffusion.config.text import TextConfig

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_FEATURES = 4096
"""Of a width: a U-Net then has 1.7 billion weights."""
MAX_SIDE = 1024
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
"""In pixels."""
Features = Annotated[int, Field(ge=1, le=MOST_FEATURES)]
"""A width, or what divides one."""
Blocks = Annotated[int, Field(ge=1, le=256)]
Classes = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
TimeScale = Annotated[float, Field(gt=0)]
"""Factor on what the process tells before an embedding of it."""


def classes_in_words(num_classes: int | None) -> str:
    """What a table adds of the classes that a network knows; nothing where it knows none."""
    return "" if num_classes is None else f", {num_classes} classes"


@dataclass(frozen=True, config=STRICT)
class CapacityLimit:
    """How a network limits its capacity, in words for a table.

    Attributes:
        mechanism: what limits it.
        location: what is limited.
        control: what changes the limit during a run.
        values: what a unit's share in the network may be.
        places: the places of its sparsity, as rows name them (``Network.mask``,
            ``Network.group_norms``), in the order of the network.
    """

    mechanism: str
    location: str
    control: str
    values: str
    places: tuple[str, ...]


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """What all networks' configs have. A network's own class adds its fields.

    A study's index keeps ``words`` and ``capacity_limit``, and tables show them.

    Attributes:
        network: which network; a class of its own has one value, by which it is found.
        heeds: settings of a stage that change its capacity.
        takes_augment_labels: whether it has an input for how its images were augmented.
    """

    network: str
    heeds: ClassVar[tuple[str, ...]] = ()
    takes_augment_labels: ClassVar[bool] = False

    @property
    def words(self) -> str:
        """What the network is, with the settings that a reader wants to see; at most 200 chars."""
        return self.network

    def layers(self, side: int) -> tuple[str, ...]:
        """Modules whose output says what the network has learned, by name, in their order.

        Each gives maps (B, C, H, W), or tokens (B, L, C). A study may name others.

        Args:
            side: of its inputs: pixels, or the cells of latents.
        """
        return ()

    @property
    def num_classes(self) -> int | None:
        """How many classes it may be told; None: it knows none. Networks that do have a field."""
        return None

    @property
    def text(self) -> "TextConfig | None":
        """How it reads captions; None: it reads none. Networks that do have a field."""
        return None

    @property
    def learn_sigma(self) -> bool:
        """Whether it learns the variance of a chain's steps. Networks that can have a field."""
        return False

    @property
    def capacity_limit(self) -> CapacityLimit | None:
        """How it limits its capacity; None: it does not."""
        return None

    def check(self, side: int) -> None:
        """Raise UserError unless the network takes images of this side, in pixels."""

    @property
    def is_wide(self) -> bool:
        """Whether bf16 and the compiler are worth it for this network on a CPU."""
        return False
