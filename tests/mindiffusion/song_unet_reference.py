"""SongUNet written out from docs/networks.md, SongUNet, on a state dict, by sums and products."""

import math

import torch


def linear(w, name, x):
    return torch.einsum("bi,oi->bo", x, w[f"{name}.weight"]) + w.get(f"{name}.bias", 0)


def windows(x, kernel, stride, padding):
    """(B, C, H, W) → (B, C, kernel², H', W'): what each place of a kernel sees."""
    batch, channels, height, width = x.shape
    wide = torch.zeros(batch, channels, height + 2 * padding, width + 2 * padding, dtype=x.dtype)
    wide[:, :, padding : padding + height, padding : padding + width] = x
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    seen = [
        wide[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
        [:, :, :rows, :columns]
        for i in range(kernel) for j in range(kernel)
    ]  # fmt: skip
    return torch.stack(seen, 2)


def plain_conv(w, name, x, padding=None):
    kernel = w[f"{name}.weight"]
    size = kernel.shape[-1]
    seen = windows(x, size, 1, size // 2 if padding is None else padding)
    return torch.einsum("bckhw,ock->bohw", seen, kernel.flatten(2))


def halved(x, taps, padding):
    """Each channel through the outer product of the taps over its sum, at every second place."""
    weights = [a * b / sum(taps) ** 2 for a in taps for b in taps]
    seen = windows(x, len(taps), 2, padding)
    return torch.einsum("bckhw,k->bchw", seen, torch.tensor(weights, dtype=x.dtype))


def doubled(x, taps):
    """Each channel with zeros between its pixels through four times the filter."""
    batch, channels, height, width = x.shape
    spread = torch.zeros(batch, channels, 2 * height, 2 * width, dtype=x.dtype)
    spread[:, :, ::2, ::2] = x
    # A transposed convolution turns the filter round, which is its own mirror image.
    n = len(taps)
    reach = n - 1 - (n - 1) // 2
    weights = [4 * a * b / sum(taps) ** 2 for a in taps for b in taps]
    seen = windows(spread, n, 1, reach)[..., : 2 * height, : 2 * width]
    return torch.einsum("bckhw,k->bchw", seen, torch.tensor(weights, dtype=x.dtype))


def conv(w, name, x, taps=None, how=None):
    margin = 0 if taps is None else (len(taps) - 1) // 2
    if how == "down":
        x = halved(x, taps, margin)
    elif how == "up":
        x = doubled(x, taps)
    return plain_conv(w, name, x) + w[f"{name}.bias"][:, None, None]


def norm(w, name, x):
    channels = x.shape[1]
    groups = min(32, channels // 4)
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    weight, bias = (w[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias"))
    return scaled.reshape(x.shape) * weight + bias


def silu(x):
    return x / (1 + (-x).exp())


def attention(w, name, h):
    batch, channels = h.shape[:2]
    qkv = conv(w, f"{name}.qkv", norm(w, f"{name}.norm2", h)).reshape(batch, 3 * channels, -1)
    query, key, value = (qkv[:, part::3] for part in range(3))
    scores = torch.einsum("bci,bcj->bij", query, key) / math.sqrt(channels)
    shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
    read = torch.einsum("bij,bcj->bci", shares, value).reshape(h.shape)
    return conv(w, f"{name}.proj", read)


def block(w, name, x, emb, taps, how=None):
    h = conv(w, f"{name}.conv0", silu(norm(w, f"{name}.norm0", x)), taps, how)
    h = silu(norm(w, f"{name}.norm1", h + linear(w, f"{name}.affine", emb)[:, :, None, None]))
    h = conv(w, f"{name}.conv1", h)
    skip = conv(w, f"{name}.skip", x, taps, how) if f"{name}.skip.weight" in w else x
    h = (h + skip) / math.sqrt(2)
    return (attention(w, name, h) + h) / math.sqrt(2) if f"{name}.qkv.weight" in w else h


def embedding(w, labels, width, onehot, augment):
    if "map_noise.freqs" in w:
        angles = 2 * math.pi * labels[:, None] * w["map_noise.freqs"]
    else:
        half = width // 2
        steps = torch.tensor([10_000 ** (-i / (half - 1)) for i in range(half)], dtype=labels.dtype)
        angles = labels[:, None] * steps
    emb = torch.cat((angles.sin(), angles.cos()), 1)
    if onehot is not None:
        emb = emb + linear(w, "map_label", onehot * math.sqrt(onehot.shape[1]))
    if augment is not None:
        emb = emb + linear(w, "map_augment", augment)
    return silu(linear(w, "map_layer1", silu(linear(w, "map_layer0", emb))))


def reference(w, x, labels, *, width, levels, blocks, taps=(1, 1), onehot=None, augment=None):
    """The answer, (B, C, H, W).

    Args:
        onehot: (B, classes), a 1 for an image's class, or 0 throughout; None: no classes.
        augment: (B, numbers); None: not augmented.
    """
    emb = embedding(w, labels, width, onehot, augment)
    side, small = x.shape[-1], x
    x = conv(w, f"enc.{side}x{side}_conv", x)
    kept = [x]
    for level in range(levels):
        size = side >> level
        at = f"enc.{size}x{size}"
        if level:
            x = block(w, f"{at}_down", x, emb, taps, "down")
            if f"{at}_aux_residual.weight" in w:
                reach = 1 + (len(taps) - 1) // 2
                wide = plain_conv(w, f"{at}_aux_residual", small, reach)
                bias = w[f"{at}_aux_residual.bias"][:, None, None]
                x = small = (x + halved(wide, taps, 0) + bias) / math.sqrt(2)
            kept.append(x)
        for number in range(blocks):
            x = block(w, f"{at}_block{number}", x, emb, taps)
            kept.append(x)
    for level in reversed(range(levels)):
        size = side >> level
        at = f"dec.{size}x{size}"
        if level == levels - 1:
            x = block(w, f"{at}_in0", x, emb, taps)
            x = block(w, f"{at}_in1", x, emb, taps)
        else:
            x = block(w, f"{at}_up", x, emb, taps, "up")
        for number in range(blocks + 1):
            x = block(w, f"{at}_block{number}", torch.cat((x, kept.pop()), 1), emb, taps)
    assert not kept
    at = f"dec.{side}x{side}"
    return conv(w, f"{at}_aux_conv", silu(norm(w, f"{at}_aux_norm", x)))
