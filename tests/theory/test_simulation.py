from dataclasses import replace

import pytest
import torch

from mindiffusion.curriculum.controls import control
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.process import add_noise
from mindiffusion.sparsity import active_count
from mindiffusion.theory.draws import Draws
from mindiffusion.theory.kept_state import load_state, save_state
from mindiffusion.theory.networks import Weights, answers, initial_weights
from mindiffusion.theory.resumable import simulate
from mindiffusion.theory.setting import planned
from mindiffusion.theory.simulation import Simulation, process_of

ARMS = ("B", "C", "CS", "CR")


def trained(runs):
    """Every run's last snapshot place: {(arm, seed, noise stream): (weights, mask, birth)}."""
    found = {}

    def keep(snapshot):
        for place, run in enumerate(snapshot.runs):
            parts = {n: w[place].clone() for n, w in snapshot.weights.named().items()}
            found[run.arm, run.seed, run.noise_stream] = {
                **parts, "mask": snapshot.mask[place].clone(),
                "birth": snapshot.birth_stage[place].clone(),
            }  # fmt: skip

    assert simulate(runs, keep)
    return found


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_run_alone_has_the_bits_that_it_has_among_many(precision, tiny_run):
    training = {"precision": precision}
    runs = [tiny_run(arm, seed, training) for seed in range(5) for arm in ARMS]
    shorter = replace(runs[4], arm="B-80", training=replace(runs[4].training, length=0.8))
    again = replace(runs[4], noise_stream=1)
    # First, so that others move up when it is done.
    runs = [shorter, *runs, again]
    together = trained(runs)
    for run in (shorter, runs[5], runs[7], runs[12], again):
        (alone,) = trained([run]).values()
        assert_same(alone, together[run.arm, run.seed, run.noise_stream])
    b, a_a, short = (together[key] for key in (("B", 1, 0), ("B", 1, 1), ("B-80", 1, 0)))
    assert not torch.equal(b["incoming"], a_a["incoming"])
    assert not torch.equal(b["incoming"], short["incoming"])


def test_step_is_what_torch_does_with_one_network(tiny_run):
    """Ten steps of one run by the house's formula, written out for one network without a stack."""
    run = tiny_run("C")
    process, density = process_of(run), planned(run).stages[0].density
    start = initial_weights([run], torch.float64)
    parts = {n: w.clone().requires_grad_() for n, w in start.named().items()}
    optimizer = torch.optim.Adam(list(parts.values()), lr=run.training.lr)
    draws = Draws([run], torch.float64)
    for step in range(10):
        block = draws.block(step, 1)
        x, noise, u = block.x[0, 0], block.noise[0, 0], block.u[0, 0]
        level = process.level(density.quantile(u, None))
        x_t = x + level.sigma[:, None] * noise
        pre = x_t @ parts["incoming"][0].T + level.t[:, None] * parts["time"] + parts["bias"]
        said = torch.relu(pre) @ parts["outgoing"][0] + parts["out_bias"]
        loss = (said - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(level.t.min()) > 0.6
    simulation = Simulation([run])
    simulation.advance(10)
    for name, part in simulation.state()["weights"].items():
        torch.testing.assert_close(part, parts[name].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stop_at", [7, 10, 20, 32, 33])
def test_interrupted_simulation_goes_on_with_the_same_bits(stop_at, tiny_run, tmp_path):
    """In a stage, at a stage's start, at a milestone, at a run's end, after it has left."""
    runs = [tiny_run(arm, seed) for seed in range(2) for arm in ARMS]
    runs.append(replace(runs[0], arm="B-80", training=replace(runs[0].training, length=0.8)))
    whole = trained(runs)
    first = Simulation(runs)
    first.advance(stop_at)
    again = Simulation(runs)
    path = tmp_path / "state.pt"
    save_state(path, first.state())
    again.load_state(load_state(path), "kept")
    again.advance(40)
    last = again.snapshot()
    for place, run in enumerate(last.runs):
        for name, part in last.weights.named().items():
            assert torch.equal(part[place], whole[run.arm, run.seed, 0][name]), name
        assert torch.equal(last.birth_stage[place], whole[run.arm, run.seed, 0]["birth"])


def test_stop_and_go_hands_out_every_milestone_once(tiny_run, tmp_path):
    training = {"milestones": (5, "50%", "stages")}
    runs = [tiny_run(arm, 0, training) for arm in ("B", "C")]
    path, seen = tmp_path / "state.pt", []
    take = lambda snapshot: seen.append((snapshot.step, [run.arm for run in snapshot.runs]))  # noqa: E731
    turns = 0
    while not simulate(runs, take, state_path=path, should_stop=lambda: True):
        assert path.exists()
        turns += 1
    assert turns >= 3 and not path.exists()
    assert seen == [(5, ["B", "C"]), (10, ["C"]), (20, ["B", "C"]), (40, ["B", "C"])]


def test_masked_neurons_stay_as_they_were_and_grow_as_in_the_house(tiny_run):
    run = tiny_run("CS", 3)
    simulation, start = Simulation([run]), initial_weights([run], torch.float64)
    plan = planned(run)
    for stage, end in zip(plan.stages, (10, 20, 40), strict=True):
        simulation.advance(end)
        state = simulation.state()
        on = state["masks"]["mask"][0] == 1
        assert int(on.sum()) == active_count(8, stage.config.sparsity)
        assert bool((state["masks"]["births"][0] <= stage.index).all())
        for name in ("incoming", "outgoing", "time", "bias"):
            moved = state["weights"][name][0] != start.named()[name][0]
            moved = moved.flatten(1).any(1) if moved.dim() == 2 else moved
            assert bool((moved == on).all()), name
    assert [event["channels_on"] for _, event in simulation.stage_log] == [3, 6, 8]
    assert simulation.stage_log[0][1].keys() == {"step", "stage", "channels_on"}
    grown = simulation.stage_log[1][1]["channels_grown"]
    assert (state["masks"]["births"][0] == 1).nonzero().flatten().tolist() == grown


def test_penalty_is_the_sum_of_the_norms_of_what_neurons_read(tiny_run):
    """Its gradient is λ w/‖w‖, and 0 where w is 0; arms without it are not touched."""
    runs = [tiny_run("CR"), tiny_run("C")]
    simulation = Simulation(runs)
    weights = simulation._weights.incoming
    with torch.no_grad():
        weights[0, 2] = 0.0
    penalty = simulation._penalty(torch.tensor([6e-4, 0.0]).double())
    torch.testing.assert_close(penalty, 6e-4 * weights[0].norm(dim=1).sum())
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert bool((gradient[0, 2] == 0).all()) and bool((gradient[1] == 0).all())
    torch.testing.assert_close(gradient[0, 1].norm(), torch.tensor(6e-4).double())
    both = trained(runs)
    assert float(both["CR", 0, 0]["incoming"].norm()) < float(both["C", 0, 0]["incoming"].norm())


def test_arms_of_a_seed_share_draws_and_start(tiny_run):
    runs = [tiny_run("B", 1), tiny_run("CS", 1), tiny_run("B", 2), tiny_run("B", 1, noise_stream=1)]
    draws, start = Draws(runs, torch.float64), initial_weights(runs, torch.float64)
    block = draws.block(4, 3)
    assert draws.of_run.tolist() == [0, 0, 2, 1]
    assert torch.equal(start.incoming[0], start.incoming[1])
    assert torch.equal(start.incoming[0], start.incoming[3])
    for one in (block.x, block.noise, block.u):
        assert not torch.equal(one[0], one[1]) and not torch.equal(one[0], one[2])
    later = draws.block(5, 1)
    assert torch.equal(block.x[:, 1], later.x[:, 0]) and torch.equal(block.u[:, 1], later.u[:, 0])
    noise = normals(2, Stream.NOISE, torch.arange(16), 5, (6,)).double()
    assert torch.equal(later.noise[2, 0], noise)


def test_limited_samples_come_again_and_are_the_same_for_every_noise_stream(tiny_run):
    data = replace(tiny_run().data, num_train=16)
    runs = [tiny_run(data=data), tiny_run(data=data, noise_stream=1)]
    x = Draws(runs, torch.float64).block(0, 2).x

    def rows(batch):
        return sorted(map(tuple, batch.tolist()))

    assert rows(x[0, 0]) == rows(x[0, 1]) == rows(x[1, 0])
    assert not torch.equal(x[0, 0], x[1, 0]) and not torch.equal(x[0, 0], x[0, 1])


def test_controls_of_the_house_are_arms_here(tiny_run):
    c = tiny_run("C")
    runs = [c]
    for kind in ("density", "static", "anti", "flat"):
        runs.append(replace(c, arm=kind, curriculum=control(c.curriculum, kind, c.seed)))
    found = trained(runs)
    weights = [found[run.arm, 0, 0]["incoming"] for run in runs]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    assert planned(runs[1]).stages[-1].density == planned(c).stages[-1].density


def test_mask_and_time_and_biases_of_a_network():
    one = torch.ones(1, 1, 1).double()
    weights = Weights(2 * one, 3 * one, one[..., 0], 0.5 * one[..., 0], 0.1 * one[..., 0])
    x, told = torch.tensor([[[1.0], [-1.0]]]).double(), torch.tensor([[0.25, 0.0]]).double()
    expected = torch.tensor([[[3 * 2.75 + 0.1], [0.1]]]).double()
    torch.testing.assert_close(answers(weights, x, told), expected)
    off = answers(weights, x, told, torch.zeros(1, 1).double())
    torch.testing.assert_close(off, torch.full_like(off, 0.1))


@pytest.mark.parametrize("kind", ["vpsde", "ddpm"])
def test_processes_of_the_house_serve_too(kind, tiny_run):
    from mindiffusion.config.process import PROCESSES

    run = tiny_run("C", process=PROCESSES[kind]())
    assert_same(
        *(next(iter(trained(runs).values())) for runs in ([run], [run, replace(run, seed=1)]))
    )
    level = process_of(run).level(torch.tensor([0.5]))
    x = torch.ones(1, 3, 1, 1).double()
    assert float(add_noise(x, level, 0 * x).mean()) == pytest.approx(float(level.alpha))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: [], "without runs"),
        (lambda run: [run, replace(run, data=replace(run.data, alpha2=0.4))], "differ in data"),
        (lambda run: [run, replace(run, training=replace(run.training, lr=1.0))], "differ in data"),
    ],
)  # fmt: skip
def test_runs_that_share_no_program_are_refused(change, message, tiny_run):
    with pytest.raises(UserError, match=message) as error:
        Simulation(change(tiny_run()))
    assert "\n" not in str(error.value)


def test_runs_that_diverge_are_named(tiny_run):
    run = tiny_run(training={"lr": 1e300})
    with pytest.raises(UserError, match="run B of seed 0 has weights that are not finite at step"):
        simulate([run], lambda snapshot: None)


@pytest.mark.parametrize("spoil", ["runs", "shape", "places", "type", "averages"])
def test_state_of_other_runs_is_refused(spoil, tiny_run):
    simulation = Simulation([tiny_run()])
    simulation.advance(3)
    state = simulation.state()
    if spoil == "runs":
        state["runs"] = ["0" * 12]
    elif spoil == "shape":
        state["weights"] = {n: w[:, :3] for n, w in state["weights"].items()}
    elif spoil == "places":
        state["places"] = [4]
    elif spoil == "averages":
        state["averages"].pop("time.exp_avg")
    else:
        state = [1]
    with pytest.raises(UserError, match="kept") as error:
        Simulation([tiny_run()]).load_state(state, "kept")
    assert "\n" not in str(error.value)
