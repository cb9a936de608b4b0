import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.speed import limits
from benchmark.speed.limits import Rates, floors, measure_rates
from mindiffusion.runtime import supports_bf16
from mindiffusion.step_cost import StepCost, step_cost
from mindiffusion.unet import NaiveUnet


def cost(n_feat, side=32):
    return step_cost(NaiveUnet(3, 3, n_feat), 3, side)


def test_step_moves_the_bytes_of_the_issue():
    assert cost(32).bytes / 1e6 == pytest.approx(13.7, abs=0.05)


@pytest.mark.parametrize(("n_feat", "gflop"), [(16, 0.257), (32, 1.013), (64, 4.03), (128, 16.0)])
def test_step_takes_the_operations_of_the_methods(n_feat, gflop):
    assert cost(n_feat).flops / 1e9 == pytest.approx(gflop, rel=3e-3)


def test_bytes_of_one_layer_are_its_input_and_output_thrice_in_bf16():
    class OneConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3, padding=1)
            self.act = nn.ReLU()

        def forward(self, x, t):
            return self.act(self.conv(x))

    found = step_cost(OneConvolution(), 3, 8)
    assert found.bytes == 3 * 2 * (3 + 5) * 64
    # Forward and weight gradient: the image itself needs no gradient.
    assert found.flops == 2 * (2 * 9 * 3 * 5 * 64)


def test_four_times_the_pixels_cost_four_times_as_much():
    small, large = cost(8), cost(8, side=64)
    assert large.bytes == 4 * small.bytes
    assert large.flops == pytest.approx(4 * small.flops, rel=1e-3)


def test_count_leaves_the_network_as_it_was():
    network = NaiveUnet(3, 3, 8)
    step_cost(network, 3, 32)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_floor_is_work_over_rate():
    found = floors(StepCost(bytes=200, flops=900), Rates(100.0, 30.0, 300.0))
    assert found == {"bandwidth": 2.0, "matrices": 3.0}


def test_rates_are_measured_on_the_device():
    rates = measure_rates(torch.device("cpu"))
    assert min(rates.copy_bytes, rates.fp32_flops) > 0
    # Emulated products would take minutes, and limit nothing.
    assert (rates.bf16_flops is not None) == supports_bf16("cpu")


def test_emulated_bf16_limits_nothing():
    rates = Rates(100.0, 30e12, None)
    assert rates.fastest == 30e12 and rates.words == "float32 30 TFLOP/s, bf16 emulated"
    assert replace(rates, bf16_flops=60e12).fastest == 60e12


def test_rate_of_a_run_is_that_of_its_precision():
    rates = Rates(100.0, 30.0, 300.0)
    assert [rates.of(precision) for precision in ("fp32", "fp64", "bf16")] == [30.0, 30.0, 300.0]
    assert replace(rates, bf16_flops=None).of("bf16") == 30.0


def test_float32_rate_is_not_of_tf32(monkeypatch):
    seen = set()

    def convolved(*arguments):
        seen.add((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))

    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(limits, "conv2d", convolved)
    # Nothing done is not timed as work: the clock is the test's own.
    monkeypatch.setattr(limits.time, "perf_counter", itertools.count().__next__)
    measure_rates(torch.device("cpu"))
    assert seen == {(True, False)} and torch.backends.cudnn.allow_tf32 == before
