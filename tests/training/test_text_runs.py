"""Captions in training: pairs, resume, what a milestone keeps, `sample`, what is refused."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from drive_training import TEXTS, captions_for
from PIL import Image

from benchmark.__main__ import main
from benchmark.evaluation.images.wish import Wish
from mindiffusion import kept_text
from mindiffusion.classes import NOT_TOLD
from mindiffusion.config.run import config_hash, from_kept, to_dict, to_kept
from mindiffusion.config.text import TextConfig
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.kept_text import encoder_of, text_of
from mindiffusion.sampling import config_of, model_of
from mindiffusion.text.reading import Reading
from mindiffusion.text.table import TextTable
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.preflight import check_run, preflight
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

SIZES = "patch_size: 8, depth: 2, num_heads: 2"
TEXT = "text: {width: 8, max_tokens: 6, vocabulary: 16, layers: 1}"
UVIT = f"model={{network: uvit, embed_dim: 16, {SIZES}, {TEXT}}}"
DIT = f"model={{network: dit, hidden_size: 16, {SIZES}, {TEXT}}}"
WORDS = ("data.captions=auto", "training.label_drop=0.25", "training.steps=9",
         "training.milestones=[9]", "training.checkpoint_every=4")  # fmt: skip


@pytest.fixture
def train(avatars, workdir):
    """A function that trains a run on avatars with a few captions; returns its Trainer."""
    data = TrainingData(
        avatars.train, avatars.manifest_id, captions=captions_for(len(avatars.train))
    )

    def trained(config, stop_after=None, captions=data.captions):
        own = dataclasses.replace(data, captions=captions)
        return run(config, own, Ranks(), lambda trainer: Hooks(), stop_after)

    return trained


@pytest.fixture
def milestone(train, tiny_config):
    """The path of a milestone of a tiny text U-ViT."""
    config = tiny_config("b", UVIT, *WORDS)
    train(config)
    return checkpoint.weights_path(config.run_dir, 9)


def test_arms_of_one_seed_are_told_the_same_captions(train, tiny_config):
    seen = {}
    for arm in ("b", "c"):
        trainer = train(tiny_config(arm, UVIT, *WORDS, output=arm))
        batches = [trainer.source.batch(step, 0, 8) for step in range(9)]
        seen[arm] = torch.stack([batch.condition for batch in batches])
    assert torch.equal(seen["b"], seen["c"])
    assert set(seen["b"].unique().tolist()) == {NOT_TOLD, 0, 1, 2, 3}


@pytest.mark.parametrize("model", [UVIT, DIT])
def test_a_run_with_captions_goes_on_as_if_it_had_not_stopped(
    model, train, tiny_config, assert_same
):
    whole = train(tiny_config("b", model, *WORDS, output="whole"))
    train(tiny_config("b", model, *WORDS, output="parts"), stop_after=4)
    parts = train(tiny_config("b", model, *WORDS, output="parts"))
    for part in ("network", "averages", "optimizer"):
        assert_same({part: whole.state()[part]}, {part: parts.state()[part]}, 0)
    # The encoder is trained with the network.
    before = train(tiny_config("b", model, *WORDS, output="begin"), stop_after=1).network
    assert not torch.equal(before.texts.words.weight, whole.network.texts.words.weight)


def test_a_run_goes_on_with_its_own_vocabulary_alone(train, tiny_config):
    train(tiny_config("b", UVIT, *WORDS), stop_after=4)
    captions = captions_for(256)
    other = dataclasses.replace(captions, texts=("a cat", *TEXTS[1:]))
    with pytest.raises(UserError, match=r"with another text encoder .vocabulary differs"):
        train(tiny_config("b", UVIT, *WORDS), captions=other)


def test_a_milestone_keeps_vocabulary_and_prompts_and_needs_no_data(
    milestone, call, workdir, tiny_config
):
    content = checkpoint.load(milestone)
    config = config_of(content)
    kept = text_of(content, config)
    assert kept.prompts == [TEXTS[4]] * 3 and kept.encoder == "words" and kept.sha256 is None
    assert set(kept.vocabulary) == {"a", "bald", "man", "hat", "no", "beard", ","}  # none held out
    assert encoder_of(content, config).vocabulary.words == tuple(kept.vocabulary)
    assert call(main, ["export", str(milestone), "x.safetensors"])[0] == 0
    assert text_of(open_weights(workdir / "x.safetensors"), config) == kept
    plain = {key: value for key, value in content.items() if key != "text"}
    with pytest.raises(UserError, match="keeps 0 words of a vocabulary, but its network reads"):
        text_of(plain, config)
    many = content | {"text": content["text"] | {"vocabulary": list("abcdefghijklm")}}
    with pytest.raises(UserError, match=r"keeps 13 words .* with at most 12"):
        text_of(many, config)


def test_numbers_of_conditions_are_those_of_the_texts_that_are_given(milestone):
    content = checkpoint.load(milestone)
    x, told = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32), torch.ones(2)

    def answer(texts, numbers):
        network = model_of(content, "raw", torch.device("cpu"), texts).network
        with torch.no_grad():
            return network(x, told, torch.tensor(numbers))

    there = answer(["a hat", "a beard"], [0, 1])
    torch.testing.assert_close(answer(["a beard", "a hat"], [1, 0]), there)
    torch.testing.assert_close(answer(None, [0, 2]), answer([TEXTS[4]], [0, 0]))
    assert not torch.allclose(answer(["a beard"], [0, 0])[0], there[0])
    with pytest.raises(UserError, match=r"the number of a caption from 0 to 0 .* from 0 to 1"):
        answer(["a beard"], [0, 1])


def drawn(call, milestone, *words):
    code, _, err = call(
        main, ["sample", str(milestone), "--count", "2", "--output", "x.npy", *words]
    )
    assert code == 0, err
    return np.load("x.npy"), err


def test_sample_draws_what_a_prompt_says(milestone, call, monkeypatch):
    prompts, _ = drawn(call, milestone)
    same, _ = drawn(call, milestone, "--prompt", TEXTS[4])
    np.testing.assert_array_equal(prompts, same)
    hat, err = drawn(call, milestone, "--prompt", "a hat", "--guidance", "2")
    assert not np.array_equal(
        hat, drawn(call, milestone, "--prompt", "a beard", "--guidance", "2")[0]
    )
    assert "cut" not in err and "vocabulary" not in err
    _, err = drawn(call, milestone, "--prompt", "a zebra with no hat and no beard")
    assert "is cut behind 'a zebra with no hat'" in err and "vocabulary has no zebra, with;" in err


def test_a_frozen_encoder_must_be_the_one_that_was_trained_with(
    train, tiny_config, monkeypatch, workdir
):
    """One that the test makes: each text's states are its length."""
    text = TextConfig(encoder="hf:some", width=4, max_tokens=6, null="empty")

    @dataclasses.dataclass(frozen=True, eq=False)
    class Lengths:
        config: TextConfig
        sha256: str
        words: tuple = ()

        def reading(self, text):
            return Reading(text)

        def table(self, texts):
            lengths = torch.tensor([0.0, *map(len, texts)])
            rows = lengths[:, None, None].expand(-1, 6, 4) / 10
            return TextTable(rows.half(), torch.full((len(rows),), 6))

    opened = []
    monkeypatch.setattr(
        kept_text, "_encoder", lambda text, words: Lengths(text, "ab"[len(opened)] * 64)
    )
    model = UVIT.replace(TEXT, "text: {encoder: 'hf:some', width: 4, max_tokens: 6, 'null': empty}")
    config = tiny_config("b", model, *WORDS)
    trainer = train(config)
    assert config.model.text == text and not any("texts" in k for k in trainer.network.state_dict())
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 9))
    assert content["text"]["sha256"] == "a" * 64 and content["text"]["vocabulary"] == []
    model_of(content, "raw", torch.device("cpu"), ["a hat"])
    opened.append("another")
    with pytest.raises(UserError, match="hf:some is not the one that this checkpoint was trained"):
        model_of(content, "raw", torch.device("cpu"), ["a hat"])


def test_the_example_of_the_docs_draws(milestone, repository, workdir):
    text = (repository / "docs" / "text.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = example.split("config = config_of")[1]
    assert len(code.splitlines()) <= 20
    exec(example.replace("weights-000004000.pt", str(milestone)), {})
    assert Image.open("grid.png").size == (4 * 32, 4 * 32)


def test_sample_asks_again_and_again(milestone, call, monkeypatch, capsys):
    import io

    def asked(lines):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return drawn(call, milestone, "--interactive", "--seed", "3")[0]

    wished = drawn(call, milestone, "--prompt", "a hat", "--seed", "3")[0]
    np.testing.assert_array_equal(asked("a beard\na hat\nq\na beard\n"), wished)
    other = drawn(call, milestone, "--prompt", "a hat", "--seed", "4")[0]
    np.testing.assert_array_equal(asked("a hat\n\n"), other)
    np.testing.assert_array_equal(asked(f"a hat\n{'x' * 5000}\n"), wished)  # told, and asked again
    np.testing.assert_array_equal(asked(f"a hat\n{'x' * 5000}\n\n"), other)


def test_a_prompt_is_brought_into_the_form_of_captions(milestone):
    content = checkpoint.load(milestone)
    shown = Wish(prompt=" a  hate\u0301 ").shows(content, config_of(content))
    assert shown.texts == ("a hat\u00e9",)


def test_what_a_network_is_not_told_of_is_one_line(milestone, call, train, tiny_config):
    def refused(path, *words):
        code, _, err = call(main, ["sample", str(path), *words])
        assert code == 2 and err.count("\n") == 1
        return err

    assert "network that reads text and knows no classes; give --prompt" in refused(
        milestone, "--class", "3"
    )
    config = tiny_config("b", "training.steps=1", "training.milestones=[1]", output="plain")
    train(config, captions=None)
    plain = checkpoint.weights_path(config.run_dir, 1)
    assert "a network that reads no text; leave it out" in refused(plain, "--prompt", "a hat")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([UVIT], "model.text is given, but data.captions is not given, so there are no captions"),
        ([UVIT, "data.labels=eyes"], "model.text is given, but data.labels is 'eyes', so there"),
        (["data.captions=auto"], "data.captions is 'auto', but the network naive_unet is told no "),
        (
            [f"model={{network: uvit, embed_dim: 16, {SIZES}, num_classes: 7}}",
             "data.captions=auto"],
            "data.captions is 'auto', but the network uvit is told classes; give model.text",
        ),
        (
            [UVIT.replace("text: {", "text: {encoder: 'hf:nowhere', ")
             .replace(", vocabulary: 16, layers: 1", ""), "data.captions=auto"],
            "the encoder's file nowhere/tokenizer.json does not exist",
        ),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_one_line(words, said, workdir, tiny_config):
    with pytest.raises(UserError, match=said) as caught:
        preflight(tiny_config("b", *words), 256)
    assert "\n" not in str(caught.value)


def test_classes_and_text_of_one_network_are_refused_when_the_config_is_read(tiny_config):
    for model in (UVIT, DIT):
        with pytest.raises(UserError, match="is told classes or captions; leave one of them out"):
            tiny_config("b", model.replace("text:", "num_classes: 7, text:"))
    with pytest.raises(UserError, match=r"model.text"):
        tiny_config("b", f"model={{network: song_unet, {TEXT}}}")


def test_data_and_network_have_both_text_or_neither(train, tiny_config):
    with pytest.raises(UserError, match="came with no captions, but the network uvit reads text"):
        train(tiny_config("b", UVIT, *WORDS), captions=None)
    with pytest.raises(UserError, match=r"came with captions, but .* naive_unet does not read"):
        train(tiny_config("b", output="none"))


def test_settings_of_text_leave_hashes_of_other_runs_as_they_were(tiny_config):
    plain = tiny_config("b", "model={network: uvit}")
    assert "text" not in to_dict(plain)["model"] and "captions" not in to_dict(plain)["data"]
    told = tiny_config("b", UVIT, *WORDS)
    assert from_kept(to_kept(told), "x") == told
    assert told.model.words.endswith("text by words (6 tokens of 8, null learned)")
    changes = ("model.text.null=empty", "model.text.max_tokens=7", "model.text.layers=2")
    hashes = {config_hash(tiny_config("b", UVIT, *WORDS, change)) for change in changes}
    assert len(hashes | {config_hash(told)}) == 4
    check_run(told, 256)
