"""Every figure of a study has an entry here; ``build.py`` draws them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.metric_names import EPS_MSE
from plots.figures import (
    birth_ablation,
    capacity,
    channel_births,
    cka,
    classes,
    closest,
    cost_vs_quality,
    curriculum,
    curve_with_samples,
    denoising_profile,
    excess_profile,
    exponents,
    faithfulness,
    feature_emergence,
    fid_vs_steps,
    forest,
    group_norms,
    learnable,
    network_features,
    neurons,
    order_exposure,
    prompts,
    samples,
    similarity,
    specifications,
    spectra,
    stages,
    stitched,
)


@dataclass(frozen=True)
class FigureEntry:
    """A figure of a study.

    Attributes:
        name: of its files.
        title: what it is called.
        caption: what it shows, and what would mean what; as the title with the words of ``_words``
            in braces. Arms but the baseline are named by the catalogue.
        has_rows: whether a study has the rows for it.
        draw: the figure of a study that has.
        of_all_arms: whether it is about the study as a whole, so that no arm is left out.
    """

    name: str
    title: str
    caption: str
    has_rows: Callable[[StudyAnalysis], bool]
    draw: Callable[[StudyAnalysis], Figure]
    of_all_arms: bool = False


@dataclass(frozen=True)
class PictureEntry:
    """A figure made of pictures that rows name; not every copy of a study has them.

    Attributes:
        name, title, caption: as of ``FigureEntry``.
        cells: the rows that name the pictures.
        draw: the figure of a frame, of pictures inside a folder.
    """

    name: str
    title: str
    caption: str
    cells: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Path], Figure]


def _any_rows(rows_of: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[StudyAnalysis], bool]:
    return lambda study: not rows_of(study.frame).empty


def _of_rows(draw: Callable[[pd.DataFrame], Figure]) -> Callable[[StudyAnalysis], Figure]:
    return lambda study: draw(study.frame)


ENTRIES: tuple[FigureEntry | PictureEntry, ...] = (
    FigureEntry(
        "fid_vs_steps",
        "{Curve} by training step",
        "{Curve_of} over training, and its change against plain training (B) of the same seed. "
        "{Better} is better. Hollow points are of networks that have not yet been trained on all "
        "noise levels; no verdict uses them. {Counts}{Fewer}"
        "Verdicts on {curve}s use the end alone{alone}. A band of changes that lies {below} the "
        "grey zone of ±{smallest} at the last step speaks for an arm. Changes of early milestones "
        "may lie outside the panel.",
        lambda study: not study.curves.empty,
        fid_vs_steps.figure,
    ),
    FigureEntry(
        "forest",
        "Effects with their intervals",
        "Every comparison of the study: the change of the {noun} at the end with its 95 % "
        "interval. Each line is a claim: that its first arm is better (has the {better} {noun}), "
        "or what its words say. A claim is supported if the interval lies wholly beyond the grey "
        "zone of ±{smallest} on the claimed side, and refuted if it lies wholly on the other side "
        "of 0; "
        "arms are equal if the effect is shown to be smaller than the zone; all else is undecided. "
        "Nothing is tested by a mask without an effect, or without a seed that has all arms. "
        "Nothing is answered where the networks have not learned enough for the question. Two "
        "equal arms ({equal}) must not be distinguishable, and the weakened arms ({weakened}) must "
        "be worse than B; otherwise no verdict of the study counts.",
        forest.has_rows,
        forest.figure,
        of_all_arms=True,
    ),
    FigureEntry(
        "order_exposure",
        "Order against exposure",
        "Is it the order of the noise levels, or only how often each is trained (the exposure)? "
        "Left: each arm's {noun} at the end, as a change against B. Along x is the exposure: "
        "that of plain training or that of the curriculum. The colour is the order: that of the "
        "curriculum, or none before the end. At one exposure, the height of the curriculum's "
        "colour above or below black is the effect of the order; along one colour, the rise or "
        "fall is the effect of the exposure. The density control ({density}) ends with the "
        "curriculum's last stage, so its step from B holds exposure and last stage together. "
        "Right: these effects with their 95 % intervals. total = early order + (exposure + last "
        "stage); where the static control, which has the exposure and no order at all, was "
        "trained, the latter two stand apart. An arm that is not there was not trained.",
        order_exposure.has_rows,
        order_exposure.figure,
        of_all_arms=True,
    ),
    FigureEntry(
        "specifications",
        "Does the answer depend on how it is measured?",
        "The hypotheses by every way to measure the end of training. The top line is the primary "
        "endpoint, which alone decides. The others change {ways}. If the lines of a column agree, "
        "the answer does not rest on that choice. The grey zone of ±{smallest} is declared for the "
        "top line alone. The ways share networks and images, so their agreement is not further "
        "evidence.",
        specifications.has_rows,
        specifications.figure,
        of_all_arms=True,
    ),
    FigureEntry(
        "denoising_profile",
        "Denoising error by noise level",
        "Error of the noise prediction on held-out {units} by noise level at each arm's last step, "
        "and its change against plain training (B). An arm below 0 denoises that level better. "
        "Gains at high noise together with losses at low noise are an exchange, not progress.",
        lambda study: bool((study.frame["metric"] == EPS_MSE).any()),
        _of_rows(denoising_profile.figure),
    ),
    FigureEntry(
        "excess_profile",
        "Error above the best possible",
        "How much worse each arm denoises than the best denoiser there is (the posterior mean, at "
        "0), by noise level at its last step. The unit is what the weak features vary by. "
        "Errors along strong features count too. The theory expects a curriculum near 0 at both "
        "ends, and plain training near 0 at high noise alone.",
        _any_rows(excess_profile.excess_rows),
        _of_rows(excess_profile.figure),
    ),
    FigureEntry(
        "neurons",
        "What hidden neurons read",
        "Shares of the hidden neurons over training: those that read one strong feature (M₁), one "
        "weak feature (M₂), several (mixed: both groups, or one), none (outside), or add nothing "
        "(dead). Below: the share of features that a pure neuron reads, which shows when each "
        "group is learned. The theory expects M₂ neurons to be pure with a curriculum, and to mix "
        "M₁ with M₂ without.",
        _any_rows(neurons.neuron_rows),
        _of_rows(neurons.figure),
    ),
    FigureEntry(
        "similarity",
        "Neurons against features",
        "The cosine of every hidden neuron's incoming weights (a row) with every feature (a "
        "column) at the end of training, of one seed. Neurons are sorted by the feature that they "
        "read most. A pure neuron has one coloured cell; one with colour in both halves is mixed.",
        _any_rows(similarity.similarity_rows),
        _of_rows(similarity.figure),
    ),
    FigureEntry(
        "exponents",
        "How the error scales",
        "The primary metric at the end of training over each setting that the study sweeps, both "
        "axes logarithmic, geometric means over seeds. A line is a power law, its slope the "
        "exponent (in the tables).",
        lambda study: bool(study.swept_values),
        exponents.figure,
        of_all_arms=True,
    ),
    FigureEntry(
        "learnable",
        "What can be learned at each noise level",
        "What there is to learn at each noise level: the grey area lies between always answering "
        "with the mean and the best linear denoiser. Only an error below the linear denoiser's "
        "needs a network. Where the two bounds nearly meet, a curriculum stage has little to "
        "teach.",
        _any_rows(learnable.learnable_rows),
        _of_rows(learnable.figure),
    ),
    FigureEntry(
        "stitched",
        "Where the final quality comes from",
        "Where quality comes from: each arm's network works on one side of the noise level τ, one "
        "common network on the other. What differs between arms comes from their own side; where a "
        "curve over several τ falls, the arm's own levels matter.",
        _any_rows(stitched.stitched_rows),
        _of_rows(stitched.figure),
    ),
    FigureEntry(
        "feature_emergence",
        "When attributes emerge",
        "Which attributes can be read in the denoised images beyond what a linear denoiser shows, "
        "by noise level and by step. If plain training (B) also learns coarse attributes before "
        "fine ones, this order is not due to a curriculum; only the difference to B is.",
        _any_rows(feature_emergence.gain_rows),
        _of_rows(feature_emergence.figure),
    ),
    FigureEntry(
        "network_features",
        "What layers know of attributes",
        "What the networks' layers know of attributes that were chosen beforehand, in noisy "
        "held-out images. The silhouette says whether images of one class lie together and apart "
        "from the other classes (1), or not (0 and below). A probe is a linear classifier: its "
        "accuracy on images that it has not seen, beside that of a guess. Only a difference to "
        "plain training (B) is due to a curriculum.",
        _any_rows(network_features.of_layers),
        _of_rows(network_features.figure),
    ),
    FigureEntry(
        "spectra",
        "Spectra of the denoiser and of its samples",
        "How many directions of an image the denoiser heeds: singular values of its Jacobian at "
        "noisy images, beside those of the best linear denoiser, and the effective rank over "
        "training. Samples whose singular values fall faster than the training images' lack fine "
        "variation. An effective rank above the grey line is of more directions than there are.",
        lambda study: spectra.has_rows(study.frame),
        _of_rows(spectra.figure),
    ),
    FigureEntry(
        "cka",
        "How alike layers are over training",
        "Linear CKA of layers at two milestones: of each arm and of plain training (B) with the "
        "same seed. 1 is the same features but for a rotation, 0 is nothing in common. The columns "
        "of B itself show how fast features change; an arm whose last step is darker there than "
        "A/A's has learned other features than plain training has.",
        _any_rows(cka.cka_rows),
        _of_rows(cka.figure),
    ),
    FigureEntry(
        "birth_ablation",
        "What channels carry, by the stage of their birth",
        "The network at the end of training without the channels that one stage switched on, "
        "against the whole network. If late channels carry fine detail, lines of late stages rise "
        "at low noise alone, further than those of as many channels chosen at random (dashed), and "
        "not so in S, whose mask opens without a curriculum. Blue: an attribute is read better "
        "without these channels than without random ones; red: worse; white: too small a change "
        "for its error. Low and high noise stand apart, for the claim is about low noise.",
        _any_rows(birth_ablation.ablation_rows),
        _of_rows(birth_ablation.figure),
    ),
    PictureEntry(
        "samples",
        "Samples by arm and step",
        "Samples from the same noise in each column, at milestones of training. A dashed frame "
        "marks networks that have not yet been trained on all noise levels.",
        samples.page_cells,
        samples.figure,
    ),
    PictureEntry(
        "curve_with_samples",
        "The distance by training step, and samples",
        "Above: the distance between generated and real images over training, of the arms that "
        "answer the question first. Lower is better. Below: samples of the same arms at "
        "milestones, from the same noise in each column. Hollow points and dashed frames are of "
        "networks that have not yet been trained on all noise levels.",
        curve_with_samples.curve_cells,
        curve_with_samples.figure,
    ),
    PictureEntry(
        "classes",
        "Samples by arm and class",
        "Samples of networks that are told what to show, at the end of training. Images of one "
        "place begin with the same noise in all arms.",
        classes.class_cells,
        classes.figure,
    ),
    PictureEntry(
        "prompts",
        "Pictures and the prompts that they are drawn by",
        "Pictures of the first held-out prompts, whose words stand above, at milestones of "
        "training. Below: one word of each prompt is changed, as stands there, and the picture "
        "drawn again from the same noise. It should differ in that word alone.",
        prompts.prompt_cells,
        prompts.figure,
    ),
    FigureEntry(
        "faithfulness",
        "Do pictures show what their captions say?",
        "Above: the share of the prompts' statements that hold in the pictures drawn by them, and "
        "of changed words that hold once one word of the prompt is changed. Below: the same by "
        "feature, at the end of training. Higher is better. The classifier that judges makes "
        "errors: real portraits have the dashed shares. Pictures of other prompts have the dotted "
        "ones.",
        lambda study: not faithfulness.faithful_rows(study.frame).empty,
        _of_rows(faithfulness.figure),
    ),
    FigureEntry(
        "curriculum",
        "What each arm is trained on, and when",
        "What is trained when: how often each noise level is drawn, relative to plain training, "
        "over the steps; bars show the average of the run by fifths. Arms with the same bars "
        "differ in order alone. Arms that share all of it share a panel.",
        lambda study: curriculum.has_rows(study.frame),
        _of_rows(curriculum.figure),
    ),
    PictureEntry(
        "stages",
        "What data and network are, stage by stage",
        "The same images in every stage of one arm, with the noise that the stage trains: the "
        "noisiest eighth of its draws first, the cleanest last. Bars show how much of the network "
        "is switched on. A curriculum begins with noise alone and ends with all levels.",
        stages.stage_cells,
        stages.figure,
    ),
    FigureEntry(
        "capacity",
        "Capacity over training",
        "What the networks may use when: channels that are switched on, and the weight of the "
        "group penalty. Arms that use neither are not shown.",
        lambda study: bool(capacity.capacity_stages(study.frame)),
        _of_rows(capacity.figure),
    ),
    FigureEntry(
        "channel_births",
        "When channels are switched on",
        "When channels are switched on, how repeatable their choice is (1: both halves of the "
        "probe rank the channels alike, 0: by chance), what lifting the mask does to the error, "
        "and whether masked channels' weights stay where they were (0) or move as all others (1). "
        "If the effect of the mask stays within the grey zone, the masked arms have not tested "
        "masks.",
        lambda study: channel_births.has_rows(study.frame),
        _of_rows(channel_births.figure),
    ),
    FigureEntry(
        "group_norms",
        "Norms of the weight groups",
        "Norms of the filters of penalised networks over training, and the share that fell below "
        "1 % of its first norm. If no share vanishes, the penalty has not made the network sparse.",
        _any_rows(group_norms.norm_rows),
        _of_rows(group_norms.figure),
    ),
    FigureEntry(
        "cost_vs_quality",
        "Cost against quality",
        "Against the time of training: the distance along the runs, and the {noun} at their end "
        "relative to plain training (B). A {better} {noun} than B's is better, further left is "
        "cheaper. Shorter and narrower runs show what the same saving costs without any "
        "curriculum. Where arms that do the same work differ in time, their machines did, or other "
        "work on them.",
        _any_rows(cost_vs_quality.cost_rows),
        cost_vs_quality.figure,
    ),
    PictureEntry(
        "closest",
        "Samples beside their closest training images",
        "The generated images that are nearest to a training image, each above it. Copies would "
        "show that the network remembers its data.",
        closest.closest_cells,
        closest.figure,
    ),
)
"""In the order of the paper and of the report."""
