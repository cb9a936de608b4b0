"""Which metrics a study may name as its primary one: those that scoring it will write."""

from benchmark.evaluation.features.nets import FEATURE_NETS, choose_feature_net
from benchmark.rows.metric_names import SUMMARIES
from benchmark.study.study import EvaluationConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value


def check_primary_metric(metric: str, evaluation: EvaluationConfig) -> None:
    """Refuse a primary metric that scoring does not write, or that has no logarithm.

    A kernel distance may be 0 or below by chance, and of other metrics more is better.

    Args:
        metric: as in ``endpoint.metric``; empty: the usual distance.
        evaluation: how milestones are scored.

    Raises:
        UserError: it is none of those that may decide here, or a feature net has no weights.
    """
    if not metric:
        return
    allowed: list[str] = []
    if "fd" in evaluation.metrics:
        nets = (choose_feature_net(name)[0] for name in evaluation.feature_nets)
        allowed += [FEATURE_NETS[net].frechet_name for net in nets]
    if "profile" in evaluation.metrics:
        allowed += SUMMARIES
    if metric not in allowed:
        which = f"one of {', '.join(allowed)}" if allowed else "none: add fd or profile to it"
        raise UserError(
            f"endpoint.metric is {shown_value(metric)}; name a Fréchet distance or a summary of "
            f"the held-out ε-MSE that evaluation.metrics measures, {which}."
        )
