"""DiT written out from docs/networks.md, DiT, on a state dict: sums, products and tanh alone."""

import math

import torch


def linear(w, name, x):
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def silu(x):
    return x / (1 + (-x).exp())


def gelu(x):
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def modulated_norm(x, shift, scale):
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return normed * (1 + scale[:, None]) + shift[:, None]


def attention(w, name, x, heads):
    qkv = linear(w, f"{name}.qkv", x)
    width = x.shape[-1]
    size = width // heads
    read = torch.empty_like(x)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        q, k, v = (qkv[..., part * width : (part + 1) * width][..., own] for part in range(3))
        scores = torch.einsum("bid,bjd->bij", q, k) / math.sqrt(size)
        shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
        read[..., own] = torch.einsum("bij,bjd->bid", shares, v)
    return linear(w, f"{name}.proj", read)


def timestep(times):
    angles = [times * math.exp(-math.log(10_000) * i / 128) for i in range(128)]
    return torch.stack([torch.cos(a) for a in angles] + [torch.sin(a) for a in angles], dim=1)


def reference(w, x, times, *, patch, depth, heads, out, rows=None):
    """The answer, (B, out, H, W).

    Args:
        rows: (B,) rows of the table of classes; None: there is none.
    """
    batch, channels, height, width = x.shape
    down, across = height // patch, width // patch
    squares = x.reshape(batch, channels, down, patch, across, patch)
    tokens = torch.einsum("bcrpsq,dcpq->brsd", squares, w["x_embedder.proj.weight"])
    tokens = tokens.flatten(1, 2) + w["x_embedder.proj.bias"] + w["pos_embed"]
    told = linear(w, "t_embedder.mlp.2", silu(linear(w, "t_embedder.mlp.0", timestep(times))))
    if rows is not None:
        told = told + w["y_embedder.embedding_table.weight"][rows]
    for number in range(depth):
        at = f"blocks.{number}"
        six = linear(w, f"{at}.adaLN_modulation.1", silu(told)).unflatten(-1, (6, -1))
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = six.unbind(1)
        read = attention(w, f"{at}.attn", modulated_norm(tokens, shift, scale), heads)
        tokens = tokens + gate[:, None] * read
        hidden = linear(w, f"{at}.mlp.fc1", modulated_norm(tokens, shift_mlp, scale_mlp))
        tokens = tokens + gate_mlp[:, None] * linear(w, f"{at}.mlp.fc2", gelu(hidden))
    shift, scale = linear(w, "final_layer.adaLN_modulation.1", silu(told)).chunk(2, -1)
    values = linear(w, "final_layer.linear", modulated_norm(tokens, shift, scale))
    values = values.reshape(batch, down, across, patch, patch, out)
    return torch.einsum("brspqc->bcrpsq", values).reshape(batch, out, height, width)
