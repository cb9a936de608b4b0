"""How features of trained networks are looked at: settings that a study fixes beforehand."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from benchmark.study.metric_catalogue import metrics_needing
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name

FEWEST_IMAGES = 20
"""Ten groups of two: what an error over groups takes."""
FEWEST_JACOBIANS = 2
"""What an error over images takes."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class FeatureSettings:
    """What is looked at, and of how many images.

    Attributes:
        layers: modules of the networks by name; none: those that each network's config lists.
        levels: noise times at which features and Jacobians are taken.
        images: held-out images behind silhouettes, probes, norms and similarities.
        attributes: labels of the data that silhouettes and probes ask for.
        jacobian_images: the first held-out images, at each of which there is a Jacobian.
        ablation_draws: random sets of channels that the channels of a stage are held against.
    """

    layers: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    levels: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1, max_length=32)
    ] = (0.1, 0.3, 0.5, 0.7)
    images: int = Field(default=512, ge=FEWEST_IMAGES, le=1_000_000)
    attributes: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    jacobian_images: int = Field(default=4, ge=FEWEST_JACOBIANS, le=10_000)
    ablation_draws: int = Field(default=4, ge=2, le=1000)

    @property
    def settings(self) -> dict[str, Any]:
        """What hashes of it are made of; empty where it is as usual."""
        return {} if self == FeatureSettings() else asdict(self)


def check_attributes(metrics: Collection[str], settings: FeatureSettings) -> None:
    """Refuse metrics that ask for attributes where none are chosen.

    Raises:
        UserError: as said.
    """
    asking = sorted(metrics_needing("labels") & set(metrics))
    if asking and not settings.attributes:
        raise UserError(
            f"evaluation.metrics has {asking[0]}, which asks for labels of the data that are "
            "chosen beforehand; name some in evaluation.features.attributes, such as [hair]."
        )


def image_counts(metrics: Collection[str]) -> list[str]:
    """Settings that say how many held-out images some metrics take."""
    found = ["images"] if metrics_needing("layers") & set(metrics) else []
    return [*found, "jacobian_images"] if "jacobian" in metrics else found
