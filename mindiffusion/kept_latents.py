"""Which latents a network was trained on, inside a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.config.codec import VAEConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.data.latents import TrainingLatents
from mindiffusion.errors import UserError


class KeptLatents(BaseModel):
    """What a checkpoint says of the latents of its training images.

    Attributes:
        vae: SHA-256 of the autoencoder.
        scale: factor on latents, given or measured.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    vae: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scale: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class KnownLatents:
    """Which latents a network sees.

    Attributes:
        vae: SHA-256 of the autoencoder; None: weights of another program, which do not say it.
        scale: factor on latents.
    """

    vae: str | None
    scale: float

    @property
    def words(self) -> str:
        """How rows name it."""
        return f"vae {'unknown' if self.vae is None else self.vae[:12]}, scale {self.scale:.9g}"


def known_latents(latents: TrainingLatents | None) -> KnownLatents | None:
    """Those of a run's training data; None where it is trained on pixels."""
    return None if latents is None else KnownLatents(latents.vae, latents.scale)


def latents_part(known: KnownLatents | None) -> dict[str, Any]:
    """What a checkpoint holds of them; nothing where a network sees pixels."""
    return {} if known is None else {"latents": {"vae": known.vae, "scale": known.scale}}


def latents_of(content: Mapping[str, Any], config: RunConfig) -> KnownLatents | None:
    """The latents that a milestone's network sees; None if it sees pixels.

    Weights of other programs do not say them; the config's scale counts then.

    Args:
        content: as ``checkpoint.load`` gives it.
        config: the one inside it.

    Raises:
        UserError: neither the content nor the config says the scale.
    """
    if not isinstance(config.codec, VAEConfig):
        return None
    kept, scale = content.get("latents"), config.codec.scale
    if kept is not None:
        return KnownLatents(kept["vae"], kept["scale"])
    if scale == "auto":
        raise UserError(
            "these weights do not say by which factor latents were scaled; give the published one, "
            "such as codec.scale=0.18215."
        )
    return KnownLatents(None, scale)
