"""The resolved description of one run: nested frozen dataclasses, typed, and free of PyTorch.

Every mistake in a value is one line that names its source, its key and what was expected.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mindiffusion.config.codec import AnyCodec, PixelsConfig
from mindiffusion.config.mistakes import first_mistake
from mindiffusion.config.model import MODELS, USUAL_NETWORK, AnyModelConfig, NaiveUnetConfig
from mindiffusion.config.optimizer import AdamConfig, AnyOptimizer
from mindiffusion.config.process import AnyProcessConfig, DDPMConfig
from mindiffusion.config.sampler import MOST_IMAGES, SamplerConfig
from mindiffusion.config.shares import share_of
from mindiffusion.curriculum.clusters import AnyClusters
from mindiffusion.curriculum.pacing import AnyPacing, FixedPacing
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import Name, shown_value
from mindiffusion.outside.paths import MOST_PATH

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MAY_CHANGE = (
    "output",
    "samples",
    "training.checkpoint_every",
    "training.keep_scored",
    "training.timeout_seconds",
    "codec.path",
)
"""Keys that a run may be resumed with another value of: they do not shape its training. A codec's
weights do; states say which they were."""
_SAMPLER = "sampler."
"""All keys of this section may change too: of them only pictures and scores are made."""
MOST_STEPS = 999_999_999
"""Names of checkpoints have room for nine digits."""
_MOST_STAGES = 256
_LATER: dict[str, Any] = {
    "noise_stream": 0,
    "clusters": None,
    "pacing": {"kind": "fixed"},
    "pacing.leader": None,
    "training.length": 1.0,
    "training.keep_scored": "all",
    "training.stratified": False,
    "training.optimizer": {"name": "adam", "betas": [0.9, 0.999], "warm_up_steps": 0},
    "model.width": 1.0,
    "model.num_classes": None,
    "model.text": None,
    "model.learn_sigma": False,
    "process.kind": "ddpm",
    "process.loss_weight": None,
    "process.parameterization": "eps",
    "data.extra_formats": [],
    "sampler.spacing": None,
    "sampler.rho": 7.0,
    "sampler.S_churn": 0.0,
    "sampler.S_min": 0.0,
    "sampler.S_max": None,
    "sampler.S_noise": 1.0,
    "data.labels": None,
    "data.captions": None,
    "training.label_drop": 0.0,
    "training.augment": 0.0,
    "sampler.classes": "shares",
    "sampler.guidance": 1.0,
    "sampler.guidance_interval": [0.0, 1.0],
    "codec": {"kind": "pixels"},
}
"""Fields younger than runs that are kept: left out at their default, so that those runs keep their
hash and go on."""
_OF_A_MASK = {
    "placement": "bottleneck",
    "regrow_method": "gradient",
    "probe_batches": 4,
    "probe_batch_size": 64,
}
_FORMERLY: dict[str, dict[str, Any]] = {"naive_unet": _OF_A_MASK, "reg_unet": _OF_A_MASK}
"""Fields of ``model`` that these networks had when runs were made that are kept, with their
defaults: they are kept on, so that those runs keep their hash and go on."""


def _short(text: str) -> str:
    if len(text) > MOST_PATH or "\0" in text:
        raise ValueError("give a path that a file system can have")
    return text


def _is_length(decay: float | str) -> bool:
    """Whether it is a decay of an average, or a half-life."""
    if not isinstance(decay, str):
        return 0 < decay < 1
    try:
        return share_of(decay) > 0
    except ValueError:
        return False


def ema_name(decay: float | str) -> str:
    """Label of an average in files and rows, such as "ema0.995"; "ema-half0.0025" of "0.25%"."""
    return f"ema-half{share_of(decay):g}" if isinstance(decay, str) else f"ema{decay:g}"


_Place = Annotated[str, AfterValidator(_short)]
_Milestone = Annotated[str, Field(max_length=40)] | int


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """Optimisation and its book-keeping.

    Attributes:
        epochs: length in passes over the training images; give this or ``steps``.
        steps: length in optimizer steps.
        length: fraction of that length that is actually trained, in (0, 1]; stages and milestones
            in % refer to the shortened run.
        global_batch: images per step over all ranks.
        stratified: whether a batch has one noise time from each of ``global_batch`` equal shares of
            the draws; the expected loss is the same, its variance is less.
        micro_batch: images per forward pass of a rank; None: the rank's whole share.
        lr: the learning rate.
        optimizer: what changes the weights, and how the learning rate begins.
        clip_grad_norm: largest norm of the gradient of all weights together, to which it is scaled
            down; None: never.
        label_drop: share of the images whose label the network is not told, at random: what
            guidance needs; 0.1 is usual (Ho and Salimans 2022, 2207.12598).
        augment: chance of each of five changes of a training image: scaled, turned, stretched,
            shifted, and, with half of it, flipped upside down. Above 0 every other image is
            mirrored too. The network is told how, and draws unchanged images (Karras et al. 2022,
            2206.00364, appendix F.2; 0.12 on CIFAR-10), but for the mirroring of
            ``data.horizontal_flip``, which it is not told. 0: images stay as they are. Of networks
            that have an input for it.
        ema_decays: lengths of the weight averages; the first is the primary one. A decay in (0, 1),
            or a half-life as a share of all steps, such as "0.25%".
        milestones: when weights are kept and scored: "stages" (each stage's end), "25%",
            "10 epochs" or a step.
        checkpoint_every: steps between rolling checkpoints.
        keep_scored: which milestones' weights a study keeps once they are scored.
        log_every: steps between lines of metrics.jsonl.
        device: "auto" takes a GPU if there is one.
        precision: "auto": bf16 where the device has it and it was measured to help.
        compile: "auto": on a GPU, and where a C++ compiler is found and it helps.
        threads: CPU threads per rank; None: all cores over the ranks of this machine.
        timeout_seconds: how long ranks wait for each other before the run is given up.
    """

    epochs: float | None = Field(default=None, gt=0, le=MOST_STEPS)
    steps: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    length: float = Field(default=1.0, gt=0, le=1)
    global_batch: int = Field(default=256, ge=1, le=MOST_IMAGES)
    stratified: bool = False
    micro_batch: int | None = Field(default=None, ge=1, le=MOST_IMAGES)
    lr: float = Field(default=2e-5, gt=0)
    optimizer: AnyOptimizer = AdamConfig()
    clip_grad_norm: float | None = Field(default=None, gt=0)
    label_drop: float = Field(default=0.0, ge=0, lt=1)
    augment: float = Field(default=0.0, ge=0, le=1)
    ema_decays: Annotated[tuple[float | str, ...], Field(max_length=16)] = (0.9999, 0.999)
    milestones: Annotated[tuple[_Milestone, ...], Field(max_length=10_000)] = ("stages",)
    checkpoint_every: int = Field(default=1000, ge=1, le=MOST_STEPS)
    keep_scored: Literal["all", "last"] = "all"
    log_every: int = Field(default=50, ge=1, le=MOST_STEPS)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=4096)
    timeout_seconds: float = Field(default=600.0, gt=0, le=31_536_000)

    def __post_init__(self) -> None:
        """Refuse an average that is none, and two of which files could hold but one."""
        if not self.ema_decays or not all(map(_is_length, self.ema_decays)):
            raise UserError(
                f"training.ema_decays is {shown_value(list(self.ema_decays))}: give at least one "
                "decay in (0, 1), or half-life such as '0.25%' of the steps."
            )
        names = [ema_name(decay) for decay in self.ema_decays]
        for decay, name in zip(self.ema_decays, names, strict=True):
            if names.count(name) > 1:
                raise UserError(
                    f"training.ema_decays is {shown_value(list(self.ema_decays))}: {decay} and "
                    f"another one are both called {name}; leave one of them out."
                )


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """One training run.

    Attributes:
        arm: name shown in tables and figures.
        output: folder of checkpoints; runs live in ``seed<k>/`` inside it.
        samples: folder of sample grids, likewise; None: ``samples/`` inside the run's folder.
        noise_stream: other draws of order, flips, time and noise for the same initial weights; arms
            to be compared as pairs share it.
        clusters: what the stages of the curriculum were made of; None: they are written out.
        pacing: how it is found when the stages of the curriculum begin.
        codec: what the network sees of an image.
    """

    arm: Name
    curriculum: Annotated[tuple[StageConfig, ...], Field(max_length=_MOST_STAGES)]
    output: _Place
    samples: _Place | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    noise_stream: int = Field(default=0, ge=0, lt=2**16)
    clusters: AnyClusters | None = None
    pacing: AnyPacing = FixedPacing()
    data: DataConfig = DataConfig()
    model: AnyModelConfig = NaiveUnetConfig()
    process: AnyProcessConfig = DDPMConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: SamplerConfig = SamplerConfig()
    codec: AnyCodec = PixelsConfig()

    def __post_init__(self) -> None:
        """Refuse images that the codec does not take, and augmentation that can't be told.

        A network that is not told of it would draw augmented images.
        """
        self.codec.shape(self.data.size)
        if self.training.augment and not self.model.takes_augment_labels:
            able = ", ".join(name for name, kind in MODELS.items() if kind.takes_augment_labels)
            raise UserError(
                f"training.augment is {self.training.augment:g}, but the network "
                f"{self.model.network} has no input that tells it of augmentation, so it would "
                f"draw augmented images; give training.augment=0, or model.network={able}."
            )

        if self.training.augment and not self.codec.is_bounded:
            raise UserError(
                f"training.augment is {self.training.augment:g}, but it moves pixels, and codec "
                f"{self.codec.kind} gives none; give training.augment=0."
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the network's inputs."""
        return self.codec.shape(self.data.size)

    def check_model(self) -> None:
        """Refuse sizes that the network can't take.

        Raises:
            UserError: it can't.
        """
        side = self.input_shape[1]
        try:
            self.model.check(side)
        except UserError as error:
            if side == self.data.size:
                raise
            raise UserError(
                f"{error} The network's images are latents here: their side, {side}, is data.size "
                f"{self.data.size} over the codec's factor."
            ) from None

    @property
    def run_dir(self) -> Path:
        """Folder of this run's checkpoints, config and log."""
        return Path(self.output) / f"seed{self.seed}"

    @property
    def followed_dir(self) -> Path | None:
        """Folder of the run whose stages it takes over; None: it takes over none."""
        if self.pacing.follows is None:
            return None
        return Path(self.output).parent / self.pacing.follows / f"seed{self.seed}"

    @property
    def grid_dir(self) -> Path:
        """Folder of this run's sample grids."""
        if self.samples is None:
            return self.run_dir / "samples"
        return Path(self.samples) / f"seed{self.seed}"


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain types of a config, as JSON would hold them, without ``_LATER`` defaults."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    for key, default in _LATER.items():
        *path, name = key.split(".")
        inner = functools.reduce(lambda part, step: part.get(step, {}), path, content)
        if name in inner and inner[name] == default:
            del inner[name]
    return content


def to_kept(config: RunConfig) -> dict[str, Any]:
    """A config as files keep it: plain types that are the same for every version of this program.

    It is what is compared and hashed; ``from_kept`` reads it.
    """
    content = to_dict(config)
    return content | {"model": content["model"] | _FORMERLY.get(config.model.network, {})}


def from_kept(content: Mapping[str, Any], source: str) -> RunConfig:
    """The config that a file of a run keeps.

    Raises:
        UserError: a mistake in it, or a setting that its network has no more.
    """
    model = content.get("model")
    if isinstance(model, Mapping):
        former = _FORMERLY.get(str(model.get("network", USUAL_NETWORK)), {})
        for name, default in former.items():
            if model.get(name, default) != default:
                raise UserError(
                    f"{source}: key 'model.{name}' is {shown_value(model[name])}, but this network "
                    f"has no such key now; only {default!r} can be read. Score the run with the "
                    "version that trained it, or train it anew."
                )
        own = {name: value for name, value in model.items() if name not in former}
        content = {**content, "model": own}
    config: RunConfig = check(RunConfig, content, source)
    return config


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two configs (as plain types) differ, but for those of no consequence."""
    different = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            different += differences(old, new, f"{prefix}{key}.")
        elif old != new and not _may_change(prefix + key):
            different.append(prefix + key)
    return different


def _may_change(key: str) -> bool:
    return key in _MAY_CHANGE or key.startswith(_SAMPLER)


def config_hash(config: RunConfig) -> str:
    """Twelve hex digits over everything that can change a result: not where it is written.

    Training and sampling are hashed; the device, threads, how often ranks and files are looked
    after and where files go are not.
    """
    content = to_kept(config)
    for name in ("output", "samples"):
        del content[name]
    for name in ("device", "threads", "checkpoint_every", "log_every", "timeout_seconds"):
        del content["training"][name]
    content["training"].pop("keep_scored", None)
    del content["sampler"]["grid"]
    return sha256_of_json(content)[:12]


def check(kind: type[Any], content: Mapping[str, Any], source: str) -> Any:
    """Build the frozen dataclass ``kind`` from plain types; every mistake is one line."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except ValidationError as error:
        raise UserError(f"{source}: {first_mistake(kind, content, error)}") from None
    except (TypeError, RecursionError, ValueError) as error:  # no JSON can hold it
        raise UserError(f"{source}: {error}") from None
