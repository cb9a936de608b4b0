"""How much each noise level is trained, relative to training all levels alike.

Exposure is the time density of a stage over that of the uniform one, in ``NUM_BINS`` equal bins of
noise time: 1 everywhere for plain training, of mean 1 over the bins always. Source:
docs/methods.md, Exposure.
"""

import numpy as np
import pandas as pd

from benchmark.analysis.log_ratios import quotient
from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import EXPOSURE

NUM_PARTS = 5


def stage_exposure(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, seed, stage and bin, in the order of training.

    Args:
        frame: rows of a study, or the exposure ones of them.

    Returns:
        Columns arm, seed, stage, from_step, to_step (the next stage's first step, or the run's
        length), level (the bin's upper edge in (0, 1]) and exposure (relative to uniform).
    """
    rows = frame[frame["metric"] == EXPOSURE]
    run = ["arm", "seed"]
    stages = rows[[*run, "step", "stage", "total_steps"]].drop_duplicates()
    stages = stages.sort_values([*run, "step"], kind="stable")
    following = stages.groupby(run)["step"].shift(-1)
    stages["to_step"] = following.fillna(stages["total_steps"]).astype("int64")
    bins = rows[[*run, "step", "level", "value"]]
    joined = stages.merge(bins, on=[*run, "step"]).sort_values([*run, "step", "level"])
    joined = joined.rename(columns={"step": "from_step", "value": EXPOSURE})
    columns = [*run, "stage", "from_step", "to_step", "level", EXPOSURE]
    return joined[columns].reset_index(drop=True)


def order_information(frame: pd.DataFrame) -> pd.Series:
    """How much of an order each arm trains in: mutual information of step and noise level, in nats.

    I = Σ_s w_s Σ_k p_s(k) ln(p_s(k) / q(k)), with w_s the share of the steps that stage s takes,
    p_s(k) its share of bin k, and q = Σ w_s p_s. It is 0 where all stages draw alike, and at most
    ln(number of stages). Source: Cover and Thomas, "Elements of Information Theory", eq. 2.28.

    Args:
        frame: rows of a study, or the exposure ones of them.

    Returns:
        Nats by arm, a mean over seeds; NaN where no seed's exposures are densities (0 or more).
    """
    stages = stage_exposure(frame)
    stages = stages[stages["to_step"] > stages["from_step"]]
    steps = stages["to_step"] - stages["from_step"]
    run = ["arm", "seed"]
    whole = stages.groupby([*run, "from_step"])[EXPOSURE].transform("sum")
    lowest = stages.groupby(run)[EXPOSURE].transform("min")
    share = (stages[EXPOSURE] / whole).where(lowest >= 0)
    joint = (share * steps).groupby([stages[name] for name in run]).transform("sum")
    weighted = share * steps / joint
    level = weighted.groupby([stages[name] for name in [*run, "level"]]).transform("sum")
    # A bin that a stage leaves out adds nothing.
    ratio = (share / level).where((weighted > 0) & (level > 0), 1.0)
    stages = stages.assign(nats=weighted * np.log(ratio))
    nats = stages.groupby(run)["nats"].sum(min_count=1)
    # What rounding leaves of equal stages is no order.
    return nats.round(9).clip(lower=0).groupby("arm").mean()


def run_averages(stages: pd.DataFrame) -> pd.Series:
    """Time average of each run's exposure over the fifths of t; a run of no steps has none.

    Args:
        stages: as ``stage_exposure`` gives them.

    Returns:
        Indexed by arm, seed and the fifth's upper edge (``part``).
    """
    edges = np.arange(1, NUM_PARTS + 1) / NUM_PARTS
    part = np.ceil(np.round(stages["level"] * NUM_PARTS, 6)).astype("int64")
    stages = stages.assign(part=edges[part - 1], steps=stages["to_step"] - stages["from_step"])
    stages = stages.assign(total=stages["steps"] * stages[EXPOSURE])
    sums = stages.groupby(["arm", "seed", "part"])[["total", "steps"]].sum()
    # A half in the last digit is written alike, whichever stages it is the sum of.
    return quotient(sums["total"], sums["steps"]).round(9).rename(EXPOSURE)


def exposure_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The whole run's exposure of each fifth of t, low noise to high, averaged over seeds.

    Args:
        frame: all rows of a study: runs whose last milestone has not been scored are left out.

    Returns:
        A row per arm, in the order of ``arm_order``; columns .2 … 1, each fifth's upper edge.
    """
    done = frame[frame["step"] == frame["total_steps"]][["arm", "seed"]].drop_duplicates()
    stages = stage_exposure(frame).merge(done, on=["arm", "seed"])
    edges = np.arange(1, NUM_PARTS + 1) / NUM_PARTS
    per_seed = run_averages(stages).reset_index()
    table = per_seed.pivot_table(index="arm", columns="part", values=EXPOSURE, aggfunc="mean")
    order = [arm for arm in arm_order(frame) if arm in table.index]
    return table.reindex(index=order, columns=edges).rename_axis(columns=None)
