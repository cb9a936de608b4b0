"""Whether drawn portraits obey their prompts: rows, their yardsticks, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.milestone.faithful_rows import faithful_rows, flip_rows, judge_of
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.text_rows import (
    check_text_metrics,
    clip_rows,
    real_clip_rows,
)
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.row import key
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.data.attribute_words import MEANINGS
from mindiffusion.data.avatars import FIRST_HELD_OUT, AvatarCaptioner, label_names
from mindiffusion.data.caption_file import captions_table
from mindiffusion.data.caption_grammar import Statement, parse
from mindiffusion.errors import UserError
from mindiffusion.sampling import model_of, sample_images
from mindiffusion.text_conditions import in_turn
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

MODEL = (
    "model={network: uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2, "
    "text: {width: 8, max_tokens: 24, vocabulary: 128, layers: 1}}"
)
WORDS = (MODEL, "data.captions=auto", "training.label_drop=0.25", "training.steps=6",
         "training.milestones=[6]", "sampler.steps=2", "sampler.chunk=4")  # fmt: skip
STYLE = ("personas",)
EVALUATION = EvaluationConfig(
    num_generated=12, num_curve=8, num_reference=32, feature_nets=("effnet-lite0-64",),
    metrics=("faithfulness",), strip=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def captioned(avatars):
    """The avatars with captions of what they show."""
    captioner = AvatarCaptioner(STYLE)
    splits = []
    for first, labels in ((0, avatars.train_labels), (FIRST_HELD_OUT, avatars.held_out_labels)):
        columns = [labels[name].tolist() for name in label_names(STYLE)]
        splits.append([(first + k, codes) for k, codes in enumerate(zip(*columns, strict=True))])
    train, held_out = ([captioner.captions(*one) for one in split] for split in splits)
    prompts = [captioner.prompt(*one) for one in splits[1]]
    return replace(avatars, captions=captions_table("attributes", train, held_out, prompts))


@pytest.fixture
def scored(workdir, tiny_config, captioned, monkeypatch):
    """A trained run's milestone and yardstick, with a classifier that reads clothes at least."""
    quick = ClassifierConfig(num_images=256, steps=120, batch=32, width=8)
    monkeypatch.setattr("benchmark.evaluation.milestone.yardstick.ClassifierConfig", lambda: quick)
    monkeypatch.setattr("benchmark.evaluation.milestone.faithful_rows._PORTRAITS", 64)
    config = tiny_config("b", *WORDS, output=workdir / "results" / "tiny" / "b")
    run(config, captioned.training, Ranks(), lambda trainer: Hooks())
    study = Study("tiny", workdir / "results" / "tiny", (config,), EVALUATION)
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 6))
    plan = resolve_plan(config, len(captioned.train))
    folder = config.run_dir
    milestone = Milestone(study, config, plan, captioned.manifest_id, content, folder)
    return milestone, make_yardstick(EVALUATION, captioned, "cpu")


def by_name(rows):
    """Rows by metric, without those of noise levels."""
    assert len({key(row) for row in rows}) == len(rows)
    whole = [row for row in rows if row.level is None]
    found = {row.metric: row for row in whole}
    assert len(found) == len(whole)
    return found


def drawn_by(milestone, prompts):
    """The first eight images of a milestone, by these prompts."""
    model = model_of(milestone.content, "ema0.99", torch.device("cpu"), prompts)
    sampler, codec = milestone.config.sampler, milestone.codec
    return sample_images(
        model, model.process, codec, sampler, 8, 32, conditions=in_turn(range(len(prompts)))
    )


def words_of(rows, start):
    """Prompts in the order of the strip's images, as rows' names have them."""
    found = (name.removeprefix(start).split("/", 1) for name in rows if name.startswith(start))
    return [words for _, words in sorted(found, key=lambda one: int(one[0]))]


def strip_of(milestone, row):
    strip = np.array(Image.open(milestone.study.folder / row.samples))
    return strip.reshape(32, 8, 32, 3).swapaxes(0, 1)


def test_prompts_are_judged_and_drawn_again_with_one_word_changed(scored):
    milestone, yardstick = scored
    rows = by_name(score_milestone(milestone, yardstick))
    judge = judge_of(yardstick, milestone.config.data)
    assert "clothes" in judge.features
    # The words of the strips' prompts stand in the rows; images are of the same noise.
    prompts, changed = words_of(rows, "prompt/"), words_of(rows, "prompt-changed/")
    assert prompts == [one.text for one in judge.prompts[:8]] and prompts != changed
    images = drawn_by(milestone, prompts)
    assert np.array_equal(strip_of(milestone, rows["faithful@8"]), images)
    assert np.array_equal(strip_of(milestone, rows["flip@8"]), drawn_by(milestone, changed))
    values = judge.read(images)
    held = [
        values[k]["clothingColor"] in colour_codes(one)
        for k in range(8)
        for one in judge.said(8)[k]
        if one.feature == "clothes"
    ]
    assert rows["faithful/clothes@8"].value == pytest.approx(np.mean(held))
    assert {"faithful@8", "faithful@12", "faithful-chance@12", "flip@8"} <= set(rows)
    assert "flip@12" not in rows  # they are as many as of the curve
    assert rows["faithful@12"].direction == rows["flip@8"].direction == "higher"
    assert rows["faithful@12"].versions["instrument"] == yardstick.classifier.fingerprint


def colour_codes(statement):
    (way,) = MEANINGS["personas"]["clothes"][statement.word]
    return way[0].values


SHADES = {word: number for number, word in enumerate(MEANINGS["personas"]["clothes"])}
"""Words of clothes, numbered."""


def test_real_portraits_obey_and_coarse_features_come_before_fine_ones(scored):
    milestone, yardstick = scored
    rows = by_name(score_milestone(milestone, yardstick))
    judge = judge_of(yardstick, milestone.config.data)
    # A classifier of a second of training, and still: real portraits obey.
    assert rows["faithful-real/clothes"].value > 0.8 and rows["flip-real/clothes"].value > 0.5
    assert rows["faithful-chance/clothes@12"].value < 0.6
    assert {*judge.coarse, *judge.fine} <= set(judge.features)
    sizes = [rows[f"flip-amplitude/{name}"].value for name in (*judge.coarse, *judge.fine)]
    assert sizes == sorted(sizes, reverse=True)


def test_pictures_that_obey_their_prompt_do_not_show_the_changed_word(scored):
    milestone, yardstick = scored
    judge = judge_of(yardstick, milestone.config.data)
    images = np.array(yardstick.data.held_out[:32])
    same = by_name(list(flip_rows(milestone, yardstick, images, images, {})))
    # A changed word was not true before; in pictures of other prompts it is now and then.
    assert same["flip/clothes@32"].value < 0.2
    assert same["flip-kept@32"].value == 1 > same["flip-kept-chance@32"].value
    assert same["flip-kept@32"].direction == "none"  # who ignores all prompts has 1 too
    own = by_name(list(faithful_rows(milestone, yardstick, images, {})))
    assert own["faithful@32"].value > own["faithful-chance@32"].value + 0.2
    assert judge.changed_prompts != [one.text for one in judge.prompts]


def test_statements_of_one_prompt_go_together_however_many_images_it_has(scored):
    milestone, yardstick = scored
    images = np.array(yardstick.data.held_out[:32])
    once, thrice = (
        by_name(list(faithful_rows(milestone, yardstick, some, {})))
        for some in (images, np.concatenate([images] * 3))
    )
    for name in ("faithful", "faithful/clothes"):
        assert thrice[f"{name}@96"].value == pytest.approx(once[f"{name}@32"].value)
        assert thrice[f"{name}@96"].error == pytest.approx(once[f"{name}@32"].error)


def test_a_classifier_that_can_judge_nothing_is_refused(scored, monkeypatch):
    milestone, yardstick = scored
    yardstick.fill_cache([milestone.config])
    where = "benchmark.evaluation.attributes.faithfulness.readable_features"
    monkeypatch.setattr(where, lambda attributes, styles: ())
    # Before anything is trained.
    with pytest.raises(UserError, match="reads too few of personas to judge any caption") as caught:
        yardstick.fill_cache([milestone.config])
    assert "\n" not in str(caught.value)


def test_clip_scores_pictures_by_their_own_prompts(scored, monkeypatch):
    """A CLIP for which two portraits are alike that have clothes of one colour."""
    milestone, yardstick = scored
    judge = judge_of(yardstick, milestone.config.data)
    colours = np.eye(8)

    def of_images(images):
        codes = [
            number
            for one in judge.read(images)
            for word, number in SHADES.items()
            if one["clothingColor"] in colour_codes(Statement("clothes", word))
        ]
        return torch.from_numpy(colours[codes])

    def of_texts(texts):
        said = [{one.feature: one.word for one in parse(text).statements} for text in texts]
        codes = [SHADES[one["clothes"]] if "clothes" in one else 7 for one in said]
        return torch.from_numpy(colours[codes])

    tool = SimpleNamespace(of_images=of_images, of_texts=of_texts, sha256="0" * 64)
    for name, found in (("clip_folder", lambda: None), ("open_clip", lambda folder, device: tool)):
        monkeypatch.setattr(f"benchmark.evaluation.milestone.text_rows.{name}", found)
    images = np.array(yardstick.data.held_out[:32])
    rows = by_name(
        [
            *clip_rows(milestone, yardstick, images, {}),
            *clip_rows(milestone, yardstick, images[:7], {}),
            *real_clip_rows(milestone, yardstick),
        ]
    )
    assert rows["CLIP-score@32"].value > 1.5 * rows["CLIP-score-chance@32"].value
    assert rows["CLIP-score-real"].value == rows["CLIP-score@32"].value
    assert (rows["CLIP-score@32"].direction, rows["CLIP-score-real"].direction) == (
        "higher",
        "none",
    )
    assert rows["CLIP-score@7"].versions["instrument"] == "0" * 12


@pytest.mark.parametrize(
    ("words", "metrics", "said"),
    [
        ((), ("faithfulness",), "has faithfulness, but the network of arm 'B' reads no captions"),
        ((), ("clip",), "has clip, but the network of arm 'B' reads no captions"),
        (WORDS, ("clip",), "needs a CLIP; name its folder by CLIP_PATH"),
        ((*WORDS, "data.dataset=photos", "data.style=personas"), ("faithfulness",),
         "but data.dataset is 'photos' with captions 'auto'; leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(tiny_config, monkeypatch, words, metrics, said):
    monkeypatch.delenv("CLIP_PATH", raising=False)
    config = tiny_config("b", *words)
    with pytest.raises(UserError, match=said) as caught:
        check_text_metrics(replace(EVALUATION, metrics=metrics), config)
    assert "\n" not in str(caught.value)
