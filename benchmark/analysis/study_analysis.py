"""One analysis of a study's rows, for everybody who tells of it: tables, figures, report, paper.

Each part is worked out when it is first asked for, and once. So no two pages can disagree.
"""

import functools
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.analysis.competence import Competence, competence
from benchmark.analysis.endpoint import (
    Endpoint,
    missing_cells,
    primary_endpoint,
    primary_rows,
    unmeasured,
)
from benchmark.analysis.exponents import Exponent, SweptValues, exponents, swept_values
from benchmark.analysis.findings import (
    HELD_OUT,
    Evidence,
    Finding,
    findings,
    held_out_endpoints,
    secondary,
)
from benchmark.analysis.learning import Floats, baseline_curve
from benchmark.analysis.mask_check import MaskEffect, known_masks
from benchmark.analysis.scales import Scale, scale_of
from benchmark.analysis.specifications import Specification, specifications
from benchmark.analysis.statistics import ALPHA
from benchmark.rows.frames import distance_rows, load_rows
from benchmark.rows.metric_names import noun_of
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.index import DECLARED, EXPLORATORY, INDEX_FILE, SWEEPS, read_index
from benchmark.study.terms import USUAL, Terms, terms_of

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StudyAnalysis:
    """A study's rows with all that follows from them.

    Attributes:
        frame: the frame of the rows, in any order; nobody changes it.
        terms: what the study's file fixed beforehand.
        index: the study's, which says which cells there should be; it may be empty.
        swept: rows of the points of its sweeps, with those of ``frame`` that are points too. Only
            ``exponents`` are about them.
    """

    frame: pd.DataFrame
    terms: Terms = USUAL
    index: Mapping[str, Any] = field(default_factory=dict)
    swept: pd.DataFrame | None = None

    def with_rows_of(self, arms: Collection[str]) -> "StudyAnalysis":
        """The rows of some arms, with what follows from the rows of all: nothing is judged anew."""
        rows = self.frame[self.frame["arm"].isin(arms)].reset_index(drop=True)
        part = replace(self, frame=rows)
        for name, value in vars(StudyAnalysis).items():
            if isinstance(value, functools.cached_property):
                vars(part)[name] = getattr(self, name)
        vars(part)["by_measure"] = (part, *self.by_measure[1:])
        return part

    @functools.cached_property
    def endpoint(self) -> Endpoint | None:
        """The number that verdicts are about; None if no arm is at its last step."""
        return primary_endpoint(self.frame, self.terms)

    @functools.cached_property
    def by_measure(self) -> tuple["StudyAnalysis", ...]:
        """The same rows judged by each measure, each with the hypotheses about it as its terms.

        The first is this analysis; each of the others has for its endpoint a metric that hypotheses
        name as their own. Only the first one's ``findings`` are those of all, held to Holm's
        correction together.
        """
        _, *others = self.terms.by_measure
        return (self, *(replace(self, terms=terms) for terms in others))

    def about(self, finding: Finding) -> "StudyAnalysis":
        """The analysis by the measure that a finding is about."""
        if finding.group != "hypothesis":
            return self
        others = (
            part
            for part in self.by_measure[1:]
            if finding.key in {one.name for one in part.terms.hypotheses}
        )
        return next(others, self)

    def findings_about(self, part: "StudyAnalysis") -> tuple[Finding, ...]:
        """The findings about one of ``by_measure``, in their order."""
        return tuple(one for one in self.findings if self.about(one) is part)

    @functools.cached_property
    def scale(self) -> Scale:
        """On which the primary metric is compared; also before an arm is at its last step."""
        return scale_of(self.terms, primary_rows(self.frame, self.terms))

    @property
    def noun(self) -> str:
        """What the primary metric is in a sentence: "distance", "score", "error" or "share"."""
        return noun_of(self.terms.endpoint.metric)

    @functools.cached_property
    def has_images(self) -> bool:
        """Whether any of its numbers is of images, real or generated."""
        return bool((self.frame[["n_generated", "n_reference"]] > 0).any(axis=None))

    @property
    def curves(self) -> pd.DataFrame:
        """Rows by training step that the smallest effect can be asked of.

        A share can be asked of every distance, so of a metric on a scale of ratios it is the
        distances, whichever metric decides; else, and where no images are drawn, it is the metric
        itself.
        """
        return self._distances if self._has_distances else primary_rows(self.frame, self.terms)

    @property
    def noun_of_curves(self) -> str:
        """What ``curves`` are of, in a sentence."""
        return "distance" if self._has_distances else self.noun

    @functools.cached_property
    def _distances(self) -> pd.DataFrame:
        return distance_rows(self.frame)

    @property
    def _has_distances(self) -> bool:
        is_usual = not self.terms.endpoint.metric
        return self.scale.is_share and (is_usual or not self._distances.empty)

    @functools.cached_property
    def baseline(self) -> Competence | None:
        """How far B has come; None where that was not measured."""
        return competence(self.frame)

    @functools.cached_property
    def has_learned(self) -> bool:
        """Whether B has learned enough for verdicts, or nothing is known of it."""
        return self.baseline is None or self.baseline.passed(self.terms.gate)

    @functools.cached_property
    def masks(self) -> dict[str, MaskEffect | None]:
        """Every arm with a channel mask, and what is known of it; None where no row says."""
        return known_masks(self.frame)

    @functools.cached_property
    def measures(self) -> tuple[Endpoint, ...]:
        """Summaries of the held-out ε-MSE of the endpoint's cells, but for the endpoint itself.

        None without an endpoint.
        """
        endpoint = self.endpoint
        if endpoint is None:
            return ()
        found = held_out_endpoints(self.frame, endpoint)
        return tuple(one for one in found if one.metric != endpoint.metric)

    @property
    def held_out(self) -> Endpoint | None:
        """The held-out ε-MSE over all noise levels, which stands beside every distance.

        None stands beside an endpoint that is such an error itself.
        """
        if self.endpoint is None or not self.endpoint.is_of_images:
            return None
        return next((one for one in self.measures if one.metric == HELD_OUT), None)

    @functools.cached_property
    def curve(self) -> tuple[Floats, Floats]:
        """B's valid milestones and its values there on the scale; empty without a finished B."""
        return baseline_curve(self.frame, self.endpoint)

    @property
    def alpha(self) -> float:
        """The strictest level that Holm may ask of one of the study's hypotheses."""
        return ALPHA / max(1, len(self.terms.hypotheses))

    @functools.cached_property
    def absent(self) -> dict[str, list[int]]:
        """By arm: its seeds that are not measured at the last step; empty without an endpoint."""
        if self.endpoint is None:
            return {}
        return missing_cells(self.frame, self.endpoint, self.index)

    @functools.cached_property
    def _evidence(self) -> Evidence | None:
        return None if self.endpoint is None else self._evidence_of(self, self.endpoint)

    def _evidence_of(self, part: "StudyAnalysis", endpoint: Endpoint) -> Evidence:
        """What claims about one of ``by_measure`` are judged by, ``endpoint`` being its own."""
        return Evidence(
            endpoint,
            self.alpha,
            self.masks,
            part.curve,
            part.held_out,
            self.baseline,
            self.terms.gate,
            is_primary=part is self,
        )

    @functools.cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All claims that the study's arms can speak to, hypotheses first, in their order.

        A hypothesis whose own metric has no rows is among them: it is not tested.
        """
        if self.endpoint is None:
            return ()
        declared, asked = self.endpoint.declared, []
        for part, terms in zip(self.by_measure, self.terms.by_measure, strict=True):
            endpoint = part.endpoint or unmeasured(terms.endpoint.metric, part.scale, declared)
            asked.append((terms.hypotheses, self._evidence_of(part, endpoint)))
        order = {one.name: place for place, one in enumerate(self.terms.hypotheses)}
        return tuple(
            sorted(
                findings(asked),
                key=lambda one: order[one.key] if one.group == "hypothesis" else len(order),
            )
        )

    @functools.cached_property
    def secondary(self) -> tuple[Finding, ...]:
        """The endpoint's hypotheses about the held-out error; none of these decides."""
        if self._evidence is None:
            return ()
        return tuple(secondary(self.measures, self._about_endpoint, self._evidence))

    @property
    def _about_endpoint(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that name no metric of their own."""
        return self.terms.by_measure[0].hypotheses

    @functools.cached_property
    def specifications(self) -> tuple[Specification, ...]:
        """The endpoint's hypotheses by every way to measure the end; the first alone decides."""
        if self.endpoint is None:
            return ()
        hypotheses, found = self._about_endpoint, self.findings_about(self)
        return specifications(self.frame, self.endpoint, self.measures, hypotheses, found)

    @functools.cached_property
    def swept_values(self) -> tuple[SweptValues, ...]:
        """The endpoint at the points of the study's sweeps, arm by arm."""
        sweeps, endpoint = self.index.get(SWEEPS, ()), self.endpoint
        if self.swept is None or endpoint is None:
            return ()
        return tuple(swept_values(self.swept, sweeps, endpoint.metric))

    @functools.cached_property
    def exponents(self) -> tuple[Exponent, ...]:
        """How the endpoint scales with each setting that the study sweeps."""
        return tuple(exponents(self.swept_values))


def analyse(study_dir: Path) -> StudyAnalysis:
    """The analysis of a study's folder, from its rows and its index.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    index = read_index(study_dir)
    frame = _as_declared(load_rows(study_dir), index.get(DECLARED), study_dir)
    made = {
        point["arms"].get(arm, "")
        for sweep in index.get(SWEEPS, ())
        for point in sweep["points"]
        for arm in point["made"]
    }
    if not made:
        return StudyAnalysis(frame, terms_of(index), index)
    middle = frame[~frame["arm"].isin(made)].reset_index(drop=True)
    cells = [cell for cell in index["cells"] if cell["arm"] not in made]
    return StudyAnalysis(middle, terms_of(index), {**index, "cells": cells}, swept=frame)


def _as_declared(frame: pd.DataFrame, declared: str | None, study_dir: Path) -> pd.DataFrame:
    """The rows, exploratory where they were declared with other terms than the index has now.

    Args:
        frame: the frame of a study's rows.
        declared: of the index; None in one of an earlier version, which says nothing of it.
        study_dir: the study's folder, named in a warning.
    """
    if declared is None:
        return frame
    is_other = ~frame["declared"].isin([declared, EXPLORATORY])
    if is_other.any():
        LOGGER.warning(
            "%s: %d rows were declared as %s, but the study is %s by what its file says now. They "
            "count as %s; give the study's command with the file as it was declared.",
            study_dir / INDEX_FILE, is_other.sum(), frame.loc[is_other, "declared"].iloc[0],
            declared, EXPLORATORY,
        )  # fmt: skip
    return frame.assign(declared=frame["declared"].mask(is_other, EXPLORATORY))
