"""Which networks ``benchmark speed`` measures by width, a part each; free of PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass

_HEAD = 64
"""Width of a head in the published transformers."""
_WITHOUT_CLASSES = ("data.labels=null", "model.num_classes=null", "training.label_drop=0")
"""The pictures that are measured have none."""


@dataclass(frozen=True)
class NetworkPart:
    """A preset, and how its network is made wider.

    Attributes:
        preset: its name.
        width: the setting of its network that is varied.
        has_heads: whether the network has one head for each 64 of its width.
        cpu_widths: measured on a CPU.
        gpu_widths: measured on a GPU.
        on_a_cpu: ``--set`` words there: the published size would take minutes for a turn.
    """

    preset: str
    width: str
    has_heads: bool
    cpu_widths: tuple[int, ...]
    gpu_widths: tuple[int, ...]
    on_a_cpu: tuple[str, ...]

    def words(self, width: int, *, is_on_gpu: bool) -> list[str]:
        """``--set`` words of its network at one width."""
        heads = [f"model.num_heads={max(1, width // _HEAD)}"] if self.has_heads else []
        small = () if is_on_gpu else self.on_a_cpu
        return [*_WITHOUT_CLASSES, *small, f"model.{self.width}={width}", *heads]


_TRANSFORMER_ON_A_CPU = (
    "data.size=32",
    "model.depth=4",
    "training.global_batch=32",
    "sampler.chunk=16",
)
NETWORK_PARTS: Mapping[str, NetworkPart] = {
    "uvit": NetworkPart(
        preset="avatars64_uvit_small",
        width="embed_dim",
        has_heads=True,
        cpu_widths=(128, 192, 256),
        gpu_widths=(128, 256, 512),
        on_a_cpu=_TRANSFORMER_ON_A_CPU,
    ),
    "dit": NetworkPart(
        preset="imagenet64_dit_b4",
        width="hidden_size",
        has_heads=True,
        cpu_widths=(128, 192, 256),
        gpu_widths=(384, 768, 1024),
        on_a_cpu=_TRANSFORMER_ON_A_CPU,
    ),
    "song_unet": NetworkPart(
        preset="avatars32_edm_b",
        width="model_channels",
        has_heads=False,
        cpu_widths=(32, 64, 96),
        gpu_widths=(64, 128, 256),
        on_a_cpu=("model.num_blocks=1", "training.global_batch=16", "sampler.chunk=8"),
    ),
}
"""By the name of the part."""
