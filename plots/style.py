"""What all figures share: the paper style, arm colours, legends, notes and saving."""

import contextlib
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from benchmark.rows.frames import arm_order
from benchmark.study.arm_catalogue import CATALOGUE, Look
from mindiffusion.files import atomic_write
from plots.names import FONT, shortened

COLUMN_INCHES = 3.3
PAGE_INCHES = 6.8
LINE_INCHES = 0.16
# Characters of a legend that are as wide as a column of a paper, and as its page.
COLUMN_CHARACTERS, PAGE_CHARACTERS = 56, 120
GREY = "0.45"
# The smallest text, beside ticks, has 7 pt.
FONT_SCALE, _SMALL_POINTS = 0.8, 7
_MOST_POWERS = 7
MOST_PANELS = 8
"""Measures that a figure shows one below the other."""

# seaborn's palette for colour-blind readers, whose pink and yellow are too light for lines.
_NAMES = ("blue", "orange", "green", "red", "purple", "brown", "pink", "silver", "yellow", "sky")
COLOURS = dict(zip(_NAMES, sns.color_palette("colorblind").as_hex(), strict=True))
COLOURS["black"] = "#000000"
# Arms that share a panel are apart in grey too, by colour or by marker and dashes.
_COLOURS = ("black", "blue", "red", "purple", "green", "orange", "sky")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[tuple[float, ...], ...] = (
    (), (4.5, 1.5), (1.2, 1.2), (5, 1.3, 1.2, 1.3), (7, 2), (3, 1.2, 1.2, 1.2, 1.2, 1.2),
)  # fmt: skip
# Of the arms that always look the same.
_LOOKS = {arm.name: arm.look for arm in CATALOGUE if arm.look is not None}
# Every look once, in an order that changes all three at each step, without those above.
_OTHER_LOOKS = [
    look
    for k in range(4, math.lcm(len(_COLOURS), len(_MARKERS), len(_DASHES)))
    if (look := Look(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)], k % len(_DASHES)))
    not in _LOOKS.values()
]
# What seaborn's theme leaves open, or draws too heavily for a column of a paper.
_TICKS = {"major.width": 0.6, "major.size": 3, "minor.width": 0.4, "minor.size": 1.8}
_RC: dict[str, Any] = {
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlepad": 4, "axes.labelpad": 3, "grid.linewidth": 0.4, "grid.color": "0.88",
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in _TICKS.items()},
    "legend.frameon": False, "legend.borderaxespad": 0.0, "legend.handlelength": 2.6,
    "legend.columnspacing": 1.4, "legend.handletextpad": 0.5, "patch.force_edgecolor": False,
    "figure.dpi": 150, "savefig.dpi": 300, "figure.constrained_layout.use": True,
    # TrueType: journals take no fonts of Type 3.
    "pdf.fonttype": 42,
}  # fmt: skip

# Who writes each file of a figure: without clocks and versions.
_WRITERS: dict[str, Callable[[Figure, IO[bytes]], None]] = {
    ".png": lambda figure, handle: FigureCanvasAgg(figure).print_png(
        handle, metadata={"Software": None}
    ),
    ".pdf": lambda figure, handle: FigureCanvasPdf(figure).print_pdf(
        handle, metadata={"CreationDate": None, "Producer": None, "Creator": None}
    ),
}


def arm_style(arm: str, arms: Sequence[str]) -> dict[str, Any]:
    """Colour, marker and dashes of an arm among the study's ``arms``.

    The known arms always look the same; others take the next looks in their given order.
    """
    if arm in _LOOKS:
        look = _LOOKS[arm]
    else:
        index = [name for name in arms if name not in _LOOKS].index(arm)
        look = _OTHER_LOOKS[index % len(_OTHER_LOOKS)]
    return {
        "color": COLOURS[look.colour],
        "marker": look.marker,
        "linestyle": (0, _DASHES[look.dashes]) if look.dashes else "-",
        # A white rim keeps markers that touch apart.
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """The theme of seaborn for papers alone, whatever the user's own matplotlib settings are."""
    with matplotlib.style.context("default", after_reset=True):
        # Colour codes such as "b" belong to the whole process and would not come back.
        theme: dict[str, Any] = {"context": "paper", "style": "ticks", "palette": "colorblind"}
        sns.set_theme(**theme, font=FONT, font_scale=FONT_SCALE, color_codes=False, rc=_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty Agg figure of so many inches, outside pyplot's global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf`` atomically, without clocks in their metadata.

    The canvases write them, and not ``savefig``, which draws every figure twice: once to lay it
    out, though drawing does that too.
    """
    for path in files_of(stem):
        figure.set_dpi(matplotlib.rcParams["savefig.dpi"])
        with atomic_write(path) as handle:
            _WRITERS[path.suffix](figure, handle)
    return files_of(stem)


def files_of(stem: Path) -> list[Path]:
    """The files that a figure is saved as: ``stem.png`` and ``stem.pdf``."""
    return [stem.with_suffix(suffix) for suffix in _WRITERS]


def legend_above(ax: Axes) -> None:
    """A frameless legend above the axes, the figure is made taller by its height."""
    _add_lines(ax.get_figure(root=True), legend_over(ax, COLUMN_CHARACTERS))


def legend_over(ax: Axes, characters: int, title: str = "") -> int:
    """A frameless legend above axes of so many characters' width; returns its lines."""
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        ncols=per_row(labels, characters),
        borderpad=0.2,
        title=title or None,
        alignment="left",
    )
    return legend_lines(labels, characters) + bool(title)


def legend_lines(labels: Sequence[str], characters: int) -> int:
    """How many lines a legend of these labels takes."""
    return math.ceil(len(labels) / per_row(labels, characters))


def per_row(labels: Sequence[str], characters: int) -> int:
    """How many labels of a legend stand side by side."""
    # A handle and its gaps are as wide as 8 characters.
    return max(1, min(len(labels), characters // (8 + max(map(len, labels), default=0))))


def _add_lines(figure: Figure | None, lines: int) -> None:
    if figure is not None:
        figure.set_figheight(figure.get_figheight() + LINE_INCHES * lines)


def note_below(figure: Figure, parts: Sequence[str]) -> None:
    """A small note under all axes, its lines ending between parts; makes the figure taller."""
    # 7 pt DejaVu Sans takes about 3.9 pt a character.
    width = int(figure.get_figwidth() * 72 / 3.9)
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    text = "\n".join(textwrap.fill(line, width) for line in lines)
    _add_lines(figure, text.count("\n") + 1)
    figure.supxlabel(text, fontsize=_SMALL_POINTS, color=GREY, x=0.01, ha="left")


def text_beside(ax: Axes, points: float, y: float, text: str, **look: Any) -> None:
    """Small text beside the axes: so many points left (negative) or right of them, at y."""
    ax.annotate(
        text,
        (0 if points < 0 else 1, y),
        (points, 0),
        ("axes fraction", "data"),
        "offset points",
        ha="right" if points < 0 else "left",
        va="center",
        fontsize=_SMALL_POINTS,
        **look,
    )


def width_of(text: str) -> float:
    """Points that small text is wide.

    Letters differ threefold in width, so a number of characters does not say how wide they are.
    """
    font = get_font(findfont(FONT))
    font.set_size(_SMALL_POINTS, 72)
    font.set_text(text)
    # FreeType counts in 64ths of a point.
    return float(font.get_width_height()[0]) / 64


def fitting(text: str, points: float) -> str:
    """Small text that is at most so many points wide; the middle of a wider one is left out."""
    texts = (shortened(text, most) for most in range(len(text), 1, -1))
    return next((shown for shown in texts if width_of(shown) <= points), "")


def log_scale(ax: Axes, values: pd.Series, span: float = 1.0) -> bool:
    """Make y logarithmic where values differ by more than a factor; which 0 and below forbid.

    Args:
        ax: axes with the values.
        values: what is drawn.
        span: the factor.

    Returns:
        Whether it is.
    """
    lowest, highest = float(values.min()), float(values.max())
    is_log = lowest > 0 and highest > span * lowest
    if is_log:
        ax.set_yscale("log")
    return is_log


def label_powers(axis: Axis) -> None:
    """Labels of a logarithmic axis at 1, 2 and 5 times powers of ten; of many powers, at some."""
    low, high = axis.get_view_interval()
    if high > low * 10**_MOST_POWERS:
        axis.set_major_locator(LogLocator(numticks=_MOST_POWERS))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(LogFormatter())
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # LogFormatter writes .5 as 5e-01.
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def step_axis(ax: Axes, total_steps: int, label: bool = True) -> None:
    """Training steps from 0 to the end; thousands as k from 10,000 on."""
    # A run of no steps has a place too.
    ax.set_xlim(-0.02 * max(1, total_steps), 1.03 * max(1, total_steps))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, steps=[1, 2, 5, 10]))
    if total_steps >= 10_000:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    if label:
        ax.set_xlabel("training steps")


def panels_note(count: int) -> list[str]:
    """What to say where a figure shows the first of many measures only."""
    if count <= MOST_PANELS:
        return []
    return [f"{MOST_PANELS} of {count} measures shown, all are in the tables"]


def seed_note(seeds: pd.Series, drawn: str = "shaded") -> str:
    """How many training seeds the points have, and what shows their intervals."""
    low, high = int(seeds.min()), int(seeds.max())
    if high == 1:
        return "n=1 seed, no interval"
    count = f"n={low}" if low == high else f"n={low}–{high}"
    return f"{count} seeds, {drawn}: 95 % t-interval of the mean"


def declared_note(frame: pd.DataFrame) -> str:
    """``exploratory`` or the hash of the declaration the rows were made under."""
    return ", ".join(sorted(set(frame["declared"].astype(str))))


def arm_styles(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The look of every arm of a frame, in arm order."""
    arms = arm_order(frame)
    return {arm: arm_style(arm, arms) for arm in arms}
