"""Bits of trained weights and of samples: what 20 steps of seven arms come to, and where it holds.

Sums of floats depend on the versions and on the CPU's instructions, so a golden names both, and
holds for nothing else. ``python tests/benchmark/golden_weights.py`` trains the arms with the code
as it is, and says which of their bits are not those that were kept for this machine. With
``--record`` it keeps them instead: on a machine that has none yet, with the code before a change;
on others only where weights are meant to change.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmark.study.study import load_study
from mindiffusion.build import build_codec
from mindiffusion.config.run import RunConfig
from mindiffusion.data.training_data import TrainingData
from mindiffusion.sampling import model_of, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run
from mindiffusion.training.trainer import Trainer

FILE = Path(__file__).with_name("golden_weights.json")
STUDY = """
seeds: [3]
arms:
  b: {extends: [arms/b]}
  c: {extends: [arms/c]}
  cs: {extends: [arms/cs]}
  cr: {extends: [arms/cr]}
  p2: {extends: [arms/p2]}
  density-star: {control: density, of: c}
  preconditioned:
    extends: [arms/c]
    arm: preconditioned
    process: {parameterization: preconditioned, loss_weight: {kind: balanced}}
run:
  extends: [runs/celeba_32]
  data: {dataset: avatars, num_train: 64, num_held_out: 8}
  model: {n_feat: 8, probe_batches: 2, probe_batch_size: 8}
  training:
    epochs: null
    steps: 20
    global_batch: 8
    lr: 1e-3
    ema_decays: [0.99, 0.9]
    milestones: ["100%"]
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
"""
HOW_TO_RECORD = (
    "put your change aside (git stash), record the code before it (python "
    "tests/benchmark/golden_weights.py --record), and take your change back (git stash pop)"
)
Bits = dict[str, dict[str, str]]
"""Arm → part of a run → SHA-256."""
ARMS = ("B", "C", "CS", "CR", "P2", "density*", "preconditioned")


def here() -> dict[str, str]:
    """What the bits depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "flags": hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:12],
    }


def sha256_of(content: Any) -> str:
    """Of nested plain types and tensors, by their bits and the order of their keys."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)}".encode())
            for key in value:
                digest.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)}".encode())
            for one in value:
                add(one)
        else:
            digest.update(repr(value).encode())

    add(content)
    return digest.hexdigest()


def images() -> np.ndarray:
    """64 pictures of 32 pixels that no drawing or decoding stands behind."""
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


def bits_of(config: RunConfig) -> dict[str, str]:
    """Train a run; the SHA-256 of its weights, averages, optimizer, draws and samples."""
    seen: list[Any] = []

    def hooks(trainer: Trainer) -> Hooks:
        batch = trainer.source.batch

        def noted(*arguments: Any) -> Any:
            made = batch(*arguments)
            seen.append((made.images, made.u, made.noise))
            return made

        trainer.source.batch = noted  # type: ignore[method-assign]
        return Hooks()

    state = run(config, TrainingData(images(), "golden"), Ranks(), hooks).state()
    parts = {name: state[name] for name in ("network", "averages", "optimizer")}
    parts |= {"draws": seen, "samples": samples_of(config)}
    return {name: sha256_of(part) for name, part in parts.items()}


def samples_of(config: RunConfig) -> list[torch.Tensor]:
    """Pictures by each way of sampling, of the run's last milestone; the whole chain by one arm."""
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, config.training.steps or 0))
    ways: list[dict[str, Any]] = [{"steps": 7}, {"steps": 5, "eta": 0.5, "clip": False}]
    if config.arm == ARMS[-1]:
        ways.append({"name": "ddpm"})
    model = model_of(content, "raw", torch.device("cpu"))
    drawn = (
        sample_images(
            model,
            model.process,
            build_codec(config),
            replace(config.sampler, chunk=2, **way),
            3,
            config.data.size,
        )
        for way in ways
    )
    return [torch.from_numpy(pictures) for pictures in drawn]


def study_runs(folder: Path) -> dict[str, RunConfig]:
    """The run of each arm, with its files in ``folder``, which is the working directory."""
    (folder / "golden.yaml").write_text(STUDY)
    runs = {config.arm: config for config in load_study("golden.yaml").runs}
    return {arm: runs[arm] for arm in ARMS}


def kept_bits() -> Bits | None:
    """What was kept for this machine; None: nothing was."""
    everywhere = json.loads(FILE.read_text())
    bits: list[Bits] = [one["bits"] for one in everywhere if one["holds_for"] == here()]
    return bits[0] if bits else None


def keep(bits: Bits) -> None:
    """Keep this machine's bits in place of those that were kept for it."""
    others = [one for one in json.loads(FILE.read_text()) if one["holds_for"] != here()]
    FILE.write_text(json.dumps([*others, {"holds_for": here(), "bits": bits}], indent=1) + "\n")


def different(bits: Bits, expected: Bits) -> list[str]:
    """Parts of runs whose bits are others than expected, as "CS: network"."""
    return [
        f"{arm}: {part}"
        for arm in sorted(bits.keys() | expected.keys())
        for part in sorted(bits.get(arm, {}).keys() | expected.get(arm, {}).keys())
        if bits.get(arm, {}).get(part) != expected.get(arm, {}).get(part)
    ]


def main(words: Sequence[str]) -> int:
    """Compare this code's bits with those kept for this machine, or keep them.

    Returns:
        0: they are the same, or were recorded; 1: some differ, or none were kept.
    """
    parser = argparse.ArgumentParser(
        prog="golden_weights.py",
        description="Compare what twenty steps come to with the bits kept for this machine.",
    )
    parser.add_argument("--record", action="store_true", help="keep the bits of this code")
    record: bool = parser.parse_args(words).record
    expected = kept_bits()
    if expected is None and not record:
        print(f"no golden weights are kept for {here()}: {HOW_TO_RECORD}.")
        return 1
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        bits = {arm: bits_of(config) for arm, config in study_runs(Path(name)).items()}
    changed = different(bits, expected or {})
    if record:
        keep(bits)
    what = "recorded" if record else "different"
    for part in changed:
        print(f"{part} {what}")
    print(f"{len(changed)} of {sum(map(len, bits.values()))} parts {what}, for {here()}")
    return int(bool(changed) and not record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
