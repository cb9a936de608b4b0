"""Names of metrics, as rows, tables and figures spell them."""

import re

from mindiffusion.errors import UserError

SMOKE_BELOW = 2048
MEMORISED_PIXELS = "memorised-pixels"
MASK_EFFECT = "mask-effect"
BIRTH_EFFECT = "birth-effect"
"""ε-MSE without the units that came on after the first stage, minus ε-MSE with them."""
REALISED_SPARSITY = "realised-sparsity/"  # and where: a block, or the bottleneck
STAGE_METRICS = ("t_min", "t_max", "active_channels", "penalty_lambda")
EPS_MSE = "eps-MSE"
# What no network is needed for: the best linear denoiser, and always answering with the mean.
EPS_MSE_LINEAR, EPS_MSE_MEAN = "eps-MSE-linear", "eps-MSE-mean"
EPS_MSE_EXCESS, EPS_MSE_GAP = "eps-MSE-excess", "eps-MSE-train-gap"
EXCESS = "excess-MSE"
"""Error over that of the posterior mean, by noise level: 1 is what the weak features vary by. It
has a part along the strong features too, which does not shrink with the weak ones."""
LOW_EXCESS, HIGH_EXCESS = f"{EXCESS}/low", f"{EXCESS}/high"
"""Its means over the levels of low and of high noise."""
LOW_EXCESS_OF = (f"{LOW_EXCESS}/M1", f"{LOW_EXCESS}/M2")
"""Its parts along the strong and the weak features at low noise, each level in a unit of its own: 1
is the error of the best denoiser that knows nothing of these features, whatever their amplitude."""
LOW_ERROR, HIGH_ERROR = "MSE/low", "MSE/high"
"""Means of the whole error over these levels: 1 is what the data vary by."""
ORACLE_ERRORS = (f"{LOW_ERROR}/oracle", f"{HIGH_ERROR}/oracle")
"""The part of these that the posterior mean has too."""
TRAIN_GAP = f"{LOW_EXCESS}/train-gap"
"""Over-fitting at low noise: the excess on fresh samples less that on those trained on."""
NEURONS = "neurons/"
"""How names begin of what hidden neurons of the two-feature theory read."""
SIMILARITY = "similarity/"
"""How names begin of a neuron's cosine with a feature; ``level`` is the neuron's place."""
DISTANCES = ("FID", "KID", "FD-", "FD∞-", "KD-")
SUMMARIES = ("eps-MSE/L_simple", "eps-MSE/ELBO", "eps-MSE/sigma-0.1-3")
# What else no network is needed for: the linear oracle's readings, and how much each option moves.
EMERGENCE_ORACLE, AMPLITUDE = "emergence-oracle", "amplitude"
# Features of networks: of their layers, of their Jacobian, of their samples, of their channels.
SILHOUETTE, PROBE, CHANNEL_NORM, CHANNELS_DEAD = "silhouette", "probe", "channel-norm", "dead"
JACOBIAN, SPECTRUM, CKA = "jacobian", "spectrum", "cka"
ABLATION, ABLATION_RANDOM, ABLATION_UNITS = "ablation", "ablation-random", "ablation-units"
ABLATION_ACCURACY, ABLATION_ACCURACY_RANDOM = "ablation-accuracy", "ablation-accuracy-random"
# Beside these: a guess, the best linear denoiser, as many training images.
PROBE_CHANCE, JACOBIAN_LINEAR, SPECTRUM_DATA = "probe-chance", "jacobian-linear", "spectrum-data"
FAITHFUL, FAITHFUL_CHANCE, FAITHFUL_REAL = "faithful", "faithful-chance", "faithful-real"
"""Share of what prompts state that holds in their pictures, in other prompts' pictures, and in
real pictures as the classifier reads them. Of one feature "/" and its name follow."""
FLIP, FLIP_CHANCE, FLIP_REAL = "flip", "flip-chance", "flip-real"
"""Share of changed words that hold in the pictures drawn again, in other prompts' pictures, and in
real pictures that are changed so."""
FLIP_KEPT, FLIP_KEPT_CHANCE, FLIP_KEPT_REAL = "flip-kept", "flip-kept-chance", "flip-kept-real"
"""Share of all other attributes that are read as before; in pictures of another prompt; in real
ones."""
COARSE, FINE = "coarse", "fine"
"""In the place of a feature: the halves of them by how much their changes move a portrait."""
FLIP_AMPLITUDE = "flip-amplitude"
"""Root mean square difference that a change of a feature makes in a real picture."""
PROMPT, PROMPT_CHANGED = "prompt/", "prompt-changed/"
"""How names begin of a prompt's words, which follow after the number of the image and "/"."""
FLIP_STRIP = "flips-"
"""How the pictures begin that are drawn by changed prompts; the step follows."""
CLIP_SCORE, CLIP_CHANCE, CLIP_REAL = "CLIP-score", "CLIP-score-chance", "CLIP-score-real"
_OF_DATA_ALONE = (
    EPS_MSE_LINEAR, EPS_MSE_MEAN, EMERGENCE_ORACLE, AMPLITUDE,
    PROBE_CHANCE, JACOBIAN_LINEAR, SPECTRUM_DATA,
    FAITHFUL_REAL, FLIP_REAL, FLIP_KEPT_REAL, FLIP_AMPLITUDE, CLIP_REAL,
    PROMPT.removesuffix("/"), PROMPT_CHANGED.removesuffix("/"),
)  # fmt: skip
VARIANT = "variant/"
"""How names begin of what is drawn in another way; the variant's and the metric's name follow."""
CLASS = "class/"
"""How names begin of what is measured of one class; the class's and the metric's name follow."""
CLASS_STRIP = "class-"
"""How the pictures of one class's samples begin; step and number of the class follow."""
MOST_CLASSES = 6
"""Classes of which a strip is kept and shown: as many as a page has room for. Labels may have
thousands."""
EXPOSURE = "exposure"
"""Metric of a stage's rows: ``level`` is a bin's upper edge, ``step`` the stage's first one."""
STAGE_MEDIAN = "t_median"
"""Metric of a stage: the noise time that half of its draws stay below. Its row names a strip of
what the network is shown in that stage."""


def is_of_data_alone(metric: str) -> bool:
    """Whether a number is the same for all of a study's runs and milestones, read by one judge."""
    return metric.split("/")[0] in _OF_DATA_ALONE


def metric_label(base: str, n: int) -> str:
    """``base@n`` with thousands as k: 256 → ``@256``, 10000 → ``@10k``."""
    if n < 1:
        raise UserError(f"{base}: {n} images; a metric needs at least one, so give n >= 1.")
    return f"{base}@{n // 1000}k" if n % 1000 == 0 else f"{base}@{n}"


def base_name(metric: str) -> str:
    """What is measured, without the number of images: ``FID@10k`` → ``FID``."""
    return metric.split("@")[0]


def noun_of(metric: str) -> str:
    """What a primary metric is in a sentence; without a name it is the usual distance.

    Returns:
        "error" of a held-out ε-MSE or of an excess over the best denoiser, "share" of a part of a
        network or of what captions say, "distance" between sets of images, else "score".
    """
    if metric in SUMMARIES or metric.startswith((EXCESS, LOW_ERROR, HIGH_ERROR)):
        return "error"
    if metric.endswith("-share") or metric.startswith((FAITHFUL, FLIP)):
        return "share"
    return "distance" if not metric or metric.startswith(DISTANCES) else "score"


def is_smoke(n: int) -> bool:
    """Whether ``n`` images are too few for a distance that means anything (n < 2048)."""
    return n < SMOKE_BELOW


def limit_name(metric: str) -> str:
    """Name of a distance extrapolated to infinitely many images: ``FID@10k`` → ``FID∞@10k``."""
    return re.sub(r"(FI?D)(?=[@-])", r"\1∞", metric, count=1)
