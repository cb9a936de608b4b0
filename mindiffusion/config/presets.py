"""Presets and ``--set``: YAML and options, merged into nested plain types, then checked.

``extends`` in a preset names others that come first, so an arm is a file of named fields and a
run is a base with an arm.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mindiffusion.config.model import without_foreign
from mindiffusion.config.run import RunConfig, check
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import MOST_DEPTH, parse_yaml, read_yaml, shown_value
from mindiffusion.outside.paths import inside

PRESETS = Path(__file__).parent.parent / "presets"
_LONGEST_NAME = 100


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested merge; values of ``over`` win, lists are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _changed(
    content: Mapping[str, Any], change: Mapping[str, Any], typed: Collection[str] = ()
) -> dict[str, Any]:
    """As ``merge``; where a change names a network, settings that only others have do not stay.

    Args:
        content: what is changed.
        change: the change.
        typed: settings of ``model`` that do stay, so that they are refused.
    """
    merged = merge(content, change)
    model, before = change.get("model"), content.get("model")
    if isinstance(model, Mapping) and isinstance(before, Mapping) and "network" in model:
        inherited = before.keys() - model.keys() - set(typed)
        merged["model"] = without_foreign(merged["model"], inherited)
    return merged


def preset_names() -> list[str]:
    """Presets that describe a whole run."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """A preset with all it extends, as nested plain types.

    Args:
        name: file below ``presets`` without its ending, such as "celeba_c_32" or "arms/c".
        above: presets that extend it.

    Raises:
        UserError: there is no such preset, or it extends itself.
    """
    if name in above:
        raise UserError(f"preset {shown_value(name)} extends itself; take that name out.")
    path = _preset_path(name)
    if path is None:
        folder = PurePosixPath(name).parent
        found = [known for known in _all_names() if PurePosixPath(known).parent == folder]
        near = did_you_mean(name, found or preset_names())
        raise UserError(f"unknown preset {shown_value(name)}.{near}")
    return resolve_extends(read_yaml(path), (*above, name))


def _preset_path(name: str) -> Path | None:
    """The file of a preset, which lies in our own folder and nowhere else."""
    if not 0 < len(name) <= _LONGEST_NAME:
        return None
    try:
        path = inside(PRESETS, f"{name}.yaml")
    except UserError:
        return None
    return path if path.is_file() else None


def _all_names() -> list[str]:
    """All presets, the parts of runs among them."""
    names = (path.relative_to(PRESETS).with_suffix("") for path in PRESETS.rglob("*.yaml"))
    return sorted(name.as_posix() for name in names)


def resolve_extends(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Merge the presets named by ``extends`` (a list), then the content itself."""
    resolved: dict[str, Any] = {}
    parents = content.get("extends", [])
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise UserError(
            f"extends is {shown_value(parents)}; write a list of presets, such as [arms/c]."
        )
    for parent in parents:
        resolved = _changed(resolved, load_preset(parent, above))
    return _changed(resolved, {k: v for k, v in content.items() if k != "extends"})


def extended(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A part of somebody's file with the presets that it extends; errors name the file.

    Args:
        content: nested plain types.
        source: the file, and which part of it.

    Raises:
        UserError: an unknown preset, or no list of presets.
    """
    try:
        return resolve_extends(content)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def parse_override(text: str) -> dict[str, Any]:
    """One ``--set`` argument, "training.lr=2e-5", as a nested mapping; values are YAML."""
    key, equals, value = text.partition("=")
    shown = f"--set {shown_value(text)}"
    parts = key.strip().split(".")
    if not equals or not key.strip() or len(parts) > MOST_DEPTH:
        raise UserError(f"{shown}: write key=value, for example training.lr=2e-5.")
    parsed = parse_yaml(value, shown)
    for part in reversed(parts):
        parsed = {part: parsed}
    return parsed


def apply_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``--set`` arguments in order; a length in steps replaces one in epochs, and back."""
    merged, changes = dict(content), [parse_override(text) for text in overrides]
    models = [change.get("model") for change in changes]
    typed = {key for model in models if isinstance(model, Mapping) for key in model}
    for change in changes:
        training = change.get("training")
        if isinstance(training, dict):
            for given, other in (("steps", "epochs"), ("epochs", "steps")):
                if training.get(given) is not None:
                    training.setdefault(other, None)
        merged = _changed(merged, change, typed)
    return merged


def build_config(content: Mapping[str, Any], source: str) -> RunConfig:
    """Check a nested mapping and freeze it; of ``clusters`` the curriculum is made here.

    Args:
        content: nested plain types.
        source: where it came from, named in errors.

    Raises:
        UserError: unknown key (with the nearest one) or wrong type; a curriculum beside clusters,
            or clusters that the process's levels cannot be cut into.
    """
    if content.get("clusters") is None:
        return check(RunConfig, content, source)
    if content.get("curriculum"):
        raise UserError(
            f"{source}: both clusters and curriculum are given; clusters are made into a "
            "curriculum, so give one of the two."
        )
    draft: RunConfig = check(RunConfig, {**content, "curriculum": []}, source)
    assert draft.clusters is not None
    try:
        return replace(draft, curriculum=draft.clusters.stages(draft.process))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
