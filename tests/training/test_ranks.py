"""Two gloo ranks and micro-batches give what one rank gives."""

import json
import signal

import drive_training
import latents_of_a_test as tiny
import numpy as np
import pytest

from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks

WORDS = ("training.steps=20", "training.milestones=[20]", "training.checkpoint_every=5")
JOBS = {
    "cs64": ("cs", "training.precision=fp64", "training.micro_batch=3"),
    "cr64": ("cr", "training.precision=fp64"),
    "cs64-preconditioned": (
        "cs", "training.precision=fp64", "process.parameterization=preconditioned",
        "process.loss_weight={kind: balanced}", "training.micro_batch=3",
    ),
    "uvit64": (
        "cs", "training.precision=fp64", "training.micro_batch=3",
        "training.optimizer={name: adamw, weight_decay: 0.1}",
        "model={network: sparse_uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}",
        "model.placement=stream",
        "data.labels=eyes", "model.num_classes=7", "training.label_drop=0.25",
    ),
    "song64": (
        "c", "training.precision=fp64", "training.micro_batch=3",
        "model={network: song_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1}",
        "model.arch=ncsnpp", "model.num_classes=3", "training.augment=0.4",
    ),
    "dit64": (
        "c", "training.precision=fp64", "training.micro_batch=3",
        "training.optimizer={name: adamw, weight_decay: 0.1}",
        "model={network: dit, patch_size: 8, hidden_size: 16, depth: 2, num_heads: 2}",
        "model.num_classes=3", "model.learn_sigma=true",
    ),
    "latents64": (
        "c", "training.precision=fp64", "training.micro_batch=3", *tiny.words("vae"),
        "process={kind: edm, sigma_data: auto}",
    ),
    "text64": (
        "c", "training.precision=fp64", "training.micro_batch=3", "training.label_drop=0.25",
        "model={network: dit, patch_size: 8, hidden_size: 16, depth: 2, num_heads: 2}",
        "model.text={width: 8, max_tokens: 6, vocabulary: 16, layers: 1}", "data.captions=auto",
    ),
    "cs32": ("cs",),
}  # fmt: skip


def write_vae(name, folder):
    """The autoencoder that a job's codec names, in the folder that its commands run in."""
    if name.startswith("latents"):
        pytest.importorskip("diffusers", reason="the extra [latents] is not installed")
        tiny.write_vae(folder / "vae")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, run_cli, torchrun, repository, avatars, tiny_content):
    """A function: job → folder with what two ranks did, under one torchrun a job."""
    root = tmp_path_factory.mktemp("two_ranks")
    np.save(root / "images.npy", avatars.train)
    np.save(root / "labels.npy", avatars.train_labels["eyes"])
    script = repository / "tests" / "training" / "drive_training.py"

    def run(name):
        folder = root / name
        if not folder.exists():
            write_vae(name, root)
            folder.mkdir()
            arm, *words = JOBS[name]
            content = tiny_content(arm, *WORDS, *words, output=folder / "run")
            job = {"config": content, "manifest": avatars.manifest_id, "dump": str(folder)}
            job["label_names"] = avatars.label_names["eyes"]
            (folder / "job.json").write_text(json.dumps(job))
            done = run_cli([*torchrun, script, root / "images.npy", folder / "job.json"], root)
            assert done.returncode == 0, done.stderr
        return folder

    return run


@pytest.fixture
def one_rank(workdir, train_run, tiny_config):
    """A function: job → (arrays seen, final state) of one rank in this process."""

    def train(name):
        write_vae(name, workdir)
        arm, *words = [w for w in JOBS[name] if "micro_batch" not in w]
        config = tiny_config(arm, *WORDS, *words, output=name)
        recorders = []

        def hooks(trainer):
            recorders.append(drive_training.Recorder(trainer))
            return Hooks()

        trainer = train_run(config, hooks)
        return recorders[0].arrays(), trainer

    return train


def ranks_of(folder):
    return [dict(np.load(folder / f"rank{rank}.npz")) for rank in range(2)]


@pytest.mark.parametrize(
    "name",
    ["cs64", "cr64", "cs64-preconditioned", "uvit64", "song64", "dit64", "latents64", "text64"],
)
def test_two_ranks_give_the_weights_of_one(name, two_ranks, one_rank, assert_same):
    _, trainer = one_rank(name)
    (saved,) = [checkpoint.load(p) for p in two_ranks(name).glob("run/seed0/ckpt-*20.pt")]
    state = trainer.state()
    for part in ("network", "averages", "optimizer"):
        assert_same({part: saved[part]}, {part: state[part]}, tolerance=1e-9)
    # A regrowth picks the same channels at the same steps whatever the number of ranks.
    fields = ("step", "channels_on", "channels_grown", "dimensions_on", "penalty_lambda")
    logs = [[{k: e.get(k) for k in fields} for e in s["stage_log"]] for s in (saved, state)]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 5


@pytest.mark.parametrize("name", list(JOBS))
def test_two_ranks_see_the_batches_of_one(name, two_ranks, one_rank):
    alone, _ = one_rank(name)
    first, second = ranks_of(two_ranks(name))
    order = np.lexsort(np.concatenate([first["key"], second["key"]]).T[::-1])
    assert len(order) == 20 * 8
    for field in ("key", "images", "times", "noise", "told", "changed"):
        together = np.concatenate([first[field], second[field]])[order]
        assert together.tobytes() == alone[field].tobytes(), field
    assert set(first["key"][:, 1]) == {0, 1, 2, 3} and set(second["key"][:, 1]) == {4, 5, 6, 7}


@pytest.mark.parametrize("name", list(JOBS))
def test_two_ranks_hold_the_same_bits(name, two_ranks):
    first, second = ranks_of(two_ranks(name))
    states = [key for key in first if key.startswith("state.")]
    assert ("state.channel_mask" in states) == name.startswith("cs")
    for key in states:
        assert first[key].tobytes() == second[key].tobytes(), key


def test_one_rank_writes_the_files(two_ranks):
    log = (two_ranks("cs32") / "run/seed0/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [4, 8, 12, 16, 20]


def test_two_ranks_report_the_mean_loss_of_one(two_ranks, one_rank, workdir):
    one_rank("cs64")
    path = two_ranks("cs64") / "run/seed0/metrics.jsonl"
    logs = [p.read_text().splitlines() for p in (path, workdir / "cs64/seed0/metrics.jsonl")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)


@pytest.mark.parametrize("arm", ["cs", "cr"])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batch_changes_the_weights_by_rounding_only(
    arm, micro_batch, workdir, train_run, tiny_config, assert_same
):
    words = ("training.precision=fp64", "training.steps=6", "training.milestones=[6]")
    words += ("curriculum=[{name: all, weight: 1, penalty_lambda: 1.0e-3}]",)
    whole = train_run(tiny_config(arm, *words, output="whole"))
    word = f"training.micro_batch={micro_batch}"
    split = train_run(tiny_config(arm, *words, word, output="split"))
    assert len(list(split.micro_batches())) == -(-8 // micro_batch)
    assert_same(dict(whole.network.state_dict()), dict(split.network.state_dict()), 1e-10)


def test_two_ranks_stopped_by_sigterm_go_on_to_the_same_weights(
    tmp_path, two_ranks, run_cli, torchrun, repository, avatars, tiny_content
):
    job = {
        "config": tiny_content("cs", *WORDS, *JOBS["cs64"][1:], output="run"),
        "manifest": avatars.manifest_id,
    }
    (tmp_path / "stop.json").write_text(json.dumps(job | {"at": 7, "signal": signal.SIGTERM}))
    (tmp_path / "go.json").write_text(json.dumps(job))
    script = repository / "tests" / "training" / "drive_training.py"
    words = [*torchrun, script, two_ranks("cs64").parent / "images.npy"]
    stopped = run_cli([*words, tmp_path / "stop.json"], tmp_path)
    assert stopped.returncode != 0
    # Only rank 0 was asked; both stop at once, in step.
    names = sorted(path.name for path in (tmp_path / "run/seed0").glob("ckpt-*.pt"))
    assert names == ["ckpt-000000005.pt", "ckpt-000000007.pt"]
    assert run_cli([*words, tmp_path / "go.json"], tmp_path).returncode == 0
    ends = [
        checkpoint.load(folder / "run/seed0/ckpt-000000020.pt")["network"]
        for folder in (two_ranks("cs64"), tmp_path)
    ]
    for name, tensor in ends[0].items():
        assert tensor.numpy().tobytes() == ends[1][name].numpy().tobytes(), name
