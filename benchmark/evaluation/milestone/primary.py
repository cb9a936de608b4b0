"""Which metrics a study may name as its primary one: those that scoring it will write."""

from collections.abc import Mapping

from benchmark.evaluation.features.nets import FEATURE_NETS, choose_feature_net
from benchmark.evaluation.milestone.attribute_rows import REJECTED, REJECTED_DIRECTION
from benchmark.evaluation.milestone.feature_scores import MADE_OF_FEATURES, scales_of_numbers
from benchmark.evaluation.milestone.profile_rows import SUMMARY_DIRECTION
from benchmark.rows.metric_names import SUMMARIES
from benchmark.study.measure import PrimaryMetric, ScaleName, allowed_scales
from benchmark.study.study import EvaluationConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value


def check_primary_metric(endpoint: PrimaryMetric, evaluation: EvaluationConfig) -> None:
    """Refuse a primary metric that scoring does not write, or a scale that it has not.

    A metric must be one number for each cell and milestone. So profiles, stitched distances and
    emergence, which are numbers for each noise level, cannot decide. Neither can the frequencies of
    attributes, which are written only where most samples can be read.

    Args:
        endpoint: as the study's file has it; without a metric it is the usual distance.
        evaluation: how milestones are scored.

    Raises:
        UserError: it is none of those that may decide here, its scale is another one, or a feature
            net has no weights.
    """
    if not endpoint.metric:
        return
    measured = _measured(evaluation)
    allowed = {name: scales for name, scales in measured.items() if scales}
    shown = shown_value(endpoint.metric)
    if endpoint.metric in set(measured) - set(allowed):
        raise UserError(
            f"endpoint.metric is {shown}, of which neither more nor less is better; name one of "
            f"{', '.join(allowed)}."
        )
    if endpoint.metric not in allowed:
        which = f"one of {', '.join(allowed)}" if allowed else "none: add fd or profile to it"
        raise UserError(
            f"endpoint.metric is {shown}; name a metric that evaluation.metrics measures as one "
            f"number for each milestone, {which}."
        )
    if endpoint.scale not in allowed[endpoint.metric]:
        raise UserError(
            f"endpoint.metric is {shown}, which has no {endpoint.scale} scale: that takes values "
            "above 0 of which less is better. Write endpoint.scale: "
            f"{' or '.join(allowed[endpoint.metric])}, and a smallest_effect in the metric's own "
            "unit."
        )


def _measured(evaluation: EvaluationConfig) -> Mapping[str, tuple[ScaleName, ...]]:
    """Names of the numbers that scoring writes for every milestone, with the scales of each."""
    found: dict[str, tuple[ScaleName, ...]] = {}
    for name in evaluation.feature_nets if MADE_OF_FEATURES & set(evaluation.metrics) else ():
        net = FEATURE_NETS[choose_feature_net(name)[0]]
        found |= scales_of_numbers(net, evaluation.metrics)
    if "profile" in evaluation.metrics:
        found |= dict.fromkeys(SUMMARIES, allowed_scales(SUMMARY_DIRECTION, is_positive=True))
    if "attributes" in evaluation.metrics:
        found[REJECTED] = allowed_scales(REJECTED_DIRECTION, is_positive=False)
    return found
