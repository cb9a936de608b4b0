"""A linear layer of tokens as a convolution: the same products, only where it is faster."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mindiffusion.dit import DiT
from mindiffusion.uvit import UViT
from mindiffusion.uvit_layers import TokenLinear


@pytest.fixture
def convolutions(monkeypatch):
    """Rows of tokens that were convolved; the CPU counts as one where that is faster."""
    seen, convolve = [], F.conv2d

    def noted(x, *rest):
        if x.shape[2] == 1:
            seen.append(x)
        return convolve(x, *rest)

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(F, "conv2d", noted)
    return seen


def tokens(count=16, dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(count, 5, 6, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_its_gradients_are_those_of_a_linear_layer(bias, convolutions):
    torch.manual_seed(0)
    layer = TokenLinear(6, 8, bias=bias)
    x, direction = tokens(), torch.randn(16, 5, 8)
    wanted = [x, *layer.parameters()]
    plain = nn.Linear.forward(layer, x)
    found = layer(x)
    assert len(convolutions) == 1
    # Handed over and taken back without a copy.
    assert convolutions[0].data_ptr() == x.data_ptr() and found.is_contiguous()
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    gradients = (torch.autograd.grad(y, wanted, direction) for y in (found, plain))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_elsewhere_it_is_a_linear_layer_in_all_bits(convolutions, monkeypatch):
    layer = TokenLinear(6, 8)
    for x in (tokens(15), tokens(dtype=torch.float64)):
        layer.to(x.dtype)
        assert torch.equal(layer(x), nn.Linear.forward(layer, x))
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(tokens()).dtype == torch.bfloat16
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert torch.equal(layer(tokens()), nn.Linear.forward(layer, tokens()))
    assert not convolutions


def test_dit_has_it_in_its_blocks_and_is_the_same_network(convolutions):
    torch.manual_seed(0)
    net = DiT(8, 2, 3, 24, 2, 3, num_classes=None, learn_sigma=False)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    x, told = torch.randn(16, 3, 8, 8), torch.linspace(0, 999, 16)
    with torch.no_grad():
        found = net(x, told)
        assert len(convolutions) == 4 * 2
        alone = torch.cat([net(x[k : k + 1], told[k : k + 1]) for k in range(16)])
    assert len(convolutions) == 4 * 2
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


def test_u_vit_has_it_in_its_blocks_and_is_the_same_network(convolutions):
    torch.manual_seed(0)
    net = UViT(img_size=8, patch_size=2, in_chans=3, embed_dim=24, depth=2, num_heads=3)
    x, told = torch.randn(16, 3, 8, 8), torch.linspace(0, 999, 16)
    with torch.no_grad():
        found = net(x, told)
        # Three blocks of four layers, and the linear layer of one skip.
        assert len(convolutions) == 4 * 3 + 1
        alone = torch.cat([net(x[k : k + 1], told[k : k + 1]) for k in range(16)])
    assert len(convolutions) == 4 * 3 + 1
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
