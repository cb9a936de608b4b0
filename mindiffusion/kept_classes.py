"""The classes that a network knows: whether they are the data's, and what a milestone keeps."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.config.run import RunConfig
from mindiffusion.data.classes import MOST_CLASSES, Classes
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name


class KeptClasses(BaseModel):
    """What a milestone's file says of the training images' classes: the fields of ``Classes``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    label: Name
    names: Annotated[list[Name], Field(max_length=MOST_CLASSES)]
    counts: Annotated[list[Annotated[int, Field(ge=0, le=2**53)]], Field(max_length=MOST_CLASSES)]


def check_labels(config: RunConfig) -> None:
    """Refuse settings of labels that contradict each other.

    Raises:
        UserError: they do.
    """
    labels, known = config.data.labels, config.model.num_classes
    if labels is None and known is not None:
        raise UserError(
            f"model.num_classes is {known}, but data.labels names no label for the network to be "
            "told; give data.labels=<label>, or model.num_classes=null."
        )
    if labels is not None and known is None:
        raise UserError(
            f"data.labels is {labels!r}, but the network {config.model.network} is told no classes;"
            " give model.num_classes (of a network that has it), or leave data.labels out."
        )
    if labels is None and config.sampler.classes != "shares":
        raise UserError(
            f"sampler.classes is {config.sampler.classes}, but there are no labels; give "
            "data.labels, or leave it out."
        )
    is_told = labels is not None or config.data.captions is not None
    if not is_told and config.training.label_drop:
        raise UserError(
            f"training.label_drop is {config.training.label_drop:g}, but there are no labels; give "
            "data.labels or data.captions, or leave it out."
        )


def check_guidance(config: RunConfig) -> None:
    """Refuse guidance of a network that has not learned to do without a class.

    Raises:
        UserError: it has not.
    """
    if config.sampler.is_guided and not config.training.label_drop:
        raise UserError(
            f"sampler.guidance is {config.sampler.guidance:g}, but training.label_drop is 0, so "
            "the network has not learned to draw without a class; give sampler.guidance=1, or "
            "weights that were trained with data.labels or data.captions and "
            "training.label_drop=0.1."
        )


def check_interval(config: RunConfig) -> None:
    """Refuse an interval of guidance where nothing is guided: hashes differ, images do not.

    Of the config as it is written; ``sample --guidance 1`` and a variant may leave out guidance.

    Raises:
        UserError: there is one.
    """
    low, high = config.sampler.guidance_interval
    if not config.sampler.is_guided and (low, high) != (0.0, 1.0):
        raise UserError(
            f"sampler.guidance_interval is [{low:g}, {high:g}], but sampler.guidance is 1, so "
            "nothing is guided; leave it out, or give sampler.guidance."
        )


def check_num_classes(config: RunConfig, found: int | None) -> None:
    """Refuse a network for another number of classes than the data have.

    Args:
        config: the run.
        found: classes of the data's label; None: not known, or no label.

    Raises:
        UserError: the numbers differ.
    """
    known = config.model.num_classes
    if found is not None and found != known:
        raise UserError(
            f"model.num_classes is {known}, but {config.data.labels!r} of {config.data.dataset} "
            f"has {found} classes; give --set model.num_classes={found}."
        )


def classes_part(classes: Classes | None) -> dict[str, Any]:
    """What a milestone holds of the training images' classes; nothing where there are none."""
    if classes is None:
        return {}
    names, counts = list(classes.names), list(classes.counts)
    return {"classes": {"label": classes.label, "names": names, "counts": counts}}


def classes_of(content: Mapping[str, Any], config: RunConfig) -> Classes | None:
    """The classes that a milestone's network knows; None if it knows of none.

    Weights of other programs come without names and counts: their classes are called by their
    numbers, and count alike.

    Args:
        content: as ``checkpoint.load`` gives it.
        config: the one inside it.

    Raises:
        UserError: not those of its config.
    """
    known = config.model.num_classes
    if known is None:
        return None
    kept = content.get("classes")
    if kept is None:
        return Classes("class", tuple(map(str, range(known))), (1,) * known)
    if not len(kept["names"]) == len(kept["counts"]) == known or not any(kept["counts"]):
        raise UserError(
            f"checkpoint: it keeps {len(kept['names'])} names and {len(kept['counts'])} counts of "
            f"classes, but its network knows {known}; it is not one of ours."
        )
    return Classes(kept["label"], tuple(kept["names"]), tuple(kept["counts"]))
