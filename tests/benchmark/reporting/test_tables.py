import csv
import dataclasses
import json
import random
import subprocess
import sys

import pytest
from remade import tables_of

from benchmark.__main__ import main
from benchmark.reporting.tables.as_text import Table, decimals_for, to_latex, to_markdown
from benchmark.reporting.tables.build import (
    checks,
    curriculum,
    denoising,
    fid_vs_steps,
    kid_and_eps_mse,
    quality,
)
from benchmark.reporting.tables.network_features import network_features
from benchmark.rows.file import append_rows
from benchmark.rows.frames import to_frame
from benchmark.rows.row import Row
from mindiffusion.errors import UserError

ROW = Row(
    study="demo", arm="B", seed=0, step=100, total_steps=200, metric="FD-Net@256", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=256,
    n_reference=512, weights="ema0.99", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="avatars", manifest="abc", config_hash="c0",
    git="g", versions={}, device="cpu", host="h", threads=1, train_seconds=1.5, time="t",
)  # fmt: skip


def row(**changes):
    return dataclasses.replace(ROW, **changes)


def study_rows(seeds=(0,)):
    rows = []
    for seed in seeds:
        for arm, start in (("B", 0.0), ("C", 0.5)):
            rows += [
                row(arm=arm, seed=seed, step=0, metric=name, value=value, direction="none",
                    n_generated=0, n_reference=0, weights="", sampler="", stage="first")
                for name, value in (("t_min", start), ("t_max", 1.0), ("active_channels", 64.0))
            ]  # fmt: skip
            for step in (100, 200):
                cell = {"arm": arm, "seed": seed, "step": step}
                cell["full_range"] = arm == "B" or step == 200
                value = 40_000 / step + 10 * seed + 100 * start
                rows.append(row(**cell, value=value))
                rows.append(row(**cell, metric="corner-roughness@256", value=value / 10, error=1.0))
                rows += mask_rows([0.01 * seed, -0.02], seed=seed, step=step)[: 2 * (arm == "C")]
                rows.append(row(**cell, metric="KD-Net@256", value=value / 5000, error=0.01))
                rows += [
                    row(**cell, metric="eps-MSE", level=level, value=level + seed, n_generated=0)
                    for level in (0.25, 0.75)
                ]
    return rows


GOLDEN = """\
### FD-Net@256, ema0.99 weights, by training step (lower is better) [smoke]

demo on avatars; ddim, 50 steps; 256 generated images; 512 reference images; exploratory. \
n=1: one training seed, no interval.

| arm | step 100 | step 200 |
| --- | ---: | ---: |
| B | 400.0 | 200.0 |
| C | 450.0† | 250.0 |

† Not all noise levels trained yet in this arm at this milestone: the value depends on untrained \
ones, so it enters no summary.

Smoke: fewer than 2048 generated images, far too few to compare with other work.
"""


def test_fid_table_is_the_golden_one(tmp_path):
    append_rows(tmp_path / "rows.jsonl", study_rows())
    tables_of(tmp_path)
    assert (tmp_path / "tables" / "fid_vs_steps.md").read_text() == GOLDEN


def test_tables_that_no_rows_stand_for_go_and_other_files_stay(tmp_path, caplog):
    rows, path = study_rows(), tmp_path / "rows.jsonl"
    append_rows(path, rows)
    first = tables_of(tmp_path)
    assert "removed" not in caplog.text
    for name in ("mine.csv", "fid_vs_steps.txt"):
        (tmp_path / "tables" / name).write_text("of my own")
    path.unlink()
    append_rows(path, [one for one in rows if one.metric.startswith("FD")])
    second = tables_of(tmp_path)
    assert 0 < len(second) < len(first)
    left = {path.name for path in (tmp_path / "tables").iterdir()}
    assert left == {path.name for path in second} | {"mine.csv", "fid_vs_steps.txt"}
    assert f"removed {len(first) - len(second)} files that no rows stand for" in caplog.text


def test_the_commands_say_how_many_milestones_have_lost_rows(tmp_path, caplog):
    append_rows(tmp_path / "rows.jsonl", [*study_rows(), row(metric="scored-own/p")])
    cells = [{"arm": "B", "seed": 0, "run": "b/seed0", "milestones": [100, 200]}]
    index = {"study": "demo", "proofs": ["scored-own/p"], "cells": cells}
    (tmp_path / "study.json").write_text(json.dumps(index))
    assert main(["tables", str(tmp_path)]) == 0
    (said,) = caplog.messages
    assert "1 of the 2 milestones" in said and "the first is B/0 at step 200" in said
    append_rows(tmp_path / "rows.jsonl", [row(metric="scored-own/p", step=200)])
    (tmp_path / "report.html").touch()
    caplog.clear()
    assert main(["tables", str(tmp_path)]) == 0
    # Nothing is missing; what this command does not write is named.
    (said,) = caplog.messages
    assert "report.html and the figures are as they were" in said


def test_a_study_that_lost_all_rows_is_no_other_folder(tmp_path, call):
    code, _, other = call(main, ["tables", str(tmp_path)])
    assert code == 2 and "give a study's folder" in other
    (tmp_path / "study.json").write_text(json.dumps({"study": "demo", "cells": []}))
    for make in (lambda path: None, lambda path: path.touch()):
        make(tmp_path / "rows.jsonl")
        code, _, said = call(main, ["tables", str(tmp_path)])
        assert code == 2 and "the rows are lost" in said and "Bring the file again" in said


def test_tables_have_the_same_bytes_for_any_row_order(tmp_path):
    rows = study_rows(seeds=(0, 1, 2))
    outputs = []
    for order in range(3):
        random.Random(order).shuffle(rows)
        folder = tmp_path / str(order)
        append_rows(folder / "rows.jsonl", rows)
        outputs.append({path.name: path.read_bytes() for path in tables_of(folder)})
    assert len(outputs[0]) == 30
    assert outputs[0] == outputs[1] == outputs[2]


def test_seeds_give_a_mean_and_an_interval():
    tables, numbers = fid_vs_steps(to_frame(study_rows(seeds=(0, 1, 2))))
    # Values 400, 410, 420: half width t(.975, 2) * 10 / sqrt(3) = 24.84.
    assert tables[0].body[0][1] == "410.0 ± 24.8"
    assert "n=3 training seeds" in tables[0].caption
    assert numbers["half_width_95"].iloc[0] == pytest.approx(24.841, abs=1e-3)


def test_a_single_seed_among_several_says_so():
    rows = [row(seed=0), row(seed=1, value=13.5), row(seed=0, arm="C")]
    (table,), _ = fid_vs_steps(to_frame(rows))
    assert table.body[1][1].endswith("(n=1)")
    assert "n=1–2" in table.caption


@pytest.mark.parametrize("change", [{"metric": "FD-Net@10k", "n_generated": 10_000},
                                    {"weights": "raw"}])  # fmt: skip
def test_unlike_numbers_get_tables_of_their_own(change):
    tables, numbers = fid_vs_steps(to_frame([row(), row(arm="C", **change)]))
    assert [len(table.body) for table in tables] == [1, 1]
    assert len(set(table.title for table in tables)) == 2
    assert len(numbers) == 2


def test_fid_replaces_other_distances_and_is_no_smoke_at_10k():
    rows = [row(), row(metric="FID@10k", n_generated=10_000)]
    (table,), numbers = fid_vs_steps(to_frame(rows))
    assert table.title.startswith("FID@10k")
    assert "smoke" not in table.title
    assert not any("Smoke" in note for note in table.notes)
    assert not numbers["smoke"].any()


def limits(b, c, step=200):
    return [row(arm=arm, step=step, metric="FD∞-Net@256", value=value, error=1.0)
            for arm, value in (("B", b), ("C", c))]  # fmt: skip


def test_arms_whose_rank_depends_on_n_are_marked():
    (table, *_), _ = fid_vs_steps(to_frame(study_rows() + limits(180.0, 170.0)))
    assert table.body[0] == ("B", "400.0", "200.0‡") and table.body[1][2] == "250.0‡"
    assert "infinitely many images" in table.notes[-1]
    (same, limit), numbers = fid_vs_steps(to_frame(study_rows() + limits(170.0, 180.0)))
    assert "‡" not in str(same) and limit.title.startswith("FD∞-Net@256 (extrapolated in 1/n)")
    assert set(numbers["metric"]) == {"FD-Net@256", "FD∞-Net@256"}


def test_summaries_are_held_against_the_baseline_as_log_ratios():
    rows = [row(arm=arm, metric="eps-MSE/L_simple", value=value, seed=seed, error=0.1)
            for arm, values in (("B", (1.0, 2.0)), ("C", (2.0, 4.0)), ("Own", (3.0,)))
            for seed, value in enumerate(values)]  # fmt: skip
    (values, ratios), _ = denoising(to_frame(rows))
    assert values.body[0][1].startswith("1.50")
    assert ratios.title.startswith("eps-MSE/L_simple: log-ratio to B")
    assert [line[0] for line in ratios.body] == ["B", "C", "Own"]
    assert ratios.body[1][1].startswith("0.693 ± 0.000")
    assert ratios.body[2][1].startswith("1.099")


def test_summaries_of_a_young_arm_stay_hollow_though_no_sampler_drew_them():
    rows = [row(arm=arm, metric="eps-MSE/ELBO", sampler="", full_range=arm == "B")
            for arm in ("B", "C")]  # fmt: skip
    tables, numbers = denoising(to_frame(rows))
    assert [table.body[1][1][-1] for table in tables] == ["†", "†"]
    assert set(numbers["full_range"]) == {True, False}


def test_stitched_distances_have_a_table_for_each_level():
    rows = [row(metric="stitched-above/FD-Net@256", level=tau, value=tau) for tau in (0.2, 0.6)]
    tables, numbers = quality(to_frame(rows))
    assert [table.title.split(",")[0] for table in tables] == [
        "stitched-above/FD-Net@256 at τ = 0.2", "stitched-above/FD-Net@256 at τ = 0.6"
    ]  # fmt: skip
    assert sorted(numbers["mean"]) == [0.2, 0.6]


def test_rank_is_held_against_limits_of_the_same_condition_alone():
    other = [dataclasses.replace(one, sampler="other") for one in limits(180.0, 170.0)]
    tables, _ = fid_vs_steps(to_frame(study_rows() + limits(170.0, 180.0) + other))
    assert "‡" not in str(tables[0])


def test_quality_has_a_table_a_metric_and_net_in_a_fixed_order():
    names = ["memorised-pixels@256", "IS@256", "precision-Net@256", "recall-Net@256"]
    tables, numbers = quality(to_frame([row(metric=name, value=0.5) for name in names]))
    assert [t.title.split(",")[0] for t in tables] == [names[2], names[3], names[1], names[0]]
    assert all("[smoke]" in table.title for table in tables) and numbers["smoke"].all()


def test_a_cell_without_a_row_stays_open():
    (table,), _ = fid_vs_steps(to_frame([row(), row(arm="C", step=200)]))
    assert table.body == (("B", "12.50", "–"), ("C", "–", "12.50"))


def test_second_table_has_the_kernel_distance_and_the_mean_over_levels():
    (kernel, mse), numbers = kid_and_eps_mse(to_frame(study_rows()))
    assert kernel.title.startswith("KD-Net@256")
    assert kernel.body[0][1:] == ("0.08000 ± 0.01000 (se)", "0.04000 ± 0.01000 (se)")
    assert any("says nothing of the spread over training seeds" in note for note in kernel.notes)
    assert not any("(se)" in note for note in mse.notes)
    own = numbers["standard_error_over_images"]
    assert own[numbers["metric"].str.startswith("KD")].tolist() == [0.01] * 4
    assert own[numbers["metric"].str.startswith("eps")].isna().all()
    assert mse.body[0][1:] == ("0.5000", "0.5000")
    assert "mean over 2 noise levels" in mse.title
    # An error over held-out images draws none, so it is never smoke.
    assert "smoke" not in mse.title
    assert not numbers[numbers["metric"].str.startswith("eps")]["smoke"].any()


@pytest.mark.parametrize("metric", ["KID@10k", "KD-Net@256"])
def test_kernel_distances_of_all_nets_are_tabulated(metric):
    (table,), _ = kid_and_eps_mse(to_frame([row(metric=metric), row(metric="FID@10k")]))
    assert table.title.startswith(metric)


def test_standard_error_over_images_shows_only_for_a_lone_measurement():
    rows = [row(seed=seed, metric="KD-Net@256", error=0.5) for seed in (0, 1)]
    rows.append(row(arm="C", metric="KD-Net@256", error=0.25))
    rows += [row(arm="D", metric="KD-Net@256", error=0.5, sampling_seed=k) for k in (0, 1)]
    (table,), numbers = kid_and_eps_mse(to_frame(rows))
    assert [line[1] for line in table.body] == [
        "12.50 ± 0.00", "12.50 ± 0.25 (se, n=1)", "12.50 (n=1)",
    ]  # fmt: skip
    assert numbers["standard_error_over_images"].isna().tolist() == [True, False, True]


def mask_rows(effects, **changes):
    """Rows of the mask's effect at levels 0.25, 0.5, ... ."""
    changes = {"arm": "CS", "metric": "mask-effect", "direction": "none", "sampler": "",
               "n_generated": 0, "full_range": False} | changes  # fmt: skip
    return [row(level=(k + 1) / 4, value=value, **changes) for k, value in enumerate(effects)]


def test_mask_effect_is_shown_at_its_largest_and_on_average():
    rows = mask_rows([0.01, -0.05, 0.02, 0.0]) + mask_rows([0.0] * 4, step=200, full_range=True)
    (largest, mean), numbers = checks(to_frame(rows))
    assert largest.body == (("CS", "-0.05000 at 0.5†", "0.00000"),)
    assert mean.body == (("CS", "-0.005000†", "0.000000"),)
    assert "largest |value| of 4 noise levels" in largest.title
    assert "mean over 4 noise levels" in mean.title
    assert largest.notes[0].startswith("Held-out ε-MSE with the mask lifted minus")
    assert numbers["level"].tolist()[:2] == [0.5, 0.25]


def test_a_tiny_mask_effect_does_not_read_as_zero():
    rows = mask_rows([0.0, -9.7e-9, 0.0, 0.0]) + mask_rows([0.0] * 4, step=200)
    (largest, _), _ = checks(to_frame(rows))
    assert largest.body == (("CS", "-9.7e-09 at 0.5†", "0.000000†"),)


def test_largest_mask_effect_is_at_one_level_for_all_seeds():
    rows = mask_rows([0.9, 0.5, 0.0, 0.0]) + mask_rows([-0.7, 0.3, 0.0, 0.0], seed=1)
    (largest, _), numbers = checks(to_frame(rows))
    assert largest.body[0][1].startswith("0.4000 ± 1.2706 at 0.5")
    assert numbers["level"].iloc[0] == 0.5
    assert numbers["seeds"].tolist() == [2, 2]


def test_checks_come_in_a_fixed_order_and_weights_are_never_hollow():
    alone = {"arm": "CS", "direction": "none", "sampler": "", "n_generated": 0}
    names = ["group-norm-share-below-1%", "weight-movement-up0-on", "group-norm-mean",
             "weight-movement-encoder-masked"]  # fmt: skip
    rows = [row(metric=name, value=0.5, full_range=False, **alone) for name in names]
    drawn = ["colour-spread@256", "corner-roughness@256", "colour-offset@256"]
    rows += [*mask_rows([0.1, 0.2]), *(row(metric=name, full_range=False) for name in drawn)]
    tables, _ = checks(to_frame(rows))
    assert [table.title.split()[0].rstrip(",") for table in tables] == [
        "corner-roughness@256", "colour-offset@256", "colour-spread@256", "mask-effect",
        "mask-effect", "weight-movement-encoder-masked", "weight-movement-up0-on",
        "group-norm-mean", "group-norm-share-below-1%",
    ]  # fmt: skip
    assert [table.body[0][1].endswith("†") for table in tables] == [True] * 5 + [False] * 4


def test_colours_say_in_words_what_they_are():
    names = {"colour-offset@256": "lower", "colour-spread@256": "none"}
    rows = [row(metric=name, direction=better) for name, better in names.items()]
    (offset, spread), _ = checks(to_frame(rows))
    assert "lower is better" in offset.title and "in grey levels" in offset.notes[0]
    assert "no direction" in spread.title and "1 is right" in spread.notes[0]


def test_csv_has_the_full_numbers(tmp_path):
    append_rows(tmp_path / "rows.jsonl", [row(value=1 / 3), row(seed=1, value=2 / 3)])
    tables_of(tmp_path)
    with (tmp_path / "tables" / "fid_vs_steps.csv").open() as handle:
        (numbers,) = csv.DictReader(handle)
    assert float(numbers["mean"]) == (1 / 3 + 2 / 3) / 2
    assert (numbers["seeds"], numbers["metric"]) == ("2", "FD-Net@256")


def test_curriculum_table_joins_equal_seeds_and_parts_unlike_ones():
    rows = [
        row(metric="t_min", arm="C", seed=seed, step=step, value=value, stage=name)
        for seed, switch in ((0, 50), (1, 50), (2, 70))
        for step, value, name in ((0, 0.5, "wide"), (switch, 0.0, "all"))
    ]
    (table,), numbers = curriculum(to_frame(rows))
    assert [line[1:5] for line in table.body] == [
        ("0 1", "wide", "0", "50"),
        ("0 1", "all", "50", "200"),
        ("2", "wide", "0", "70"),
        ("2", "all", "70", "200"),
    ]
    assert numbers["seed"].tolist() == ["0 1", "0 1", "2", "2"]


def test_a_study_without_a_kind_of_row_gets_no_such_table(tmp_path):
    append_rows(tmp_path / "rows.jsonl", [row()])
    assert {path.stem for path in tables_of(tmp_path)} == {"fid_vs_steps"}


def test_latex_escapes_text_and_names_no_package_command():
    table = Table("50% of a_b", "x & y", ("arm", "λ"), (("density*_{1}", "1 ± 2†"),))
    text = to_latex(table, "one")
    assert r"\caption{50\% of a\_b. x \& y}" in text
    assert r"density*\_\{1\} & 1 $\pm$ 2$^\dagger$ \\" in text
    assert r"arm & $\lambda$ \\" in text
    assert text.isascii()


def test_all_latex_is_ascii_and_balanced(tmp_path):
    append_rows(tmp_path / "rows.jsonl", study_rows(seeds=(0, 1)))
    for path in tables_of(tmp_path):
        if path.suffix == ".tex":
            text = path.read_text()
            assert text.isascii()
            assert text.count(r"\begin{") == text.count(r"\end{")
            columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
            body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
            assert all(line.count(" & ") == len(columns) - 1 for line in body)


def test_markdown_keeps_arm_names_as_they_are():
    table = Table("t", "c", ("arm", "x"), (("a|b*_c", "1"),))
    assert r"| a\|b\*\_c | 1 |" in to_markdown(table)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([432.1, 98.7], 1), ([0.108, 0.0293], 4), ([12_345.0, 9000.0], 0), ([0.4, 0.0008], 5),
     ([0.0], 1), ([-3.0], 3), ([1e-9], 6)],
)  # fmt: skip
def test_decimals_show_the_smallest_value_too(values, decimals):
    assert decimals_for(values) == decimals


def test_write_tables_without_rows_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        tables_of(tmp_path)


def test_tables_never_import_torch(tmp_path):
    append_rows(tmp_path / "rows.jsonl", study_rows())
    code = (
        "import sys; from pathlib import Path; "
        "from benchmark.analysis.study_analysis import analyse; "
        "from benchmark.reporting.tables.build import study_tables, write_tables; "
        "folder = Path(sys.argv[1]); write_tables(study_tables(analyse(folder)), folder); "
        "print('torch' in sys.modules, "
        "*sorted(m for m in sys.modules if m.startswith('mindiffusion.')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    has_torch, *modules = out.stdout.split()
    assert has_torch == "False"
    kinds = {module.split(".")[1] for module in modules}
    ground = {"errors", "files", "outside", "disk_trouble", "machine", "places", "printable"}
    assert kinds == ground


def test_features_of_networks_are_averaged_over_layers_and_levels():
    rows = [
        row(step=step, arm=arm, metric=f"probe/{layer}/hair", level=level, direction="higher",
            n_generated=0, value=0.2 + 0.1 * number + level + (arm == "C") / 10)
        for step in (100, 200) for arm in ("B", "C") for level in (0.1, 0.3)
        for number, layer in enumerate(("down1", "up0"))
    ]  # fmt: skip
    rows += [
        row(metric="jacobian/effective-rank", level=level, value=level) for level in (0.2, 0.6)
    ]
    rows += [row(metric="spectrum/effective-rank@256", value=7.0), row(metric="probe/odd")]
    (probe, jacobian, samples), numbers = network_features(to_frame(rows))
    assert probe.title.startswith("probe/hair (mean over 2 layers and 2 noise levels)")
    assert [line[1][:4] for line in probe.body] == ["0.45", "0.55"]
    assert "(mean over 2 noise levels)" in jacobian.title and jacobian.body[0][1].startswith("0.4")
    assert samples.title.startswith("spectrum/effective-rank@256")
    assert len(numbers) == 6
