"""Weights of other programs are scored only where labels, network and data agree on the classes."""

from dataclasses import replace

import pytest
import torch

from benchmark.evaluation.evaluate_run import evaluate_run, run_evaluation
from benchmark.evaluation.milestone.proof import check_finisher
from mindiffusion.build import build_network
from mindiffusion.errors import UserError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.labels=null"], "model.num_classes is 7, but data.labels names no label"),
        (["data.labels=null", "sampler.guidance=2"], "but data.labels names no label"),
        (["model.num_classes=null"], "the network uvit is told no classes; give model.num_classes"),
        (["naive"], "the network naive_unet is told no classes"),
        (["model.num_classes=6"], "model.num_classes is 6, but 'eyes' of avatars has 7 classes"),
        (["model.num_classes=9"], "model.num_classes is 9, but 'eyes' of avatars has 7 classes"),
        (["data.labels=eye"], "data.labels is 'eye', which .* does not have.*'eyes'"),
    ],
)
def test_what_does_not_agree_is_one_line_before_anything_is_drawn(
    words, said, workdir, avatars, tiny_config, class_words, monkeypatch
):
    monkeypatch.setattr("benchmark.evaluation.evaluate_run.score_milestone", None)
    told = ["data.labels=eyes"] if words == ["naive"] else [*class_words, *words]
    config = tiny_config("b", *told)
    folder = workdir / "50.ckpt"
    folder.mkdir()
    torch.save(build_network(config).state_dict(), folder / "nnet_ema.pth")
    how = run_evaluation(["fd"], ["effnet-lite0-64"], ["evaluation.num_reference=128"])
    with pytest.raises(UserError, match=said) as caught:
        evaluate_run(folder, how, None, config)
    assert "\n" not in str(caught.value)


def test_a_finisher_knows_the_classes_and_can_be_guided_as_the_run(tiny_config, class_words):
    run = tiny_config("b", *class_words)
    told_all = tiny_config("b", *class_words, "training.label_drop=0")
    guided = replace(run, sampler=replace(run.sampler, guidance=2.0))
    check_finisher(guided, run)
    check_finisher(run, told_all)
    for one, finisher, said in (
        (guided, told_all, "guidance is 2, but the finisher B/0 was trained with .*label_drop 0"),
        (run, tiny_config("b", *class_words, "model.num_classes=6"), "B/0 knows 6 classes, .* 7;"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            check_finisher(one, finisher)
        assert "\n" not in str(caught.value)
