"""Presets and ``--set``: YAML and options, merged into nested plain types, then checked.

``extends`` in a preset names others that come first, so an arm is a file of named fields and a
run is a base with an arm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.training.config import RunConfig, check

PRESETS = Path(__file__).parent.parent / "presets"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 mapping (so that 2e-5 is a number and ``no`` is a word).

    Raises:
        UserError: not there, not YAML, or no mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except YAMLError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {line}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a mapping of keys to values.")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested merge; values of ``over`` win, lists are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def preset_names() -> list[str]:
    """Presets that describe a whole run."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """A preset with all it extends, as nested plain types.

    Args:
        name: file below ``presets`` without its ending, such as "celeba_c_32" or "arms/c".
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        folder = path.parent.relative_to(PRESETS) if path.is_relative_to(PRESETS) else Path()
        names = [str(folder / found.stem) for found in path.parent.glob("*.yaml")]
        raise UserError(f"unknown preset {name!r}.{did_you_mean(name, names or preset_names())}")
    return resolve_extends(read_yaml(path))


def resolve_extends(content: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the presets named by ``extends`` (a list), then the content itself."""
    resolved: dict[str, Any] = {}
    parents = content.get("extends", [])
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise UserError(f"extends is {parents!r}; write a list of presets, such as [arms/c].")
    for parent in parents:
        resolved = merge(resolved, load_preset(parent))
    return merge(resolved, {k: v for k, v in content.items() if k != "extends"})


def parse_override(text: str) -> dict[str, Any]:
    """One ``--set`` argument, "training.lr=2e-5", as a nested mapping; values are YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text!r}: write key=value, for example training.lr=2e-5.")
    try:
        parsed = YAML(typ="safe", pure=True).load(value)
    except YAMLError:
        raise UserError(f"--set {text!r}: {value!r} is not a YAML value.") from None
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def apply_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``--set`` arguments in order; a length in steps replaces one in epochs, and back."""
    merged = dict(content)
    for text in overrides:
        change = parse_override(text)
        training = change.get("training")
        if isinstance(training, dict):
            for given, other in (("steps", "epochs"), ("epochs", "steps")):
                if training.get(given) is not None:
                    training.setdefault(other, None)
        merged = merge(merged, change)
    return merged


def build_config(content: Mapping[str, Any], source: str) -> RunConfig:
    """Check a nested mapping and freeze it.

    Args:
        content: nested plain types.
        source: where it came from, named in errors.

    Raises:
        UserError: unknown key (with the nearest one) or wrong type.
    """
    return check(RunConfig, content, source)
