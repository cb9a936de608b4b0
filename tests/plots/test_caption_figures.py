"""Figures and tables of networks that are told captions."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.tables.captions import captions
from benchmark.rows.frames import rows_with_strips, to_frame
from plots.build import drawable
from plots.figures import faithfulness, prompts
from plots.names import with_names_that_fit

pytestmark = pytest.mark.usefixtures("paper")
ARMS, STEPS = ("B", "C"), (750, 1500)
AMPLITUDES = {"mouth": 0.05, "hair": 0.2, "skin": 0.1}
VALUES = {"": 0.7, "/coarse": 0.8, "/fine": 0.6, "/hair": 0.9, "/skin": 0.7, "/mouth": 0.5}
LONG = "a person with " + "very " * 20 + "long hair, no glasses"


def caption_rows(make, seeds=(0,), counts=(128, 256)):
    of_data = {"n_generated": 0, "sampler": "", "sampler_steps": 0, "direction": "none"}
    rows = []
    for number, arm in enumerate(ARMS):
        for seed in seeds:
            for step in STEPS:
                cell = {"arm": arm, "seed": seed, "step": step, "full_range": step == 1500}
                own = cell | {"direction": "higher", "error": 0.02, "n_reference": 90}
                for end, value in VALUES.items():
                    for n in counts:
                        at = value - 0.1 * number - (0.3 if step == 750 else 0) - n / 10_000
                        rows.append(make.row(**own | {"n_generated": n}, value=at,
                                             metric=f"faithful{end}@{n}"))  # fmt: skip
                    at = {"n_generated": 128}
                    rows.append(make.row(**own | at, metric=f"flip{end}@128", value=value - 0.2))
                    rows.append(make.row(**own | at, metric=f"faithful-chance{end}@128", value=0.3))
                    rows.append(make.row(**own | at, metric=f"flip-chance{end}@128", value=0.1))
                    rows.append(
                        make.row(**cell | of_data, metric=f"faithful-real{end}", value=0.95)
                    )
                rows.append(make.row(**own | at, metric="flip-kept@128", value=0.8))
                rows += [
                    make.row(**cell | of_data, metric=f"flip-amplitude/{name}", value=value)
                    for name, value in AMPLITUDES.items()
                ]
    return rows


def prompt_rows(make, folder, arms=ARMS, side=4, count=8):
    """Rows of strips whose k-th image is 10 k bright, or 10 k + 5 of the changed prompts."""
    rows = []
    for arm in arms:
        for step in STEPS:
            cell = {"arm": arm, "step": step, "n_generated": 16, "full_range": step == 1500}
            for name, start, shift in (("samples-", "faithful@16", 0), ("flips-", "flip@16", 5)):
                picture = f"{arm}/{name}{step:09d}.png"
                (folder / arm).mkdir(exist_ok=True)
                strip = np.repeat(10 * np.arange(count, dtype=np.uint8) + shift, side)
                Image.fromarray(np.tile(strip[None, :, None], (side, 1, 3))).save(folder / picture)
                rows.append(make.row(**cell, metric=start, value=0.5, samples=picture))
            for k in range(count):
                words = LONG if k == 0 else f"a/b@{k}"
                rows.append(make.row(**cell, metric=f"prompt/{k}/{words}", value=float(k)))
                rows.append(make.row(**cell, metric=f"prompt-changed/{k}/other", value=float(k)))
    return rows


def test_tables_have_a_line_a_feature_and_an_arm_beside_the_others(make):
    tables, numbers = captions(to_frame(caption_rows(make)))
    held, changed, kept, *_ = tables
    assert held.title == "Statements of prompts that hold, at the end of training"
    assert held.header == ("about", "B", "C", "other prompts", "real")
    # The halves, then features by how much they move a picture; of 256 images, not of 128.
    assert [line[0] for line in held.body] == ["all", "coarse", "fine", "hair", "skin", "mouth"]
    assert held.body[0] == ("all", "67.4 ± 2.0 (se)", "57.4 ± 2.0 (se)", "30.0", "95.0")
    assert changed.body[0][1:] == ("50.0 ± 2.0 (se)", "50.0 ± 2.0 (se)", "10.0", "–")
    assert kept.body == (("all", "80.0 ± 2.0 (se)", "80.0 ± 2.0 (se)", "–", "–"),)
    assert any(table.title.startswith("faithful@256") for table in tables)
    assert {"faithful@256", "flip/hair@128", "faithful-real"} <= set(numbers["metric"])
    several = captions(to_frame(caption_rows(make, seeds=(0, 1))))[0][0]
    assert several.body[0][1] == "67.4 ± 0.0"
    assert captions(to_frame([make.row()]))[0] == []


def test_the_figure_has_shares_by_step_and_by_feature_beside_chance_and_real(make):
    figure = faithfulness.figure(to_frame(caption_rows(make)))
    steps, _, features, _ = figure.axes
    assert all(ax.yaxis.label.get_visible() and ax.get_ylabel() for ax in figure.axes)
    names = [text.get_text() for text in features.get_xticklabels()]
    assert names == ["hair", "skin", "mouth"]
    lines = {line.get_label(): line.get_ydata() for line in steps.lines}
    assert lines["B"] == pytest.approx([100 * (0.4 - 0.0256), 100 * (0.7 - 0.0256)])
    assert sorted(line.get_ydata()[0] for line in steps.lines if line.get_color() == "0.45") == [
        pytest.approx(30), pytest.approx(95),
    ]  # fmt: skip
    figure.canvas.draw()


@pytest.mark.parametrize("kind", ["faithful", "flip"])
def test_a_study_with_one_kind_of_share_is_drawn(kind, make):
    rows = [row for row in caption_rows(make) if row.metric.startswith(kind)]
    faithfulness.figure(to_frame(rows)).canvas.draw()


@pytest.mark.parametrize("values", [(0.0,), (1e70, -1e70)])
def test_any_numbers_can_be_drawn(values, make):
    rows = [
        dataclasses.replace(row, value=values[number % len(values)])
        for number, row in enumerate(caption_rows(make))
    ]
    odd = [dataclasses.replace(rows[0], metric=f"faithful{end}") for end in ("/odd", "/", "/a/b@3")]
    faithfulness.figure(to_frame([*rows, *odd])).canvas.draw()


def test_prompts_stand_above_their_pictures_and_changed_ones_below(make, tmp_path):
    study = with_names_that_fit(StudyAnalysis(to_frame(prompt_rows(make, tmp_path))))
    figure = prompts.figure(study.frame, tmp_path)
    (ax,) = figure.axes
    above = [text.get_text().replace("\n", " ") for text in ax.get_xticklabels()]
    assert above == [LONG, *(f"a/b@{k}" for k in range(1, 6))]
    assert [text.get_text() for text in ax.texts] == ["other"] * 6
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        f"{arm}, {what}" for arm in ARMS for what in ("step 750", "step 1,500", "one word changed")
    ]
    shown = ax.get_images()[0].get_array()
    corners = [shown[row, column].tolist() for row in (0, -1) for column in (0, -1)]
    assert corners == [[value] * 3 for value in (0, 50, 5, 55)]
    figure.canvas.draw()
    # The strips of changed prompts are of no other figure.
    strips = rows_with_strips(study.frame)["samples"]
    assert not strips.str.contains("flips").any()


def test_pictures_without_words_are_drawn_too(make, tmp_path):
    rows = [row for row in prompt_rows(make, tmp_path) if row.metric != "prompt/2/a/b@2"]
    rows = [row for row in rows if not row.metric.startswith("prompt-changed/")]
    rows.append(make.row(metric="prompt/odd"))
    (ax,) = prompts.figure(to_frame(rows), tmp_path).axes
    assert [text.get_text() for text in ax.get_xticklabels()][1:4] == ["a/b@1", "", "a/b@3"]
    assert not any(text.get_text() for text in ax.texts)


def test_they_are_drawn_where_there_are_such_rows(make, tmp_path):
    assert "faithfulness" in drawable(StudyAnalysis(to_frame(caption_rows(make))))
    plain = to_frame([make.row()])
    assert "faithfulness" not in drawable(StudyAnalysis(plain))
    assert prompts.prompt_cells(plain).empty
    without = [row for row in prompt_rows(make, tmp_path) if "prompt" not in row.metric]
    assert prompts.prompt_cells(to_frame(without)).empty
