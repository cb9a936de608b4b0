"""The VP-SDE against figures worked out apart from it, and its loss weights between the levels."""

import math

import numpy as np
import pytest
import torch

from mindiffusion.chain import LOWEST_TIME, Chain, LinearBeta
from mindiffusion.curriculum.loss_weight import EDM, P2, Balanced, ChangeAware, MinSNR
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.vpsde import VPSDEProcess

USUAL = LinearBeta(0.1, 20.0)
PROCESS = VPSDEProcess(USUAL)


def level(t, process=PROCESS):
    return process.level(torch.tensor([t], dtype=torch.float64))


@pytest.mark.parametrize("t", [1e-5, 1e-3, 0.1, 0.5, 1.0])
def test_levels_are_in_closed_form(t):
    one, integral = level(t), 0.1 * t + 9.95 * t * t
    assert float(one.alpha) == pytest.approx(math.exp(-integral / 2), rel=1e-14)
    assert float(one.sigma) == pytest.approx(math.sqrt(-math.expm1(-integral)), rel=1e-14)
    # The SNR is 1/expm1(∫β); 1 − ᾱ as a difference in float32 is off by .6 % at t = 1e-5.
    snr = float(one.alpha / one.sigma) ** 2
    assert snr == pytest.approx(1 / math.expm1(integral), rel=1e-12)
    assert float(one.told) == float(one.t) == t and float(one.weight) == 1


def test_constant_beta_is_a_schedule_too():
    flat = VPSDEProcess(LinearBeta(3.0, 3.0))
    assert float(level(0.5, flat).alpha) == pytest.approx(math.exp(-0.75))
    times = [jump.level.time for jump in flat.jumps(9, "log_snr")]
    ratios = [math.log(float(level(t, flat).sigma / level(t, flat).alpha)) for t in times]
    np.testing.assert_allclose(np.diff(ratios, 2), 0, atol=1e-9)
    assert times[0] == 1 and times[-1] == LOWEST_TIME


def test_time_is_the_inverse_of_the_integral():
    t = np.linspace(1e-6, 1, 1001)
    np.testing.assert_allclose(USUAL.time(USUAL.integral(t)), t, rtol=1e-13)


def test_steps_even_in_time_end_at_the_lowest_level():
    times = [jump.level.time for jump in PROCESS.jumps(1000)]
    np.testing.assert_allclose(times, np.arange(1000, 0, -1) / 1000, rtol=1e-12)
    assert [jump.level.time for jump in PROCESS.jumps(2)] == [1, LOWEST_TIME]
    assert [jump.level.time for jump in PROCESS.jumps(1)] == [1]


@pytest.mark.parametrize("weight", [P2(), MinSNR(), EDM(), Balanced(), ChangeAware()])
def test_loss_weights_are_those_of_a_fine_chain(weight):
    """With n steps of β/n between its levels a chain comes near to the SDE."""
    n = 20_000
    chain = DDPMProcess(Chain((0.1 / n, 20 / n), n), None, weight, 0.5)
    t = torch.tensor([0.01, 0.1, 0.4, 0.9]).double()
    found = VPSDEProcess(USUAL, None, weight, 0.5).level(t).weight
    np.testing.assert_allclose(found, chain.level(t).weight, rtol=5e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("process.beta_min=5.0", "process.beta_max=1.0"), "beta_min 5 is above beta_max 1"),
        (("process.beta_max=200.0",), "leave less than 1e-20 of the signal at t = 1"),
        (("process.beta_min=0.0",), "process.beta_min"),
        (("process.n_T=10",), "unknown key 'process.n_T' of vpsde; it is a key of ddpm"),
    ],
)
def test_senseless_settings_are_one_line(words, message, tiny_config):
    with pytest.raises(UserError) as error:
        tiny_config("b", "process.kind=vpsde", *words)
    assert message in str(error.value) and "\n" not in str(error.value)
