"""What networks that read text are told when they are scored."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmark.evaluation.milestone.proof import check_finisher
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.study.study import EvaluationConfig
from mindiffusion.data.caption_file import captions_table
from mindiffusion.errors import UserError
from mindiffusion.kept_text import read_texts, text_encoder, text_part, text_table

MODEL = (
    "model={network: uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2, "
    "text: {width: 8, max_tokens: 6, vocabulary: 16, layers: 1}}"
)
WORDS = (MODEL, "data.captions=auto", "training.label_drop=0.25")


@pytest.fixture
def captioned(avatars):
    """Avatars of which image i has the captions "i mod 5" and "other"; prompts are of their own."""
    train, held_out = (
        [[str(image % 5), "other"] for image in range(len(images))]
        for images in (avatars.train, avatars.held_out)
    )
    prompts = [f"prompt {image % 3}" for image in range(len(held_out))]
    return replace(avatars, captions=captions_table("txt", train, held_out, prompts))


def test_scores_are_told_first_captions_and_drawn_by_the_held_out_prompts(captioned, tiny_config):
    yardstick = Yardstick(EvaluationConfig(), captioned, torch.device("cpu"), ())
    config = tiny_config("b", *WORDS)

    def texts(numbers):
        return [yardstick.texts[number] for number in numbers.tolist()]

    for split, count in (("held_out", 32), ("train", 256)):
        told = texts(yardstick.labels(config, split))
        assert told == [str(k % 5) for k in range(min(count, len(told)))]
    shown = texts(yardstick.conditions(config)(torch.arange(40)))
    assert shown == [f"prompt {k % 32 % 3}" for k in range(40)]
    # "sample", which has no data, draws by the same ones.
    encoder = text_encoder(config, captioned.captions)
    kept = text_part(encoder, captioned.captions)["text"]
    assert kept["prompts"] == shown[:32] and set(kept["vocabulary"]) == {*"01234", "other"}
    plain = tiny_config("b")
    assert yardstick.labels(plain, "train") is None and yardstick.conditions(plain) is None


def test_training_and_scoring_read_one_table(captioned, tiny_config):
    config, captions, read = tiny_config("b", *WORDS), captioned.captions, []
    encoder = text_encoder(config, captions)
    network = SimpleNamespace(read_texts=read.append)
    yardstick = Yardstick(EvaluationConfig(), captioned, torch.device("cpu"), ())
    read_texts(network, text_part(encoder, captions), config, yardstick.texts)
    table = text_table(encoder, captions)
    assert read[0] is table and table.count == len(captions.texts) > captions.num_learned


def test_a_finisher_reads_captions_as_the_run_does(tiny_config):
    run, plain = tiny_config("b", *WORDS), tiny_config("b")
    check_finisher(run, tiny_config("c", *WORDS))
    for one, finisher in ((run, plain), (plain, run)):
        with pytest.raises(UserError, match="reads captions that the other does not") as caught:
            check_finisher(one, finisher)
        assert "\n" not in str(caught.value)
