"""A row that tests of verdicts make theirs from."""

from benchmark.rows.row import Row

ROW = Row(
    study="demo", arm="B", seed=0, step=400, total_steps=400, metric="FD-Net@2048", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=2048,
    n_reference=4096, weights="ema0.99", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="avatars", manifest="abc", config_hash="c0",
    git="g", versions={}, device="cpu", host="h", threads=1, train_seconds=1.5, time="t",
    declared="prereg-0123",
)  # fmt: skip
