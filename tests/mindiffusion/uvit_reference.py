"""U-ViT written out from docs/methods.md, U-ViT, on a state dict: sums, products and erf alone."""

import math

import torch


def norm(w, name, x):
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w, name, x):
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w.get(f"{name}.bias", 0)


def attention(w, name, x, heads):
    qkv = linear(w, f"{name}.qkv", x)
    width = qkv.shape[-1] // 3
    read = torch.empty(*x.shape[:2], width, dtype=x.dtype)
    for head in range(heads):
        size = width // heads
        q, k, v = (
            qkv[..., part * width + head * size : part * width + (head + 1) * size]
            for part in range(3)
        )
        scores = torch.einsum("bid,bjd->bij", q, k) / math.sqrt(size)
        shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
        read[..., head * size : (head + 1) * size] = torch.einsum("bij,bjd->bid", shares, v)
    return linear(w, f"{name}.proj", read)


def block(w, name, x, heads, skip=None, how=True):
    if skip is not None:
        joined = torch.cat((x, skip), -1)
        x = x + skip if how == "add" else linear(w, f"{name}.skip_linear", joined)
    x = x + attention(w, f"{name}.attn", norm(w, f"{name}.norm1", x), heads)
    hidden = linear(w, f"{name}.mlp.fc1", norm(w, f"{name}.norm2", x))
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return x + linear(w, f"{name}.mlp.fc2", hidden)


def sinusoid(t, dim):
    columns = [torch.cos(t * 10_000 ** (-j / (dim // 2))) for j in range(dim // 2)]
    columns += [torch.sin(t * 10_000 ** (-j / (dim // 2))) for j in range(dim // 2)]
    return torch.stack(columns + [torch.zeros_like(t)] * (dim % 2), dim=1)


def reference(w, x, t, *, patch, depth, heads, skip=True, label=None, text=None, on=None):
    """The prediction, (B, C, H, W).

    Args:
        on: (D,) bool, the dimensions that the stream of ``w`` has; None: all.
    """
    batch, channels, height, width = x.shape
    rows, columns = height // patch, width // patch
    kernel = w["patch_embed.proj.weight"]
    squares = x.reshape(batch, channels, rows, patch, columns, patch)
    patches = torch.einsum("bcrpsq,dcpq->brsd", squares, kernel).flatten(1, 2)
    patches = patches + w["patch_embed.proj.bias"]

    on = torch.ones(len(kernel), dtype=torch.bool) if on is None else on
    time = sinusoid(999.0 * t, len(on))
    if "time_embed.0.weight" in w:
        hidden = linear(w, "time_embed.0", time)
        time = linear(w, "time_embed.2", hidden / (1 + (-hidden).exp()))
    else:
        time = time[:, on]
    extras = [time[:, None]]
    if label is not None:
        extras = [w["label_emb.weight"][label][:, None], *extras]
    if text is not None:
        extras = [*extras, linear(w, "context_embed", text)]
    x = torch.cat((*extras, patches), 1) + w["pos_embed"]

    kept = []
    for number in range(depth // 2):
        x = block(w, f"in_blocks.{number}", x, heads)
        kept.append(x)
    x = block(w, "mid_block", x, heads)
    for number in range(depth // 2):
        earlier = kept[depth // 2 - 1 - number] if skip else None
        x = block(w, f"out_blocks.{number}", x, heads, earlier, skip)
    x = linear(w, "decoder_pred", norm(w, "norm", x))[:, -rows * columns :]
    x = x.reshape(batch, rows, columns, patch, patch, channels)
    x = torch.einsum("brspqc->bcrpsq", x).reshape(batch, channels, height, width)
    if "final_layer.weight" not in w:
        return x
    wide = torch.zeros(batch, channels, height + 2, width + 2, dtype=x.dtype)
    wide[:, :, 1:-1, 1:-1] = x
    around = [wide[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    kernel = w["final_layer.weight"].flatten(2)
    sums = torch.einsum("nbchw,ocn->bohw", torch.stack(around), kernel)
    return sums + w["final_layer.bias"][:, None, None]
