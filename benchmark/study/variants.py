"""Other ways to draw the images at a run's end: does the answer depend on how they are drawn?

Verdicts are about images from one average of the weights by one sampler. A study may name others.
Their distances and colours stand in rows of their own, ``variant/<which>/<metric>``, and never
decide.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mindiffusion.config.run import RunConfig, ema_name
from mindiffusion.config.sampler import MOST_GUIDANCE, SamplerConfig
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import Name


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Variant:
    """One other way; what it does not name is as in the run's own config.

    Attributes:
        weights: "raw", or an average that the run keeps, such as "ema0.999".
        steps: network calls of the sampler.
        eta: how much noise the sampler adds, in [0, 1].
        guidance: strength of classifier-free guidance, of a network that knows classes.
    """

    weights: Name | None = None
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    eta: float | None = Field(default=None, ge=0, le=1)
    guidance: float | None = Field(default=None, ge=0, le=MOST_GUIDANCE)

    @property
    def name(self) -> str:
        """Such as "ema0.999, 20 steps, eta 0, guidance 2"."""
        parts = [
            self.weights,
            None if self.steps is None else f"{self.steps} steps",
            None if self.eta is None else f"eta {self.eta:g}",
            None if self.guidance is None else f"guidance {self.guidance:g}",
        ]
        return ", ".join(part for part in parts if part is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """What hashes of it are made of: without younger fields, where these are not used."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "guidance" or value is not None
        }

    def of(self, config: RunConfig) -> RunConfig:
        """The run with this variant's sampler."""
        wanted: dict[str, Any] = {"steps": self.steps, "eta": self.eta, "guidance": self.guidance}
        own = {name: value for name, value in wanted.items() if value is not None}
        return replace(config, sampler=replace(config.sampler, **own))


def check_variants(variants: Sequence[Variant], source: str) -> None:
    """Refuse variants that name nothing, and two of one name.

    Raises:
        UserError: there is one.
    """
    names = [one.name for one in variants]
    if "" in names:
        raise UserError(
            f"{source} has an entry without weights, steps, eta or guidance; name one of these."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source} has {twice!r} twice; give each variant once.")


def check_variants_of(config: RunConfig, variants: Sequence[Variant], source: str) -> None:
    """Refuse variants that a run cannot be drawn by, or that draw what is drawn anyway.

    Raises:
        UserError: weights that the run does not keep, steps or eta for a sampler that has none, or
            a variant that draws as the run itself or as another variant.
    """
    averages = [ema_name(decay) for decay in config.training.ema_decays]
    drawn = {(averages[0], _drawn_by(config))}
    for one in variants:
        where = f"{source} has {one.name!r}, but arm {config.arm!r}"
        if one.weights is not None and one.weights not in (kept := ("raw", *averages)):
            raise UserError(
                f"{where} keeps no such weights.{did_you_mean(one.weights, kept)} "
                "(training.ema_decays says which averages are kept.)"
            )
        has_steps, has_eta = not config.sampler.kind.is_whole_chain, config.sampler.kind.has_eta
        if (one.steps is not None and not has_steps) or (one.eta is not None and not has_eta):
            raise UserError(
                f"{where} is sampled by {config.sampler.name}, which has no "
                f"{'eta' if has_steps else 'steps or eta'}; leave that out, or give "
                "sampler.name=ddim."
            )
        way = one.weights or averages[0], _drawn_by(one.of(config))
        if way in drawn:
            raise UserError(
                f"{where} is drawn so anyway; a variant names another average, or other steps, "
                "another eta or guidance than the run and the variants before it."
            )
        drawn.add(way)


def _drawn_by(config: RunConfig) -> SamplerConfig:
    """The sampler, with the calls that it makes: two numbers of steps may be one."""
    return replace(config.sampler, steps=config.sampler.kind.calls(config.sampler.steps))
