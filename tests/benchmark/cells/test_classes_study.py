"""A study of networks with classes, from its file to its report, through the usual runner."""

import pytest

from benchmark.__main__ import main
from benchmark.cells.preflight import check_study
from benchmark.cells.progress import work_of
from benchmark.rows.file import read_rows
from benchmark.study.study import load_study

STUDY = """
seeds: [0]
arms:
  b: {extends: [arms/b], model: {network: uvit}}
run:
  extends: [runs/celeba_32]
  data: {dataset: avatars, num_train: 256, num_held_out: 32, labels: nose}
  model: {patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2, num_classes: 4}
  training:
    epochs: null
    steps: 8
    global_batch: 8
    lr: 1e-3
    label_drop: 0.2
    ema_decays: [0.9]
    milestones: ["100%"]
    checkpoint_every: 100
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
  sampler: {steps: 2, chunk: 8}
evaluation:
  num_generated: 27
  num_reference: 128
  feature_nets: [effnet-lite0-64]
  metrics: [profile, fd]
  profile_images: 2
  profile_levels: 4
  strip: 4
  per_class: true
  variants: [{guidance: 2}]
"""


@pytest.fixture
def study(workdir):
    (workdir / "told.yaml").write_text(STUDY)
    return workdir / "told.yaml"


def test_a_study_of_classes_is_trained_scored_and_reported(study, call, workdir, warm_python):
    code, _, errors = call(main, ["reproduce", "told.yaml"])
    assert code == 0, errors
    rows = read_rows(workdir / "results" / "told" / "rows.jsonl")
    mine = {row.metric: row for row in rows}
    name = "FD-EffNet-Lite0-64px@27"
    whole, guided = mine[name], mine[f"variant/guidance 2/{name}"]
    assert guided.sampler.startswith("ddim-eta1-guidance2/") and guided.value != whole.value
    classes = {metric.split("/")[1] for metric in mine if metric.startswith("class/")}
    assert classes and classes <= {"mediumRound", "smallRound", "wrinkles"}
    assert "U-ViT" in (workdir / "results" / "told" / "report.html").read_text()
    assert (workdir / "results" / "told" / "figures" / "classes.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.labels=hair"], "num_classes is 4, but 'hair' of avatars has 21 classes; give"),
        (["data.labels=noses"], "data.labels is 'noses', which avatars of style personas"),
        (["training.label_drop=0"], "'guidance 2': sampler.guidance is 2, but training.label_drop"),
        (
            ["sampler.guidance_interval=[0.1,0.8]", "evaluation.variants=[{eta: 0.0}]"],
            "guidance_interval is [0.1, 0.8], but sampler.guidance is 1, so nothing is guided",
        ),
        (["model.num_classes=null"], "the network uvit is told no classes; give model.num_classes"),
        (
            ["model.num_classes=null", "data.labels=null", "training.label_drop=0",
             "evaluation.variants=[]"],
            "evaluation.per_class is true, but the network of arm 'B' is told no classes",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_before_anything_is_trained(words, said, study, call):
    told = [part for word in words for part in ("--set", word)]
    code, _, errors = call(main, ["reproduce", "told.yaml", *told])
    assert code == 2 and said in errors and len(errors.splitlines()) == 1
    assert not (study.parent / "results").exists()


@pytest.mark.parametrize(("of_run", "of_variant"), [("1", "2"), ("2", "1")])
def test_an_interval_needs_guidance_of_the_run_or_of_a_variant(of_run, of_variant, study):
    words = ["sampler.guidance_interval=[0.1,0.8]", f"sampler.guidance={of_run}",
             f"evaluation.variants=[{{guidance: {of_variant}}}]"]  # fmt: skip
    loaded = load_study("told.yaml", overrides=words)
    check_study(loaded, [])


def test_guidance_counts_as_work(study):
    plain = load_study("told.yaml")
    strong = load_study("told.yaml", overrides=["sampler.guidance=3", "evaluation.variants=[]"])
    one, two = (work_of(each, each.runs[0]) for each in (plain, strong))
    profiles = 4 * 4 * 2
    assert two.milestone - profiles == 2 * (one.milestone - profiles)
