"""The group norm that the compiler is given is the group norm."""

import pytest
import torch
from torch import nn

from mindiffusion.layers import GroupNorm, group_norm_from_sums


def maps(dtype, channels=16, mean=3.0):
    torch.manual_seed(0)
    x = mean + torch.randn(4, channels, 6, 6, dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def weights(dtype, channels=16):
    torch.manual_seed(1)
    return (torch.randn(channels, dtype=dtype).requires_grad_() for _ in range(2))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_group_norm_from_sums_is_group_norm(dtype, tolerance):
    results = []
    for norm, wide in ((nn.functional.group_norm, torch.float64), (group_norm_from_sums, dtype)):
        x = maps(dtype).detach().to(wide).requires_grad_()
        weight, bias = weights(torch.float64 if dtype == torch.float64 else torch.float32)
        if norm is nn.functional.group_norm:
            weight, bias = (t.detach().double().requires_grad_() for t in (weight, bias))
        y = norm(x, 8, weight, bias, 1e-5)
        assert y.dtype == wide
        (y.double() * (torch.arange(y.numel()).view(y.shape) % 7)).sum().backward()
        results.append([t.double() for t in (y, x.grad, weight.grad, bias.grad)])
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= tolerance * a.norm()


def test_group_norm_from_sums_of_a_constant_map_is_the_bias():
    weight, bias = weights(torch.float32)
    y = group_norm_from_sums(torch.full((2, 16, 4, 4), 5.0), 8, weight, bias, 1e-5)
    assert torch.allclose(y, bias[None, :, None, None].expand_as(y), atol=1e-3)


def test_group_norm_keeps_the_names_and_eager_results_of_torch():
    ours, theirs = GroupNorm(8, 16), nn.GroupNorm(8, 16)
    theirs.load_state_dict(ours.state_dict())
    x = maps(torch.float32).detach()
    assert torch.equal(ours(x), theirs(x))
