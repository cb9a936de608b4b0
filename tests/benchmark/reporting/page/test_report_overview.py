import dataclasses
import math
import re

import numpy as np
import pytest

from benchmark.analysis.answer import headline
from benchmark.analysis.competence import Competence
from benchmark.analysis.endpoint import primary_endpoint
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page.checks import evidence
from benchmark.reporting.page.overview import cautions, cells_text, effect_on, main_table, scope
from benchmark.reporting.tables.verdicts import verdicts
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import SUMMARIES
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms
from plots.build import legends

LEARNED = Competence(
    step=1000, total_steps=1000, seeds=8, level=np.array([0.25, 0.75]), error=np.full(2, 0.1),
    linear=np.full(2, 0.2), mean=np.full(2, 0.3), slope=0.0,
)  # fmt: skip


def study_of(rows, baseline=LEARNED):
    """The analysis of some rows, whatever they say of the baseline."""
    study = StudyAnalysis(to_frame(rows))
    # As though worked out already.
    vars(study)["baseline"] = baseline
    return study


@pytest.fixture(scope="module")
def whole(planted):
    return study_of(planted())


@pytest.fixture(scope="module")
def single(planted):
    """One seed and 512 images."""
    rows = [row for row in planted(("B", "C"), [0], "FD-EffNet-Lite0-64px@1024")]
    return study_of(rows)


def test_main_table_has_every_arm_with_its_planted_change(whole):
    table = main_table(whole)
    change = {row[0]: row[2] for row in table.body}
    assert list(change)[:4] == ["B", "S", "C", "CS"]
    assert change["B"] == "–"
    for arm, planted_log in (("C", -0.12), ("CS", -0.2), ("B-80%", 0.08), ("A/A", 0.0)):
        estimate = float(re.match(r"[−+]?[\d.]+", change[arm])[0].replace("−", "-"))
        assert abs(estimate - 100 * math.expm1(planted_log)) < 2, arm
        assert re.search(r"\([−+]?[\d.]+ to [−+]?[\d.]+ %\)$", change[arm])


def test_main_table_shows_the_means_of_the_table_of_distances(whole):
    from benchmark.reporting.tables.build import fid_vs_steps

    table = next(t for t in fid_vs_steps(whole.frame)[0] if "@2048" in t.title)
    last = {row[0]: next(c for c in reversed(row) if c != "–") for row in table.body}
    assert {row[0]: row[1] for row in main_table(whole).body} == last


def test_main_table_lists_seeds_only_where_arms_differ(planted):
    table = main_table(study_of(planted(("B", "C"), range(3))))
    assert table.header == ("arm", "distance", "against B")
    rows = [*planted(("B",), range(3)), *planted(("C",), range(2))]
    table = main_table(study_of(rows))
    assert table.header[-1] == "seeds"
    assert [row[-1] for row in table.body] == ["3", "2"]


def test_one_seed_gives_no_interval_and_the_images_own_error(single, planted):
    assert main_table(single).body[1][2].endswith("(n=1)")
    rows = [dataclasses.replace(row, error=1.5) for row in planted(("B", "C"), [0])]
    rows = [row for row in rows if row.sampling_seed == 0]
    table = main_table(study_of(rows))
    assert table.body[0][1].endswith("± 1.50 (se)")
    assert any(note.startswith("(se)") for note in table.notes)


def test_effect_without_a_claim_is_a_paired_one(whole, planted):
    endpoint = whole.endpoint
    effect = effect_on("CS", endpoint, [])
    values = endpoint.values["CS"] - endpoint.values["B"]
    assert effect.estimate == pytest.approx(values.mean())
    assert effect.low < effect.estimate < effect.high
    assert effect_on("B", endpoint, []) is None
    alone = primary_endpoint(to_frame([*planted(("B",), [0]), *planted(("C",), [1])]))
    assert effect_on("C", alone, []) is None


def test_cautions_are_silent_on_a_full_study(whole):
    assert whole.absent == {}
    assert cautions(whole) == []


def test_cautions_say_where_nothing_guards_against_young_networks(planted):
    (text,) = cautions(study_of(planted(), None))
    assert text.startswith("How far B has learned was not measured")


def test_cautions_name_one_seed_and_smoke_in_plain_words(single):
    texts = cautions(single)
    assert texts[0].startswith("One training seed:")
    assert "1,024 generated images, fewer than 2,048" in texts[1]


def test_cautions_name_what_is_not_measured(planted):
    rows = [*planted(("B",), range(6)), *planted(("C",), (0, 1, 4))]
    study = study_of(rows)
    assert study.absent == {"C": [2, 3, 5]} and cells_text(study.absent) == ["C (seed 2–3, 5)"]
    assert "Not measured yet: C (seed 2–3, 5)." in cautions(study)


def test_the_scope_names_the_network_the_data_and_the_length(planted):
    config = {
        "model": {"network": "naive_unet"}, "process": {"kind": "edm"},
        "data": {"size": 32}, "training": {"global_batch": 16},
    }  # fmt: skip
    frame = to_frame(planted(("B", "C"), [0]))
    entry = {"config": config, "parameters": 180_435}
    networks = {"B": {"words": "NaiveUnet, n_feat 16"}}
    told = scope(StudyAnalysis(frame, index={"arms": {"B": entry}, "networks": networks}))
    assert told.startswith(
        "Measured with NaiveUnet, n_feat 16, edm (180,435 parameters) on avatars of 32 pixels, "
        "in runs of 1,000 steps of 16 examples."
    )
    unsized = {"B": entry | {"config": config | {"data": {}}}}
    assert "on avatars, in runs" in scope(StudyAnalysis(frame, index={"arms": unsized}))
    without_b = StudyAnalysis(to_frame(planted(("C",), [0])), index={"arms": {"B": entry}})
    assert scope(without_b) == ""
    # Older indices and those of strangers may lack any of it, or hold something else.
    for index in ({}, {"arms": {"B": entry | {"parameters": "x"}}}, {"arms": {"C": entry}}):
        assert scope(StudyAnalysis(frame, index=index)) == ""


def test_missing_cells_are_those_of_the_index_where_there_is_one(planted):
    rows = [*planted(("B",), range(3)), *planted(("C",), (0,))]
    cells = [{"arm": arm, "seed": seed} for arm, seed in (("B", 0), ("CR", 1), ("CR", 0))]
    assert StudyAnalysis(to_frame(rows), index={"cells": cells}).absent == {"CR": [0, 1]}


def test_cautions_name_a_failed_instrument(planted):
    rows = planted(("B", "C", "B-80%"), range(6))
    swap = {"B": "B-80%", "B-80%": "B"}
    swapped = [dataclasses.replace(row, arm=swap.get(row.arm, row.arm)) for row in rows]
    assert "The instrument fails a check of its own: B-80%." in cautions(study_of(swapped))


def test_cautions_without_a_finished_arm(planted):
    rows = [row for row in planted(("B",), [0]) if row.step < 1000]
    study = study_of(rows)
    assert study.endpoint is None
    assert len(cautions(study)) == 1


def test_main_table_has_the_held_out_change_beside_the_distances(planted):
    rows = planted(("B", "C"), range(3))
    last = [row for row in rows if row.step == row.total_steps and row.metric.endswith("@2048")]
    rows += [
        dataclasses.replace(row, metric="eps-MSE/L_simple", n_generated=0, sampler="",
                            value=0.1 if row.arm == "B" else 0.09)
        for row in last if row.sampling_seed == 0
    ]  # fmt: skip
    table = main_table(study_of(rows))
    column = table.header.index("held-out ε-MSE against B")
    assert [line[column] for line in table.body] == ["–", "−10.0 % (−10.0 to −10.0 %)"]


def test_main_table_is_of_the_sampling_seeds_that_count(whole, planted):
    """What the verdicts are not about, such as one cell's further sampling, moves no number."""
    rows = planted()
    last = [row for row in rows if row.arm == "C" and row.seed == 0 and row.step == row.total_steps]
    more = [dataclasses.replace(row, sampling_seed=9, value=2 * row.value) for row in last
            if row.metric == whole.endpoint.metric and row.sampling_seed == 0]  # fmt: skip
    assert more
    assert main_table(study_of([*rows, *more])) == main_table(whole)
    lost = max(
        (row for row in last if row.metric == whole.endpoint.metric), key=lambda r: r.sampling_seed
    )
    fewer = [row for row in rows if row is not lost]
    table, before = main_table(study_of(fewer)), main_table(whole)
    place = [line[0] for line in table.body].index("C")
    assert table.body[place] != before.body[place]
    assert [line[1] for line in table.body if line[0] != "C"] == [
        line[1] for line in before.body if line[0] != "C"
    ]


def test_nothing_speaks_of_images_where_the_primary_metric_is_an_error(planted):
    rows = [
        *planted(("B", "C"), range(3)),
        *(
            dataclasses.replace(
                row, metric=metric, n_generated=0, sampler="", sampler_steps=0, value=row.value / 99
            )
            for row in planted(("B", "C"), range(3))
            if row.metric.endswith("@2048") and row.sampling_seed == 0
            for metric in SUMMARIES
        ),
    ]
    study = StudyAnalysis(to_frame(rows), Terms(endpoint=PrimaryMetric(SUMMARIES[0])))
    table = main_table(study)
    assert table.header == ("arm", "error", "against B")
    notes = " ".join(table.notes)
    assert "generated image" not in notes and "Fréchet" not in notes and "sampling" not in notes
    names = {check.name for check in evidence(study)}
    assert "Complete" in names
    assert not names & {"Enough images", "Sampling repeated", "Distance and held-out error agree"}
    # It does not stand beside itself, nor among the other measures.
    assert study.held_out is None and "held-out" not in headline(study)
    assert {one.metric for one in study.measures} == set(SUMMARIES[1:])
    caption = verdicts(study)[0][0].caption
    assert "changes of the error" in caption and "sampling seed" not in caption
    assert "distance" not in caption and "distance" not in legends(study)["forest"].caption
    nothing = StudyAnalysis(study.frame[study.frame["step"] == 0], study.terms)
    assert cautions(nothing)[0].startswith("No arm has an error at its last step")
