"""What a run of the two-feature theory is: frozen and checked, free of PyTorch.

Stages, densities and processes are those of every other run, so controls, exposure and plans of the
house serve here too. What images have and this data has not (codecs, augmentation, samplers) has no
field.
"""

from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.plan import milestone_step
from mindiffusion.config.process import AnyProcessConfig, LinearPathConfig
from mindiffusion.config.run import MOST_STEPS, to_dict
from mindiffusion.curriculum.clock import to_noise_time
from mindiffusion.curriculum.density import on_noise_time
from mindiffusion.curriculum.stages import (
    Stage,
    StageConfig,
    check_order,
    resolve_stages,
    stage_ends,
)
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import Name

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_STAGES = 256
_Milestone = Annotated[str, Field(max_length=40)] | int


@dataclass(frozen=True, config=_STRICT)
class TwoFeatureConfig:
    """The data x = α₁M₁z₁ + α₂M₂z₂ of ``mindiffusion.theory.two_features``.

    The defaults are those of the public toy.

    Attributes:
        num_features: d, features of each group.
        ambient_dim: D, numbers of a sample, at least 2d: all features are orthogonal.
        alpha1: α₁ > 0, amplitude of the dominant features.
        alpha2: α₂ > 0, amplitude of the weak ones.
        share: probability that a feature is present, in (0, 1], before z = 0 is rejected.
        num_train: how many samples are trained on, in keyed epochs; None: never the same twice.
    """

    num_features: int = Field(default=20, ge=1, le=1024)
    ambient_dim: int = Field(default=200, ge=2, le=4096)
    alpha1: float = Field(default=5.0, gt=0, le=1e6)
    alpha2: float = Field(default=0.5, gt=0, le=1e6)
    share: float = Field(default=0.1, gt=0, le=1)
    num_train: int | None = Field(default=None, ge=1, le=10_000_000)

    def __post_init__(self) -> None:
        """Refuse more features than there are directions."""
        if 2 * self.num_features > self.ambient_dim:
            raise UserError(
                f"data.num_features {self.num_features} in each of two groups need as many "
                f"orthogonal directions, but data.ambient_dim is {self.ambient_dim}; give an "
                f"ambient_dim of {2 * self.num_features} or more, or fewer features."
            )


@dataclass(frozen=True, config=_STRICT)
class TwoLayerConfig:
    """The denoiser W₂ relu(W₁ x + b₁) + b₂ of ``mindiffusion.theory.networks``.

    What its answer is, the clean sample or the noise, the process says (its ``target``).

    Attributes:
        width: H, hidden neurons.
        init_std: standard deviation of all initial weights, > 0; biases start at 0.
        use_bias: whether there are b₁ and b₂.
        time_input: whether what the process tells of the noise is one more input.
        regrow_method: how a mask grows between stages, as in the house's masked networks.
        probe_batches: batches behind a regrowth's saliency.
        probe_batch_size: samples in each of them.
    """

    width: int = Field(default=100, ge=1, le=65_536)
    init_std: float = Field(default=0.02, gt=0, le=1e3)
    use_bias: bool = False
    time_input: bool = False
    regrow_method: Literal["gradient", "random"] = "gradient"
    probe_batches: int = Field(default=4, ge=1, le=10_000)
    probe_batch_size: int = Field(default=64, ge=2, le=1_000_000)


@dataclass(frozen=True, config=_STRICT)
class TheoryTraining:
    """Optimisation by Adam with torch's usual averages; fields mean what they mean in other runs.

    Attributes:
        steps: length in optimizer steps.
        length: fraction of it that is trained, in (0, 1].
        global_batch: samples per step.
        lr: the learning rate.
        milestones: when weights are handed out: "stages", "25%" or a step.
        precision: float type of samples, weights and averages.
    """

    steps: int = Field(default=5000, ge=1, le=MOST_STEPS)
    length: float = Field(default=1.0, gt=0, le=1)
    global_batch: int = Field(default=512, ge=1, le=1_000_000)
    lr: float = Field(default=1e-3, gt=0)
    milestones: Annotated[tuple[_Milestone, ...], Field(max_length=10_000)] = ("stages",)
    precision: Literal["fp32", "fp64"] = "fp32"


@dataclass(frozen=True, config=_STRICT)
class TheoryRun:
    """One training run of the theory.

    A stage's ``sparsity`` switches hidden neurons off, and its ``penalty_lambda`` is the factor of
    the group-L1 penalty on their incoming weights.

    Attributes:
        arm: name shown in tables and figures.
        curriculum: the stages.
        seed: of the directions M, the samples, the initial weights and the noise.
        noise_stream: other samples, noise and noise times for the same M and initial weights.
    """

    arm: Name
    curriculum: Annotated[tuple[StageConfig, ...], Field(min_length=1, max_length=_MOST_STAGES)]
    seed: int = Field(default=0, ge=0, lt=2**32)
    noise_stream: int = Field(default=0, ge=0, lt=2**16)
    data: TwoFeatureConfig = TwoFeatureConfig()
    model: TwoLayerConfig = TwoLayerConfig()
    process: AnyProcessConfig = LinearPathConfig()
    training: TheoryTraining = TheoryTraining()

    def __post_init__(self) -> None:
        """Refuse a process that needs statistics of pictures."""
        if self.process.uses_statistics:
            raise UserError(
                f"process.kind {self.process.kind} with these settings needs mean picture and "
                "spread of images, and this data has none; use linear_path, vpsde or ddpm with "
                "parameterization eps."
            )


@dataclass(frozen=True, config=_STRICT)
class TheoryEvaluation:
    """How trained networks are measured; the same for all arms of a study.

    Attributes:
        num_samples: fresh samples, from a stream of their own, for every noise level.
        num_levels: noise levels, at the middles of equal shares of plain training's draws.
        low_up_to: levels with a noise time up to this are *low* noise, in (0, 1).
        high_from: levels from this noise time on are *high* noise, in (0, 1).
        purity: least share of one feature in a pure neuron's squared length, in (0, 1).
    """

    num_samples: int = Field(default=2048, ge=1, le=10_000_000)
    num_levels: int = Field(default=10, ge=2, le=1000)
    low_up_to: float = Field(default=0.3, gt=0, lt=1)
    high_from: float = Field(default=0.7, gt=0, lt=1)
    purity: float = Field(default=0.8, gt=0, lt=1)


@plain_dataclass(frozen=True)
class TheoryPlan:
    """What a run means in steps.

    Attributes:
        total_steps: optimizer steps.
        milestones: steps at which weights are handed out, rising; the last step is one.
        stages: with their first steps; densities are on the noise-time clock.
    """

    total_steps: int
    milestones: tuple[int, ...]
    stages: tuple[Stage, ...]


def run_hash(run: TheoryRun) -> str:
    """Twelve hex digits over everything that can change a result."""
    return sha256_of_json(to_dict(run))[:12]


def planned(run: TheoryRun) -> TheoryPlan:
    """Turn percentages and weights into steps.

    Raises:
        UserError: a milestone past the end, a stage without a step, sparsity that rises, or a
            density at none of the process's levels.
    """
    process, training = run.process, run.training
    total = max(1, int(training.steps * training.length + 0.5))
    curriculum = tuple(
        replace(c, density=to_noise_time(c.density, process.log_sigma, process.num_levels))
        for c in run.curriculum
    )
    check_order(curriculum)
    for stage in curriculum:
        on_noise_time(stage.density).ends(process.num_levels)
    stages = resolve_stages(curriculum, total)
    milestones = {total}
    for spec in training.milestones:
        # There are no epochs: samples are fresh, or their number is no unit of a plan.
        is_end = spec == "stages"
        milestones |= set(stage_ends(stages, total) if is_end else [_step(spec, total)])
    return TheoryPlan(total, tuple(sorted(milestones)), stages)


def _step(spec: str | int, total: int) -> int:
    if "epoch" in str(spec):
        raise UserError(f"milestone {spec!r}: these runs have no epochs; give a step or '25%'.")
    return milestone_step(spec, total, float("nan"))
