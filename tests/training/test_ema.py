import pytest
import torch
from torch import nn

from mindiffusion.config.run import ema_name
from mindiffusion.config.shares import decay_of
from mindiffusion.training.ema import Averages


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        self.register_buffer("channel_mask", torch.tensor([1.0, 0.0]))

    def move(self, value):
        with torch.no_grad():
            self.weight.fill_(value)


def warm(decay, k):
    return min(decay, (1 + k) / (10 + k))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_average_is_the_closed_form(decay):
    net = Net()
    averages = Averages(net, (decay,), 100)
    expected = net.weight.detach().clone()
    for k in range(1, 40):
        net.move(float(k))
        averages.update()
        expected = warm(decay, k) * expected + (1 - warm(decay, k)) * k
    torch.testing.assert_close(averages.weights(decay)["weight"], expected, rtol=1e-12, atol=0)


def test_average_weights_are_a_geometric_sum_after_the_warm_up():
    net = Net()
    averages = Averages(net, (0.2,), 100)
    for _k in range(1, 4):
        net.move(0.0)
        averages.update()
    start = averages.weights(0.2)["weight"]
    for _ in range(10):
        net.move(1.0)
        averages.update()
    expected = start * 0.2**10 + (1 - 0.2**10)
    torch.testing.assert_close(averages.weights(0.2)["weight"], expected)


def test_warm_up_forgets_the_random_start():
    net = Net()
    start = net.weight.detach().clone()
    averages = Averages(net, (0.9999,), 100)
    for _ in range(40):
        net.move(5.0)
        averages.update()
    left = (averages.weights(0.9999)["weight"] - 5) / (start - 5)
    # A plain average of this length would hold 99.6 % of the start; this one Π (1+k)/(10+k).
    product = torch.tensor([(1 + k) / (10 + k) for k in range(1, 41)]).double().prod()
    torch.testing.assert_close(left, product.expand(2), rtol=1e-5, atol=0)
    assert product < 1e-5


def test_buffers_are_copied_never_averaged():
    net = Net()
    averages = Averages(net, (0.9,), 100)
    net.channel_mask.copy_(torch.tensor([1.0, 1.0]))
    averages.update()
    assert averages.weights(0.9)["channel_mask"].tolist() == [1.0, 1.0]


def test_lengths_are_apart_and_weights_are_copies():
    net = Net()
    averages = Averages(net, (0.99, 0.5), 100)
    for k in range(1, 200):
        net.move(float(k))
        averages.update()
    slow, fast = (averages.weights(d)["weight"] for d in (0.99, 0.5))
    assert (slow < fast).all() and (fast < net.weight).all()
    kept = fast.clone()
    net.move(-100.0)
    averages.update()
    assert torch.equal(fast, kept)


def test_state_round_trips():
    net = Net()
    averages = Averages(net, (0.99, 0.5), 100)
    for k in range(5):
        net.move(float(k))
        averages.update()
    state = {"num_updates": averages.num_updates, **averages.state_dict()}
    state["averages"] = {
        n: {k: t.clone() for k, t in a.items()} for n, a in state["averages"].items()
    }
    other_net = Net()
    other_net.move(4.0)
    other = Averages(other_net, (0.99, 0.5), 100)
    other.load_state_dict(state)
    for pair in ((net, averages), (other_net, other)):
        pair[0].move(9.0)
        pair[1].update()
    for decay in (0.99, 0.5):
        assert torch.equal(averages.weights(decay)["weight"], other.weights(decay)["weight"])


def test_a_half_life_is_a_share_of_the_steps():
    net = Net()
    averages = Averages(net, ("5%",), 400)
    before = net.weight.detach().clone()
    for _ in range(2000):
        averages.update()  # until the decay has warmed up
    net.move(7.0)
    for _ in range(20):
        averages.update()
    moved = (averages.weights("5%")["weight"] - before) / (net.weight.detach() - before)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=1e-3, atol=0)
    assert averages.names == ("ema-half0.05",)
    assert decay_of("0.25%", 390_625) == pytest.approx(0.999290, abs=1e-6)  # EDM's, CIFAR-10


def test_names_are_short():
    assert ema_name("0.25%") == "ema-half0.0025"
    assert [ema_name(d) for d in (0.9999, 0.995, 0.9)] == ["ema0.9999", "ema0.995", "ema0.9"]


def test_a_runs_average_differs_from_its_start_and_its_end(workdir, train_run, tiny_config):
    from mindiffusion.build import build_network
    from mindiffusion.training import checkpoint

    config = tiny_config("cs")
    train_run(config)
    weights = checkpoint.load(checkpoint.weights_path(config.run_dir, 24))["weights"]
    assert list(weights) == ["ema0.99", "ema0.9", "raw"]
    start = build_network(config).state_dict()
    for name in (n for n, p in build_network(config).named_parameters() if p.dim() > 1):
        tensors = [start[name], *(w[name] for w in weights.values())]
        gaps = [(a - b).norm() for i, a in enumerate(tensors) for b in tensors[:i]]
        # Warm-up decays stay below .9 for 80 steps, so both lengths are one here.
        assert [float(g) > 0 for g in gaps] == [True, True, False, True, True, True], name
    for kept in weights.values():
        assert torch.equal(kept["channel_mask"], torch.ones(16))
