"""What a run must have in common with the one whose stages it takes over (yoked pacing)."""

from collections.abc import Mapping
from typing import Any

from mindiffusion.config.run import RunConfig, differences, to_kept

_OF_ITS_OWN = (
    "arm",
    "pacing",
    "training.milestones",
    "training.device",
    "training.threads",
    "training.log_every",
)
"""Keys that may differ: names, when stages begin, and how a run is looked after."""


def unlike_leader(config: RunConfig, leader: Mapping[str, Any]) -> list[str]:
    """Dotted keys at which a run differs from the one that it follows, but must not.

    Also "pacing" where the run says which pacing it follows, and that one has another.

    Args:
        config: the run that follows.
        leader: config of the other run, as plain types.
    """
    own = to_kept(config)
    keys = [
        key
        for key in differences(leader, own)
        if not any(f"{key}.".startswith(f"{free}.") for free in _OF_ITS_OWN)
    ]
    expected = own.get("pacing", {}).get("leader")
    return keys + ["pacing"] * (expected is not None and expected != leader.get("pacing"))
