"""Which metrics a study may name as its primary one: those that scoring it will write."""

from collections.abc import Mapping

from benchmark.evaluation.features.nets import FEATURE_NETS, choose_feature_net
from benchmark.evaluation.milestone.attribute_rows import REJECTED, REJECTED_DIRECTION
from benchmark.evaluation.milestone.feature_scores import MADE_OF_FEATURES, scales_of_numbers
from benchmark.evaluation.milestone.profile_rows import SUMMARY_DIRECTION
from benchmark.rows.metric_names import CLIP_SCORE, FAITHFUL, FLIP, SUMMARIES
from benchmark.study.measure import PrimaryMetric, ScaleName, allowed_scales
from benchmark.study.study import EvaluationConfig
from benchmark.study.terms import Terms
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value


def check_primary_metrics(terms: Terms, measured: Mapping[str, tuple[ScaleName, ...]]) -> None:
    """Refuse a metric that would decide but is not measured, or on a scale that it has not.

    A metric must be one number for each cell and milestone. So profiles, stitched distances and
    emergence, which are numbers for each noise level, cannot decide. Neither can the frequencies of
    attributes, which are written only where most samples can be read.

    Args:
        terms: of the study; without a metric its endpoint is the usual distance.
        measured: names of the numbers that scoring writes, with the scales of each.

    Raises:
        UserError: the endpoint's or a hypothesis' metric is none of those that may decide here, or
            its scale is another one.
    """
    _check_metric(terms.endpoint, measured, "endpoint.")
    for one in terms.hypotheses:
        if one.measure is not None:
            _check_metric(one.measure, measured, f"hypotheses.{one.name}.")


def _check_metric(
    endpoint: PrimaryMetric,
    measured: Mapping[str, tuple[ScaleName, ...]],
    where: str,
) -> None:
    if not endpoint.metric:
        return
    allowed = {name: scales for name, scales in measured.items() if scales}
    shown = shown_value(endpoint.metric)
    if endpoint.metric in set(measured) - set(allowed):
        raise UserError(
            f"{where}metric is {shown}, of which neither more nor less is better; name one of "
            f"{', '.join(allowed)}."
        )
    if endpoint.metric not in allowed:
        which = f"one of {', '.join(allowed)}" if allowed else "none: add fd or profile to it"
        raise UserError(
            f"{where}metric is {shown}; name a metric that evaluation.metrics measures as one "
            f"number for each milestone, {which}."
        )
    if endpoint.scale not in allowed[endpoint.metric]:
        raise UserError(
            f"{where}metric is {shown}, which has no {endpoint.scale} scale: that takes values "
            f"above 0 of which less is better. Write {where}scale: "
            f"{' or '.join(allowed[endpoint.metric])}, and a smallest_effect in the metric's own "
            "unit."
        )


def deciding_metrics(evaluation: EvaluationConfig) -> Mapping[str, tuple[ScaleName, ...]]:
    """Names of the numbers that scoring writes for every milestone, with the scales of each.

    Raises:
        UserError: a feature net has no weights.
    """
    found: dict[str, tuple[ScaleName, ...]] = {}
    for name in evaluation.feature_nets if MADE_OF_FEATURES & set(evaluation.metrics) else ():
        net = FEATURE_NETS[choose_feature_net(name)[0]]
        found |= scales_of_numbers(net, evaluation.metrics)
    if "profile" in evaluation.metrics:
        found |= dict.fromkeys(SUMMARIES, allowed_scales(SUMMARY_DIRECTION, is_positive=True))
    if "attributes" in evaluation.metrics:
        found[REJECTED] = allowed_scales(REJECTED_DIRECTION, is_positive=False)
    obeying = {"faithfulness": (FAITHFUL, FLIP), "clip": (CLIP_SCORE,)}
    for metric, names in obeying.items():
        if metric in evaluation.metrics:
            found |= dict.fromkeys(names, allowed_scales("higher", is_positive=False))
    return found
