"""What a person wishes to see drawn, beside what the weights' own config says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mindiffusion.class_conditions import class_conditions, one_class
from mindiffusion.config.run import RunConfig
from mindiffusion.config.sampler import MOST_GUIDANCE
from mindiffusion.data.caption_file import clean
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import classes_of
from mindiffusion.kept_text import MOST_PROMPT, encoder_of, text_of
from mindiffusion.printable import printable
from mindiffusion.sampling import Conditions
from mindiffusion.text.reading import notes_on
from mindiffusion.text_conditions import in_turn

_SHOWN = 60


@dataclass(frozen=True)
class Shown:
    """What images are to show.

    Attributes:
        conditions: what the network is told of each image; None: nothing.
        texts: what the conditions are numbers of; None: the prompts that the weights keep.
        notes: what a person is to know of it, a line each.
    """

    conditions: Conditions | None
    texts: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What is to be drawn otherwise than the config inside the weights says; None: as it says.

    Attributes:
        seed: sampling seed.
        shown: a class, by name or number, that all images show.
        guidance: strength of guidance.
        prompt: a text that all images show.
    """

    seed: int | None = None
    shown: str | None = None
    guidance: float | None = None
    prompt: str | None = None

    def of(self, config: RunConfig) -> RunConfig:
        """The config with these settings.

        Raises:
            UserError: a seed or a strength outside what is allowed.
        """
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: a sampling seed is in 0 to 4294967295.")
        if self.guidance is not None and not 0 <= self.guidance <= MOST_GUIDANCE:
            raise UserError(
                f"--guidance {self.guidance:g}: give a strength from 0 to {MOST_GUIDANCE}; 1 is no "
                "guidance."
            )
        wished: dict[str, Any] = {"seed": self.seed, "guidance": self.guidance}
        given = {name: value for name, value in wished.items() if value is not None}
        return replace(config, sampler=replace(config.sampler, **given))

    def shows(self, content: Mapping[str, Any], config: RunConfig) -> Shown:
        """What the images are to show.

        Raises:
            UserError: a class or a prompt of a network that is told none, no such class, or a
                prompt that is too long.
        """
        if config.model.text is not None:
            return self._text(content, config)
        if self.prompt is not None:
            raise UserError(
                f"--prompt {printable(self.prompt, _SHOWN)!r}: these weights are of a network that "
                "reads no text; leave it out, or give --class where it knows classes."
            )
        classes = classes_of(content, config)
        if classes is None:
            if self.shown is not None:
                raise UserError(
                    f"--class {self.shown}: these weights are of a network that knows no classes; "
                    "leave it out."
                )
            return Shown(None)
        if self.shown is None:
            return Shown(class_conditions(classes, config.sampler.classes))
        return Shown(one_class(classes.number_of(self.shown)))

    def _text(self, content: Mapping[str, Any], config: RunConfig) -> Shown:
        """What a network that reads text is to show: the prompt, or the held-out ones in turn."""
        if self.shown is not None:
            raise UserError(
                f"--class {printable(self.shown, _SHOWN)}: these weights are of a network that "
                "reads text and knows no classes; give --prompt."
            )
        if self.prompt is not None:
            if len(self.prompt) > MOST_PROMPT:
                raise UserError(
                    f"--prompt has {len(self.prompt):,} characters; give at most {MOST_PROMPT:,}."
                )
            prompt = clean(self.prompt)  # as captions are, or its words may be unknown
            notes = notes_on(prompt, encoder_of(content, config))
            return Shown(one_class(0), (prompt,), tuple(notes))
        kept = text_of(content, config)
        prompts = () if kept is None else tuple(kept.prompts)
        return Shown(in_turn(range(len(prompts))) if prompts else None, prompts)
