import math

import numpy as np
import pytest
import torch

from benchmark.evaluation.features_of.jacobian import (
    jacobian_spectrum,
    leading_values,
    linear_values,
    products,
)
from benchmark.evaluation.features_of.spectrum import effective_rank_of
from benchmark.evaluation.metrics.linear_oracle import LinearOracle
from mindiffusion.build import build_network, build_process
from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.noise import Stream, normals
from mindiffusion.process import Model, from_x0

PROCESS = DDPMProcess(Chain((1e-3, 0.1), 100))
LEVEL = PROCESS.level(torch.tensor([0.4]))


def oracle(side, decay):
    """The linear denoiser of data whose variances fall along random axes of (3, side, side)."""
    dim = 3 * side**2
    drawn = normals(0, Stream.NOISE, torch.arange(dim), 0, (dim,)).double()
    values = 4.0 * torch.arange(1, dim + 1, dtype=torch.float64) ** -decay
    return LinearOracle(torch.zeros(dim, dtype=torch.float64), values, torch.linalg.qr(drawn).Q, 9)


def noisy(side):
    return normals(1, Stream.NOISE, torch.arange(1), 0, (3, side, side))


def test_jacobian_of_the_linear_denoiser_has_its_gains():
    """V diag(λ/(λ + (sigma/alpha)²)) Vᵀ, whatever the image."""
    denoise = oracle(4, 1.0)
    found = jacobian_spectrum(denoise, noisy(4), LEVEL, seed=0, image=0)
    ratio = float(LEVEL.sigma) / float(LEVEL.alpha)
    expected = (denoise.eigenvalues / (denoise.eigenvalues + ratio**2)).numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    np.testing.assert_allclose(linear_values(denoise.eigenvalues, LEVEL).numpy(), expected)
    assert found.effective_rank == pytest.approx(effective_rank_of(expected), rel=1e-5)


def test_jacobian_is_of_the_image_in_the_datas_scale_and_not_of_its_transpose():
    """x̂₀ = A x_t with A not symmetric: products are A·alpha v, and its transpose's."""
    matrix = normals(3, Stream.NOISE, torch.arange(12), 0, (12,)).double()

    def denoise(x_t, level):
        return from_x0(x_t, level, (x_t.flatten(1) @ matrix.T).view_as(x_t))

    x_t = noisy(2).double()
    forward, backward = products(denoise, x_t, LEVEL)
    eye, alpha = torch.eye(12, dtype=torch.float64), float(LEVEL.alpha)
    torch.testing.assert_close(forward(eye), alpha * matrix.T)
    torch.testing.assert_close(backward(eye), alpha * matrix)


def test_leading_values_of_a_large_matrix_are_those_of_its_spectrum():
    """Of 900 values; the exact way would be taken up to 768."""
    values = torch.arange(1, 901, dtype=torch.float64) ** -0.7
    start, probes = (
        normals(2, Stream.JACOBIAN, torch.arange(count), step, (900,)).double()
        for step, count in enumerate((40, 16))
    )
    found = leading_values(lambda v: v * values, lambda v: v * values, start, probes)
    assert found.values.shape == (32,)
    np.testing.assert_allclose(found.values[:16], values[:16], rtol=0.02)
    np.testing.assert_allclose(found.values, values[:32], rtol=0.12)
    assert found.effective_rank == pytest.approx(effective_rank_of(values.numpy()), rel=0.05)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("model={network: uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}",),
        ("model={network: dit, patch_size: 8, hidden_size: 16, depth: 1, num_heads: 2}",),
        ("model={network: song_unet, model_channels: 8, channel_mult: [1, 1], num_blocks: 1}",),
    ],
    ids=["unet", "uvit", "dit", "song_unet"],
)
def test_products_of_a_network_are_its_derivatives(words, tiny_config):
    """Against a difference quotient along one direction; and u·(J v) = (Jᵀ u)·v."""
    config = tiny_config("b", *words)
    network = build_network(config).double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():  # some begin as zeros, to be idle
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.requires_grad_(False)
    process = build_process(config)
    model, level = Model(network, process), process.level(torch.tensor([0.5]))
    x_t = noisy(32).double()
    forward, backward = products(model, x_t, level)
    u, v = normals(4, Stream.NOISE, torch.arange(2), 0, (3072,)).double().split(1)
    along = forward(v)
    assert float((u * along).sum()) == pytest.approx(float((backward(u) * v).sum()), rel=1e-8)
    step, alpha = 1e-5, float(level.alpha)
    ends = [
        model(x_t + sign * step * alpha * v.view_as(x_t), level).x0.flatten(1) for sign in (1, -1)
    ]
    quotient = (ends[0] - ends[1]) / (2 * step)
    assert float((quotient - along).norm() / along.norm()) < 1e-4


def test_spectrum_is_a_function_of_its_keys_whatever_the_number_of_calls(monkeypatch):
    denoise = oracle(16, 0.8)
    monkeypatch.setattr("benchmark.evaluation.features_of.jacobian.EXACT_UP_TO", 100)
    first = jacobian_spectrum(denoise, noisy(16), LEVEL, seed=3, image=1)
    again = jacobian_spectrum(denoise, noisy(16), LEVEL, seed=3, image=1)
    assert np.array_equal(first.values, again.values)
    other = jacobian_spectrum(denoise, noisy(16), LEVEL, seed=3, image=2)
    assert not np.array_equal(first.values, other.values)
    monkeypatch.setattr("benchmark.evaluation.features_of.jacobian._BATCH", 7)
    parts = jacobian_spectrum(denoise, noisy(16), LEVEL, seed=3, image=1)
    np.testing.assert_allclose(parts.values, first.values, rtol=1e-5)
    expected = linear_values(denoise.eigenvalues, LEVEL).numpy()
    np.testing.assert_allclose(first.values[:8], expected[:8], rtol=0.02)
    assert math.isclose(first.effective_rank, effective_rank_of(expected), rel_tol=0.1)
