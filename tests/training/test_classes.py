"""Classes in training: which labels are dropped, what is refused, what a milestone keeps."""

import numpy as np
import pytest
import torch

from benchmark.__main__ import main
from mindiffusion.classes import NOT_TOLD
from mindiffusion.config.presets import build_config, load_preset
from mindiffusion.config.run import config_hash, to_dict
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import classes_of
from mindiffusion.sampling import config_of
from mindiffusion.training import checkpoint
from mindiffusion.training.batches import BatchSource
from mindiffusion.training.preflight import check_run, preflight

CPU = torch.device("cpu")


def source(labels, drop, **changes):
    settings = {"seed": 3, "global_batch": 64, "flip": False, "device": CPU} | changes
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    data = TrainingData(images, "m", labels)
    return BatchSource(data, PIXELS, dtype=torch.float32, label_drop=drop, **settings)


def test_labels_are_dropped_by_seed_step_and_position_alone():
    labels = np.arange(100) % 5
    dropping, telling = source(labels, 0.3), source(labels, 0.0)
    whole = torch.stack([dropping.batch(step, 0, 64).condition for step in range(20)])
    known = torch.stack([telling.batch(step, 0, 64).condition for step in range(20)])
    is_dropped = whole == NOT_TOLD
    assert abs(is_dropped.double().mean() - 0.3) < 4 * (0.3 * 0.7 / whole.numel()) ** 0.5
    assert torch.equal(whole[~is_dropped], known[~is_dropped]) and (known >= 0).all()
    for start, stop in ((0, 7), (7, 33), (33, 64)):
        assert torch.equal(dropping.batch(4, start, stop).condition, whole[4, start:stop])
    # Every step has drops of its own, and so has another run of the seed; images, noise as before.
    assert len({tuple(row.tolist()) for row in is_dropped}) == 20
    other = source(labels, 0.3, noise_stream=1).batch(4, 0, 64)
    assert not torch.equal(other.condition == NOT_TOLD, is_dropped[4])
    assert torch.equal(dropping.batch(4, 0, 64).noise, telling.batch(4, 0, 64).noise)
    assert torch.equal(dropping.batch(4, 0, 64).u, telling.batch(4, 0, 64).u)


def test_a_higher_drop_keeps_what_a_lower_one_dropped():
    labels = np.zeros(64, np.int64)
    low, high = (source(labels, drop).batch(2, 0, 64).condition for drop in (0.2, 0.6))
    assert ((low == NOT_TOLD) <= (high == NOT_TOLD)).all() and not torch.equal(low, high)


def test_arms_of_one_seed_are_told_the_same(workdir, train_run, tiny_config, class_words):
    """A pair differs in its noise levels alone: what is told of an image is the same."""
    seen = {}
    for arm in ("b", "c"):
        words = (*class_words, "training.steps=9", "training.milestones=[9]")
        trainer = train_run(tiny_config(arm, *words, output=arm))
        batches = [trainer.source.batch(step, 0, 8) for step in range(9)]
        seen[arm] = torch.stack([batch.condition for batch in batches])
    assert torch.equal(seen["b"], seen["c"]) and (seen["b"] == NOT_TOLD).any()


def test_a_milestone_keeps_names_and_counts_of_its_classes(
    workdir, train_run, tiny_config, class_words, avatars, call
):
    words = (*class_words, "training.steps=4", "training.milestones=[4]")
    config = tiny_config("b", *words)
    trainer = train_run(config)
    # A dropped label trains the row that stands for it, and no other.
    table = trainer.network.label_emb.weight
    assert table.shape == (8, 16)
    path = checkpoint.weights_path(config.run_dir, 4)
    content = checkpoint.load(path)
    known = avatars.classes("eyes")
    assert classes_of(content, config_of(content)) == known
    for name, said in (("counts", "7 names and 6 counts"), ("names", "6 names and 7 counts")):
        kept = content["classes"]
        cut = content | {"classes": kept | {name: kept[name][:-1]}}
        with pytest.raises(UserError, match=said):
            classes_of(cut, config)
    # Of another program's weights only the number is known.
    plain = {key: value for key, value in content.items() if key != "classes"}
    assert classes_of(plain, config).names == tuple("0123456")
    assert call(main, ["export", str(path), "x.safetensors"])[0] == 0
    from mindiffusion.exchange.by_path import open_weights

    assert classes_of(open_weights(workdir / "x.safetensors"), config) == known


def test_settings_of_labels_leave_hashes_of_other_runs_as_they_were(tiny_config, class_words):
    config = tiny_config("b")
    kept = to_dict(config)
    assert "labels" not in kept["data"] and "label_drop" not in kept["training"]
    assert not {"classes", "guidance", "guidance_interval"} & set(kept["sampler"])
    told = to_dict(tiny_config("b", *class_words, "sampler.guidance=2"))
    assert told["data"]["labels"] == "eyes" and told["model"]["num_classes"] == 7
    assert told["training"]["label_drop"] == 0.25 and told["sampler"]["guidance"] == 2
    hashes = {
        config_hash(tiny_config("b", *class_words, *word))
        for word in ((), ("training.label_drop=0.5",), ("sampler.classes=balanced",),
                     ("sampler.guidance=2",), ("data.labels=hair",))
    }  # fmt: skip
    assert len(hashes) == 5


UVIT = "model={network: uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.labels=eyes"], "the network naive_unet is told no classes; give model.num_classes"),
        ([UVIT, "data.labels=eyes"], "the network uvit is told no classes"),
        ([UVIT, "model.num_classes=7"], "model.num_classes is 7, but data.labels names no label"),
        (["training.label_drop=0.1"], "training.label_drop is 0.1, but there are no labels"),
        (
            [UVIT, "model.num_classes=5", "data.labels=eyes"],
            "model.num_classes is 5, but 'eyes' of avatars has 7 classes; give --set model",
        ),
        (["sampler.classes=balanced"], "sampler.classes is balanced, but there are no labels"),
        (
            ["sampler.guidance_interval=[0.1,0.8]"],
            r"guidance_interval is \[0.1, 0.8\], but sampler.guidance is 1, so nothing is guided",
        ),
        (["sampler.guidance=2"], "guidance is 2, but training.label_drop is 0, so the network"),
        (
            [UVIT, "model.num_classes=7", "data.labels=eyes", "sampler.guidance=0"],
            "guidance is 0, but training.label_drop is 0",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(words, said, workdir, tiny_config):
    with pytest.raises(UserError, match=said) as caught:
        preflight(tiny_config("b", *words), 256, num_classes=7 if "eyes" in str(words) else None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("training.label_drop=1", "less than 1"),
        ("sampler.guidance=-1", "greater than or equal to 0"),
        ("sampler.guidance_interval=[0.5,0.5]", "the lower one first"),
        ("sampler.guidance_interval=[0,2]", "less than or equal to 1"),
        ("sampler.classes=all", "'shares' or 'balanced'"),
        ("model.num_classes=0", "model.num_classes"),
        ("data.labels=3", "data.labels"),
    ],
)
def test_values_that_are_not_allowed_are_one_line(word, said, tiny_config):
    with pytest.raises(UserError, match=said) as caught:
        tiny_config("b", UVIT, word)
    assert "\n" not in str(caught.value)


def test_a_run_on_data_with_other_classes_is_refused_at_its_start(
    workdir, train_run, tiny_config, class_words
):
    config = tiny_config("b", *class_words, "data.labels=nose")
    with pytest.raises(UserError, match="num_classes is 7, but 'nose' of avatars has 4 classes"):
        train_run(config)
    check_run(config, 256)  # without the data it can't be known
    with pytest.raises(UserError, match="has 4 classes"):
        check_run(config, 256, num_classes=4)


def test_presets_that_come_with_the_program_are_told_nothing():
    config = build_config(load_preset("celeba_c_32"), "preset")
    assert config.data.labels is None and not config.training.label_drop
