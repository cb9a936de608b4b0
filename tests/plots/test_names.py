import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.build import MOST_ARMS, drawn, some_arms
from plots.figures import cost_vs_quality
from plots.figures.forest import interval_text
from plots.names import shortened, with_names_that_fit

COLUMNS = ("metric", "weights", "sampler", "declared", "device")


def frame_of(*arms):
    return pd.DataFrame({"arm": list(arms)} | dict.fromkeys(COLUMNS, "plain"))


def arms_of(*arms):
    return list(with_names_that_fit(StudyAnalysis(frame_of(*arms))).frame["arm"])


def test_usual_names_stay_as_they_are():
    usual = ["B", "C", "density*", "CR-x100-shuffled*", "EDM-lognormal", "logit-normal"]
    assert arms_of(*usual) == usual


def test_long_names_are_short_and_stay_apart():
    shown = arms_of("x" * 200, "x" * 199 + "y", "x" * 100 + "z" + "x" * 99)
    assert len(set(shown)) == 3 and max(map(len, shown)) <= 27


def test_a_control_is_still_known_as_its_arm_s():
    arm, control = arms_of("a" * 150, "a" * 150 + "-density*")
    assert control == f"{arm}-density*"


def test_letters_that_the_font_has_not_become_their_codes():
    assert arms_of("日", "שלום") == ["U+65E5", "שלום"]
    assert arms_of("", " ") == ['""', '" "']


def test_no_name_is_maths_or_left_out_of_a_legend():
    dollars, hidden = arms_of(r"w$\alpha_{$", "_hidden")
    ax = Figure().subplots()
    for name in (dollars, hidden):
        ax.plot([0, 1], label=name)
    ax.figure.draw_without_rendering()
    assert ax.get_legend_handles_labels()[1] == [r"w\$\alpha_{\$", " _hidden"]
    ax.set_title(dollars)
    assert ax.title._preprocess_math(dollars) == (r"w$\alpha_{$", False)


def test_figures_have_room_for_some_of_very_many_arms_and_say_so(make):
    rows = [make.row(arm=arm) for arm in ("B", *(f"arm{k}" for k in range(100)))]
    study, note = some_arms(StudyAnalysis(to_frame(rows)))
    frame = study.frame
    assert frame["arm"].nunique() == MOST_ARMS and "B" in set(frame["arm"])
    assert note.startswith(f"{MOST_ARMS} of 101 arms")


def test_a_study_with_some_of_its_rows_is_judged_as_the_whole(make, monkeypatch):
    monkeypatch.setattr("plots.build.MOST_ARMS", 2)
    cells = [(arm, seed) for arm in ("B", "C", "one", "two") for seed in (0, 1)]
    rows = [make.row(arm=arm, seed=seed, value=50.0 + seed) for arm, seed in cells]
    # Of the two arms that are shown, most cells have an FID; of all four, they have not.
    rows += [make.row(arm=arm, seed=0, metric="FID@2048") for arm in ("B", "C")]
    whole = StudyAnalysis(to_frame(rows))
    some, _ = some_arms(whole)
    assert set(some.frame["arm"]) == {"B", "C"} and whole.endpoint.values.shape[1] == 4
    assert some.endpoint is whole.endpoint and some.findings is whole.findings
    assert set(cost_vs_quality.end_costs(some).index) <= {"B", "C"}


def test_figures_of_verdicts_judge_all_arms(make, paper, monkeypatch):
    monkeypatch.setattr("plots.build.MOST_ARMS", 2)
    arms = ["B", "C", "one", "two"]
    cells = [(arm, seed) for arm in arms for seed in (0, 1)]
    rng = np.random.default_rng(0)
    frame = to_frame(
        make.row(arm=arm, seed=seed, value=float(rng.uniform(50, 60))) for arm, seed in cells
    )
    figures = dict(drawn(StudyAnalysis(frame)))
    words = {text.get_text() for text in figures["forest"].axes[0].texts}
    assert {interval_text(one) for one in StudyAnalysis(frame).findings} <= words
    assert any("2 of 4 arms" in text.get_text() for text in figures["fid_vs_steps"].texts)


def test_the_middle_of_a_long_text_is_left_out():
    assert shortened("abcdefghijkl", 6) == "abc…kl" and shortened("abc", 6) == "abc"
