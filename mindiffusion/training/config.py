"""The resolved description of one run: nested frozen dataclasses, typed, and free of PyTorch.

Every mistake in a value is one line that names its source, its key and what was expected.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.density import KINDS
from mindiffusion.curriculum.loss_weight import WEIGHT_KINDS, LossWeight
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import sha256_of_json

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MAY_CHANGE = ("output", "samples", "training.checkpoint_every", "training.timeout_seconds")
"""Keys that a run may be resumed with another value of."""
_LATER: dict[str, Any] = {
    "noise_stream": 0,
    "training.length": 1.0,
    "model.width": 1.0,
    "process.loss_weight": None,
}
"""Fields younger than runs that are kept: left out at their default, so that those runs keep their
hash and go on."""

_KINDS: dict[str, type[Any]] = KINDS | WEIGHT_KINDS
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The network.

    Attributes:
        network: which class, see ``mindiffusion.networks``.
        n_feat: base width, a multiple of 8.
        width: factor on ``n_feat``, in (0, 1], for an arm with a narrower network than its study's.
        placement: where a channel mask acts (networks with a mask).
        regrow_method: how channels are chosen (networks with a mask).
        probe_batches: batches behind a regrowth's saliency.
        probe_batch_size: images in each of them.
    """

    network: Literal["naive_unet", "sparse_unet", "reg_unet"] = "naive_unet"
    n_feat: int = 32
    width: float = Field(default=1.0, gt=0, le=1)
    placement: Literal["bottleneck", "silent"] = "bottleneck"
    regrow_method: Literal["gradient", "random"] = "gradient"
    probe_batches: int = Field(default=4, ge=1)
    probe_batch_size: int = Field(default=64, ge=2)

    def __post_init__(self) -> None:
        """Refuse a width that leaves no multiple of 8."""
        if self.width != 1.0 and (
            self.base_width % 8 or self.base_width != self.n_feat * self.width
        ):
            raise UserError(
                f"model.width {self.width:g} of model.n_feat {self.n_feat} is "
                f"{self.n_feat * self.width:g}, no multiple of 8; change one of the two."
            )

    @property
    def base_width(self) -> int:
        """Width of the network that is built: n_feat · width."""
        return round(self.n_feat * self.width)


@dataclass(frozen=True, config=_STRICT)
class ProcessConfig:
    """The forward process: linear betas over n_T levels.

    Attributes:
        beta1: β at t = 0.
        beta2: β at t = n_T.
        n_T: number of levels.
        loss_weight: factor on the loss by noise level; None: 1 at all.
    """

    beta1: float = 1e-4
    beta2: float = 0.02
    n_T: int = Field(default=1000, ge=2)
    loss_weight: LossWeight | None = None


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """Optimisation and its book-keeping.

    Attributes:
        epochs: length in passes over the training images; give this or ``steps``.
        steps: length in optimizer steps.
        length: share of that length that is trained, in (0, 1]; stages and milestones in % are of
            what is trained.
        global_batch: images per step over all ranks.
        micro_batch: images per forward pass of a rank; None: the rank's whole share.
        lr: Adam's learning rate.
        clip_grad_norm: largest norm of the gradient of all weights together, to which it is scaled
            down; None: never.
        ema_decays: lengths of the weight averages, in (0, 1); the first is the primary one.
        milestones: when weights are kept and scored: "stages" (each stage's end), "25%",
            "10 epochs" or a step.
        checkpoint_every: steps between rolling checkpoints.
        log_every: steps between lines of metrics.jsonl.
        device: "auto" takes a GPU if there is one.
        precision: "auto": bf16 where the device has it and it was measured to help.
        compile: "auto": on a GPU, and where a C++ compiler is found and it helps.
        threads: CPU threads per rank; None: all cores over the ranks of this machine.
        timeout_seconds: how long ranks wait for each other before the run is given up.
    """

    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    length: float = Field(default=1.0, gt=0, le=1)
    global_batch: int = Field(default=256, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    lr: float = Field(default=2e-5, gt=0)
    clip_grad_norm: float | None = Field(default=None, gt=0)
    ema_decays: tuple[float, ...] = (0.9999, 0.999)
    milestones: tuple[str | int, ...] = ("stages",)
    checkpoint_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    timeout_seconds: float = Field(default=600.0, gt=0)

    def __post_init__(self) -> None:
        """Refuse an average that is none."""
        if not self.ema_decays or not all(0 < d < 1 for d in self.ema_decays):
            raise UserError(
                f"training.ema_decays is {self.ema_decays}: give at least one decay in (0, 1)."
            )


@dataclass(frozen=True, config=_STRICT)
class SamplerConfig:
    """How images are drawn from a network.

    Attributes:
        name: "ddim", or "ddpm" for ancestral sampling through the full chain.
        steps: network calls (DDIM only; "ddpm" takes n_T).
        eta: DDIM's stochasticity in [0, 1].
        clip: clip the predicted clean image to [-1, 1] (DDIM only).
        seed: sampling seed, apart from the training seed.
        chunk: images per forward pass, or "auto": sized to the device.
        precision: "auto": bf16 where the device has it and it was measured to help.
        compile: "auto": on a GPU, and where a C++ compiler is found and it helps.
        grid: images in a run's sample grid.

    Images may differ in bits between chunks and precisions, so results name both.
    """

    name: Literal["ddim", "ddpm"] = "ddim"
    steps: int = Field(default=50, ge=1)
    eta: float = Field(default=1.0, ge=0, le=1)
    clip: bool = True
    seed: int = Field(default=0, ge=0, lt=2**32)
    chunk: int | str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    grid: int = Field(default=64, ge=1)

    def __post_init__(self) -> None:
        """Refuse a chunk of no images."""
        if self.chunk != "auto" and (isinstance(self.chunk, str) or self.chunk < 1):
            raise UserError(
                f'sampler.chunk is {self.chunk!r}: give a number of images, 1 or more, or "auto".'
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
    """

    arm: str
    curriculum: tuple[StageConfig, ...]
    output: str
    samples: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    noise_stream: int = Field(default=0, ge=0, lt=2**16)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    process: ProcessConfig = ProcessConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: SamplerConfig = SamplerConfig()

    @property
    def run_dir(self) -> Path:
        """Folder of this run's checkpoints, config and log."""
        return Path(self.output) / f"seed{self.seed}"

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


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two configs (as plain types) differ, but for those of no consequence."""
    different = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            different += differences(old, new, f"{prefix}{key}.")
        elif old != new and prefix + key not in _MAY_CHANGE:
            different.append(prefix + key)
    return different


def config_hash(config: RunConfig) -> str:
    """Twelve hex digits over everything that can change a result: not where it is written.

    Training and sampling are hashed; the device, threads, how often ranks and files are looked
    after and where files go are not.
    """
    content = to_dict(config)
    for name in ("output", "samples"):
        del content[name]
    for name in ("device", "threads", "checkpoint_every", "log_every", "timeout_seconds"):
        del content["training"][name]
    del content["sampler"]["grid"]
    return sha256_of_json(content)[:12]


def check(kind: type[Any], content: Mapping[str, Any], source: str) -> Any:
    """Build the frozen dataclass ``kind`` from plain types; every mistake is one line."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except ValidationError as error:
        raise UserError(f"{source}: {_first_line(kind, error)}") from None
    except TypeError as error:
        raise UserError(f"{source}: {error}") from None


def _first_line(kind: type[Any], error: ValidationError) -> str:
    """The first mistake of a ValidationError as one line; a misspelt key is also a missing one."""
    found = error.errors()
    first = next((e for e in found if e["type"] in _UNKNOWN_KEY), found[0])
    # A density's kind is part of pydantic's path, but no key that anybody wrote.
    path = [str(part) for part in first["loc"] if part not in _KINDS]
    key = ".".join(path)
    if first["type"] in _UNKNOWN_KEY:
        return f"unknown key {key!r}.{did_you_mean(path[-1], _keys_at(kind, first['loc'][:-1]))}"
    if first["type"] in ("missing", "missing_argument"):
        return f"key {key!r} is missing."
    if isinstance(first.get("ctx", {}).get("error"), UserError):
        return f"key {key!r}: {first['ctx']['error']}"
    if first["type"] == "union_tag_invalid":
        kinds = WEIGHT_KINDS if path[-1] == "loss_weight" else KINDS
        return f"key {key + '.kind'!r} is {first['ctx']['tag']!r}; allowed are {', '.join(kinds)}."
    return f"key {key!r} is {first['input']!r}: {first['msg'].lower()}."


def _keys_at(kind: Any, path: Sequence[str | int]) -> list[str]:
    """Names of the fields of the dataclass at a path inside ``kind``."""
    for part in path:
        if part in _KINDS:
            kind = _KINDS[str(part)]
            continue
        inner: Any = next((f.type for f in fields(kind) if f.name == part), None)
        candidates = [inner, *getattr(inner, "__args__", ())]
        kind = next((c for c in candidates if is_dataclass(c)), kind)
    return [f.name for f in fields(kind)]
