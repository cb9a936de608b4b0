"""Training of all runs of a study at once: one tensor program over arms and seeds.

Weights are stacked along an axis of runs, and every operation acts on each run alone. So a run has
the same numbers by itself and among hundreds. Each is trained as the house's trainer does it, by
the same functions: densities make noise times of uniforms that arms share, the process adds noise
and reads answers, stages change masks and penalties, Adam is torch's, which is elementwise.

Runs of one simulation have the same data, network, process, batch, rate and precision. They differ
in arm, seed, noise stream, stages and length. A run that has come to its end leaves the stack.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindiffusion.build import PROCESSES
from mindiffusion.curriculum.noise_time import NoiseTimeDensity
from mindiffusion.curriculum.stages import Stage, stage_at
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.errors import UserError
from mindiffusion.machine import denormals_flushed
from mindiffusion.network import ProbeBatch
from mindiffusion.noise import Stream
from mindiffusion.process import Level, Process, add_noise, eps_error, training_losses
from mindiffusion.theory.capacity import switched_on
from mindiffusion.theory.draws import Block, Draws
from mindiffusion.theory.kept_state import (
    FORMAT,
    checked_state,
    checked_tensors,
    expected_averages,
)
from mindiffusion.theory.networks import Weights, answers, initial_weights
from mindiffusion.theory.setting import TheoryRun, planned, run_hash

_DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


def process_of(run: TheoryRun) -> Process:
    """How a run adds noise, and how its network's answer is read."""
    no_pictures = ImageStatistics(np.zeros((1, 1, 1)), 1.0)
    return PROCESSES[type(run.process)](run.process, no_pictures)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Weights that runs have at one of their milestones.

    Attributes:
        step: steps trained.
        runs: the runs, in the order of the simulation's.
        weights: theirs, (R, …).
        mask: (R, H), 1 where a hidden neuron is on.
        birth_stage: (R, H) int64, stage in which it was switched on; −1 while it is off.
        penalty: (R,), λ of the stage just trained.
    """

    step: int
    runs: tuple[TheoryRun, ...]
    weights: Weights
    mask: Tensor
    birth_stage: Tensor
    penalty: Tensor


class Simulation:
    """Runs in progress.

    Args:
        runs: all of the same data, network, process and training but for its length and milestones.

    Attributes:
        step: steps trained.
        runs: all of them.
        stage_log: (run's number, what happened) of every stage that began since it was made.

    Raises:
        UserError: none, runs that cannot share a program, or a plan that no run can have.
    """

    def __init__(self, runs: Sequence[TheoryRun]) -> None:
        self.runs = tuple(runs)
        _check_together(self.runs)
        self._plans = [planned(run) for run in self.runs]
        self._dtype = _DTYPES[self.runs[0].training.precision]
        self._process = process_of(self.runs[0])
        self.step = 0
        self.stage_log: list[tuple[int, dict[str, Any]]] = []
        self._places = list(range(len(self.runs)))
        width = self.runs[0].model.width
        self._mask = torch.ones(len(self.runs), width, dtype=self._dtype)
        self._births = torch.zeros(len(self.runs), width, dtype=torch.int64)
        self._hold(initial_weights(self.runs, self._dtype))
        self._stack_again()

    # -- what is on the stack ---------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether all runs have come to their end."""
        return not self._going_on()

    @property
    def next_milestone(self) -> int:
        """The first step after this one at which a run has a milestone; not once it is done."""
        later = [
            step
            for place in self._places
            for step in self._plans[place].milestones
            if step > self.step
        ]
        return min(later)

    def _hold(self, weights: Weights) -> None:
        """Train these weights, with fresh averages."""
        parts = {
            name: part.detach().clone().requires_grad_() for name, part in weights.named().items()
        }
        self._weights = Weights(**parts)
        # Not fused: that kernel rounds the last few numbers of a tensor otherwise than the others,
        # so a run's bits would depend on its place.
        self._optimizer = torch.optim.Adam(list(parts.values()), lr=self.runs[0].training.lr)

    def _stack_again(self) -> None:
        """What depends on which runs are on the stack."""
        self._draws = Draws([self.runs[place] for place in self._places], self._dtype)
        self._mask_factor = None if bool((self._mask == 1).all()) else self._mask

    def _going_on(self) -> list[int]:
        """Which of the stack have not come to their end."""
        totals = [self._plans[place].total_steps for place in self._places]
        return [number for number, total in enumerate(totals) if total > self.step]

    def _drop_finished(self) -> None:
        """Take runs off the stack that have come to their end, unless all have."""
        stay = self._going_on()
        if not stay or len(stay) == len(self._places):
            return
        averages = self._averages()
        self._places = [self._places[number] for number in stay]
        self._mask, self._births = self._mask[stay], self._births[stay]
        self._hold(self._weights.of(stay))
        self._restore({n: v[stay] if v.dim() else v for n, v in averages.items()})
        self._stack_again()

    def _averages(self) -> dict[str, Tensor]:
        """Adam's averages and counts, by names such as "incoming.exp_avg"; none before step 1."""
        state = self._optimizer.state
        parts = self._weights.named().items()
        return {f"{n}.{key}": value for n, part in parts for key, value in state[part].items()}

    def _restore(self, averages: Mapping[str, Tensor]) -> None:
        """Go on with Adam's averages, as ``_averages`` names them."""
        content = self._optimizer.state_dict()
        states: dict[int, dict[str, Tensor]] = {}
        for number, name in enumerate(self._weights.named()):
            own = {k: v for k, v in averages.items() if k.startswith(f"{name}.")}
            states[number] = {key.split(".")[1]: value for key, value in own.items()}
        self._optimizer.load_state_dict(content | {"state": states if averages else {}})

    # -- training ---------------------------------------------------------------------------

    def advance(self, until: int) -> None:
        """Train up to step ``until``, or to the end of the longest run."""
        while self.step < until and not self.is_done:
            # Not before: at its end a run still hands out its weights.
            self._drop_finished()
            self._enter_stages()
            self._train_to(min(until, self._next_change()))

    def _next_change(self) -> int:
        """The next step at which a stage begins or a run ends."""
        plans = [self._plans[place] for place in self._places]
        starts = [stage.start for plan in plans for stage in plan.stages]
        ends = [plan.total_steps for plan in plans]
        return min(step for step in starts + ends if step > self.step)

    def _stages(self) -> list[Stage]:
        """The stage that each run on the stack trains next, or has trained at its end."""
        return [stage_at(self._plans[place].stages, self.step) for place in self._places]

    def _train_to(self, stop: int) -> None:
        """Train within stages that do not change."""
        stages = self._stages()
        groups = _by_density([stage.density for stage in stages])
        penalties = [stage.config.penalty_lambda for stage in stages]
        penalty = torch.tensor(penalties, dtype=self._dtype) if any(penalties) else None
        while self.step < stop:
            count = min(self._draws.steps_at_once, stop - self.step)
            block = self._draws.block(self.step, count)
            levels = self._levels(block, groups)
            for number in range(count):
                self._train_step(block, number, levels[number], penalty)
            self.step += count

    def _levels(self, block: Block, groups: "_Groups") -> list[Level]:
        """The noise levels of a block's steps, each of all runs' samples, (R·B,)."""
        u = block.u[self._draws.of_run]  # (R, K, B)
        times = torch.empty(u.shape, dtype=torch.float64)
        for density, members in groups:
            drawn = density.quantile(u[members].flatten(), self._process.num_levels)
            times[members] = drawn.view(len(members), *u.shape[1:])
        level = self._process.level(times.transpose(0, 1).flatten())
        parts = (level.t, level.alpha, level.sigma, level.told, level.weight)
        return [Level(*step) for step in zip(*(p.chunk(u.shape[1]) for p in parts), strict=True)]

    @denormals_flushed()
    def _train_step(self, block: Block, number: int, level: Level, penalty: Tensor | None) -> None:
        """One optimizer step of every run on the stack."""
        of_run = self._draws.of_run
        x = _as_images(block.x[:, number][of_run])
        noise = _as_images(block.noise[:, number][of_run])
        x_t = add_noise(x, level, noise)
        said = self._process.predict(self._forward, x_t, level)
        losses = training_losses(eps_error(said, noise), level, None)
        loss = losses.sum() / (len(losses) // len(of_run))
        if penalty is not None:
            loss = loss + self._penalty(penalty)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _forward(self, x: Tensor, told: Tensor) -> Tensor:
        """All runs' networks as one: (R·B, D, 1, 1) → the same."""
        runs = len(self._places)
        stacked = x.view(runs, -1, x.shape[1])
        answer = answers(self._weights, stacked, told.view(runs, -1), self._mask_factor)
        return answer.view_as(x)

    def _penalty(self, factor: Tensor) -> Tensor:
        """Σ over runs of λ · Σ_h ‖W₁[h]‖₂ over the neurons that are on; 0 has the derivative 0."""
        norms = torch.linalg.vector_norm(self._weights.incoming, dim=2)
        return (factor[:, None] * self._mask * norms).sum()

    # -- stages -----------------------------------------------------------------------------

    def _enter_stages(self) -> None:
        """Give the runs whose stage begins at this step its capacity."""
        for number, stage in enumerate(self._stages()):
            if stage.start == self.step:
                event = self._enter(number, stage)
                self.stage_log.append((self._places[number], event))
        self._mask_factor = None if bool((self._mask == 1).all()) else self._mask

    def _enter(self, number: int, stage: Stage) -> dict[str, Any]:
        """Switch one run's neurons on for a stage."""
        run, mask = self.runs[self._places[number]], self._mask[number]
        probe = functools.partial(self._probe, run, stage)
        chosen, event = switched_on(run, stage, mask, self._weights.of([number]), probe)
        if stage.index == 0:
            mask.zero_()
            self._births[number] = -1
        mask[chosen] = 1.0
        self._births[number, chosen] = stage.index
        return {"step": self.step, **event}

    def _probe(
        self, run: TheoryRun, stage: Stage, num_batches: int, batch_size: int
    ) -> Iterator[ProbeBatch]:
        """Probe batches of one run: samples of the stage's first steps, with draws of their own."""
        size = min(batch_size, run.training.global_batch)
        streams = (Stream.PROBE_TIME, Stream.PROBE_NOISE)
        draws = Draws([run], self._dtype)
        for step in range(stage.start, stage.start + num_batches):
            block = draws.block(step, 1, streams, size)
            times = stage.density.quantile(block.u.flatten(), self._process.num_levels)
            level = self._process.level(times)
            noise = _as_images(block.noise[:, 0])
            x_t = add_noise(_as_images(block.x[:, 0]), level, noise)
            yield ProbeBatch(x_t, level, noise, self._process)

    # -- what is handed out and kept --------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The weights of the runs that have a milestone at this step.

        Raises:
            UserError: weights of one of them are not finite.
        """
        plans = [self._plans[place] for place in self._places]
        chosen = [number for number, plan in enumerate(plans) if self.step in plan.milestones]
        weights = self._weights.of(chosen)
        weights = Weights(**{name: part.detach() for name, part in weights.named().items()})
        runs = tuple(self.runs[self._places[number]] for number in chosen)
        self._check_finite(runs, weights)
        trained = [stage_at(plans[number].stages, self.step - 1) for number in chosen]
        return Snapshot(
            self.step,
            runs,
            weights,
            self._mask[chosen],
            self._births[chosen],
            torch.tensor([stage.config.penalty_lambda for stage in trained], dtype=torch.float64),
        )

    def _check_finite(self, runs: Sequence[TheoryRun], weights: Weights) -> None:
        for number, run in enumerate(runs):
            if not all(part[number].isfinite().all() for part in weights.named().values()):
                raise UserError(
                    f"run {run.arm} of seed {run.seed} has weights that are not finite at step "
                    f"{self.step}; lower training.lr."
                )

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as plain types and tensors."""
        return {
            "format": FORMAT,
            "runs": [run_hash(run) for run in self.runs],
            "step": self.step,
            "places": list(self._places),
            "weights": {n: part.detach() for n, part in self._weights.named().items()},
            "averages": self._averages(),
            "masks": {"mask": self._mask, "births": self._births},
        }

    def load_state(self, state: Mapping[str, Any], source: str) -> None:
        """Go on from a state.

        Args:
            state: as ``state`` makes it; it may be a stranger's.
            source: where it is from, for messages.

        Raises:
            UserError: it is not of these runs.
        """
        kept = checked_state(state, self.runs, source)
        runs = [self.runs[place] for place in kept.places]
        expected = initial_weights(runs, self._dtype).named()
        masks = {"mask": self._mask[kept.places], "births": self._births[kept.places]}
        weights = checked_tensors(state, "weights", expected, source)
        masks = checked_tensors(state, "masks", masks, source)
        averages = expected_averages(expected) if kept.step else {}
        averages = checked_tensors(state, "averages", averages, source)
        self.step, self._places = kept.step, kept.places
        self._mask, self._births = masks["mask"], masks["births"]
        self._hold(Weights(**weights))
        self._restore(averages)
        self._stack_again()


def _check_together(runs: Sequence[TheoryRun]) -> None:
    """Refuse runs that no one program can train.

    Raises:
        UserError: none, or runs that differ in more than arms do.
    """
    if not runs:
        raise UserError("a simulation without runs; give at least one.")
    first = runs[0]
    for run in runs[1:]:
        training = replace(
            run.training, length=first.training.length, milestones=first.training.milestones
        )
        if (run.data, run.model, run.process, training) != (
            first.data, first.model, first.process, first.training
        ):  # fmt: skip
            raise UserError(
                f"runs {first.arm} of seed {first.seed} and {run.arm} of seed {run.seed} differ in "
                "data, model, process or training; one simulation has one of each, so put them "
                "into two."
            )


_Groups = list[tuple[NoiseTimeDensity, Tensor]]


def _by_density(densities: Sequence[NoiseTimeDensity]) -> _Groups:
    """Each density once, with the places that have it."""
    places: dict[NoiseTimeDensity, list[int]] = {}
    for number, density in enumerate(densities):
        places.setdefault(density, []).append(number)
    return [(density, torch.tensor(members)) for density, members in places.items()]


def _as_images(samples: Tensor) -> Tensor:
    """Samples (R, B, D) as the images that processes know, (R·B, D, 1, 1)."""
    return samples.flatten(0, 1)[..., None, None]
