"""What is installed, what is found, and pairs that are known not to work together."""

import os
import platform
from pathlib import Path

from benchmark.rows.provenance import versions
from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores
from mindiffusion.places import cache_root, data_root


def doctor() -> int:
    """Print versions, devices, weights and data found, and known-bad pairs; 1 if there is one."""
    for name, version in versions().items():
        print(f"{name:<14} {version}")
    print(f"{'machine':<14} {platform.machine()}, {os.cpu_count()} cores")
    problems = known_bad_pairs()
    if not problems:
        _print_torch()
        print(f"{'inception':<14} {_inception()}")
    celeba = os.environ.get("CELEBA_PATH")
    found = "not set" if not celeba else celeba + ("" if Path(celeba).exists() else " (missing)")
    print(f"{'CELEBA_PATH':<14} {found}")
    print(f"{'data':<14} {data_root()}")
    print(f"{'cache':<14} {cache_root()}")
    for problem in problems:
        print(f"problem: {problem}")
    return 1 if problems else 0


def known_bad_pairs() -> list[str]:
    """Combinations that fail, each with what to do."""
    problems = []
    try:
        import torch
    except ImportError:
        return ["torch is not installed; run: pip install '.[train]'"]
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        problems.append(
            f"torch {torch.__version__} and torchvision do not fit ({error}); install both "
            "from one index: pip install --force-reinstall torch torchvision"
        )
    return problems


def _print_torch() -> None:
    import torch

    from mindiffusion.runtime import has_cxx_compiler, supports_bf16

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'GPUs':<14} {', '.join(gpus) or 'none'}")
    print(f"{'cores usable':<14} {available_cores()}")
    print(f"{'CPU bf16':<14} {'in hardware' if supports_bf16('cpu') else 'emulated'}")
    print(f"{'C++ compiler':<14} {'found' if has_cxx_compiler() else 'not found: eager on CPU'}")


def _inception() -> str:
    from benchmark.evaluation.features.inception import find_inception

    try:
        return str(find_inception(os.environ.get("INCEPTION_PATH") or None, cache_root()))
    except UserError as error:
        return f"not found ({error})"
