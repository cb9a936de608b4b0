"""The command end to end on tiny nets: whole, killed and gone on with, and refused."""

import json
import os
import signal
import time

import pytest

from benchmark.__main__ import main
from benchmark.difficulty import nets as nets_module
from benchmark.difficulty.data_rows import KL_NEIGHBOURS
from benchmark.difficulty.nets import is_done, train_net
from benchmark.difficulty.scoring import Scoring, part_of_seed
from benchmark.difficulty.setting import LEVELS, Net, make_setting
from benchmark.rows.file import ROWS_FILE, read_rows
from benchmark.rows.metric_names import EPS_MSE
from mindiffusion.files import exclusive_lock

TINY = (
    "data.num_train=256", "data.num_held_out=32", "training.steps=6", "training.global_batch=4",
    "training.milestones=[2, 6]", "training.checkpoint_every=3",
)  # fmt: skip
WORDS = [word for one in TINY for word in ("--set", one)]


def words(output):
    return [
        "difficulty", "avatars", "--intervals", "2", "--num-seeds", "1", "--output", output, *WORDS
    ]  # fmt: skip


def numbers(folder):
    """What the rows of a folder say, by what they measure."""
    rows = read_rows(folder / ROWS_FILE)
    keys = [(row.arm, row.seed, row.step, row.metric, row.level) for row in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, [(row.value, row.error) for row in rows], strict=True))


@pytest.fixture(scope="module")
def setting():
    return make_setting("avatars", None, 2, 1, "tiny", TINY)


def test_killed_run_goes_on_to_the_same_rows(workdir, call, start_cli):
    code, said, errors = call(main, words("whole"))
    assert code == 0, errors
    assert "relative entropy by neighbours" in said
    started = start_cli(["-m", "benchmark", *words("killed")], workdir)
    rows = workdir / "killed" / ROWS_FILE
    # The first row of a trained net.
    while started.poll() is None and not (rows.exists() and '"step": 2' in rows.read_text()):
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    # Its fork of a warm Python ends a moment after it.
    with exclusive_lock(workdir / "killed" / ".lock", wait_seconds=60):
        pass
    code, _, errors = call(main, words("killed"))
    assert code == 0, errors
    found, known = numbers(workdir / "killed"), numbers(workdir / "whole")
    assert found == known
    nets = [key for key in known if key[3] == EPS_MSE and key[2]]
    assert len(nets) == 2 * (2 * LEVELS + 2 * LEVELS)
    assert len([key for key in known if key[3] == KL_NEIGHBOURS]) == 2
    assert not (workdir / "whole" / "nets").exists()
    document = json.loads((workdir / "whole" / "measured" / "entropy-rate-joint.json").read_text())
    assert document["edges"] == [0.0, 0.5, 1.0] and len(document["difficulty"]) == 2
    for name in ("difficulty.csv", "convergence.csv", "agreement.csv"):
        one, other = ((workdir / run / "tables" / name).read_text() for run in ("whole", "killed"))
        assert one == other


def test_stopped_run_saves_its_nets_and_says_how_to_go_on(workdir, start_cli):
    started = start_cli(["-m", "benchmark", *words("stopped"), "--set", "training.steps=5000"],
                        workdir)  # fmt: skip
    rows = workdir / "stopped" / ROWS_FILE
    while started.poll() is None and not (rows.exists() and '"step": 2' in rows.read_text()):
        time.sleep(0.02)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate()
    assert started.returncode == 143
    assert "stopped; run the same command again to go on." in said
    assert list((workdir / "stopped" / "nets").glob("*/seed0/ckpt-*.pt"))


def test_net_killed_between_weights_and_rows_is_scored_from_its_weights(
    workdir, avatars, setting, monkeypatch
):
    net = Net(0, 1)
    scoring = Scoring(setting, net, avatars)

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nets_module.Keeper, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            train_net(setting, net, avatars, 1)
    assert not is_done(scoring) and scoring.config.run_dir.exists()
    train_net(setting, net, avatars, 1)
    assert is_done(scoring) and not scoring.config.run_dir.exists()
    found = numbers(workdir / "tiny")
    # Once more from the start, in a folder of its own.
    other = make_setting("avatars", None, 2, 1, "other", TINY)
    train_net(other, net, avatars, 1)
    assert numbers(workdir / "other") == found and {key[2] for key in found} == {2, 6}
    with monkeypatch.context() as patch:
        patch.setattr(nets_module, "run", killed)
        train_net(other, net, avatars, 1)  # all is there: nothing is trained


def test_untrained_nets_and_limits_are_of_the_same_noisy_images(workdir, avatars, setting):
    """A net of one seed is at step 0 what every interval's net begins with."""
    joint, interval = (Scoring(setting, Net(0, kind), avatars) for kind in (None, 1))
    all_rows = {row.level: row.value for row in joint.untrained_rows()}
    own = {row.level: row.value for row in interval.untrained_rows()}
    assert len(all_rows) == 2 * LEVELS and len(own) == LEVELS
    assert own == {level: all_rows[level] for level in own}


def test_seeds_have_images_and_noise_of_their_own(workdir, avatars, setting):
    first, second = (Scoring(setting, Net(seed, None), avatars) for seed in (0, 1))
    size = len(avatars.held_out)
    assert first.num_held_out == min(64, size)
    parts = [part_of_seed(setting, seed, 100, 30, 4).tolist() for seed in range(4)]
    assert sorted({*parts[0], *parts[1], *parts[2]}) == sorted(parts[0] + parts[1] + parts[2])
    assert parts[3] not in parts[:3] and all(len({*part}) == 30 for part in parts)
    assert all(0 <= image < 100 for part in parts for image in part)
    seeds = [one.config.sampler.seed for one in (first, second)]
    assert seeds[1] == seeds[0] + 1
    errors = [{row.level: row.value for row in one.untrained_rows()} for one in (first, second)]
    assert all(errors[0][level] != errors[1][level] for level in errors[0])


def test_folder_of_another_run_is_one_line(workdir, call):
    (workdir / "mine").mkdir()
    (workdir / "mine" / "setting.json").write_text("{}")
    code, _, said = call(main, words("mine"))
    assert code == 2 and "mine/setting.json: run is missing; choose another --output" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--intervals", "1"], "--intervals is 1"),
        (["--set", "training.label_drop=0.1"], "training.label_drop is 0.1, but there are no"),
        (["--set", "model.network=dit", "--set", "model.num_classes=3"], "num_classes is 3, but"),
        (["--intervals", "50", "--set", "process.n_T=90"], "has 90 noise levels"),
        (["--process", "ve"], "process.kind"),
        (["--set", "data.num_held_out=1"], "1 held-out images"),
        (["--set", "data.num_train=20"], "takes 32 or more, so give more images"),
    ],
)
def test_bad_input_is_one_line(workdir, call, change, said):
    code, _, errors = call(main, [*words("bad"), *change])
    lines = [line for line in errors.splitlines() if line.startswith("error")]
    assert code == 2 and len(lines) == 1 and said in lines[0]


def test_dataset_that_is_not_there_is_one_line(workdir, call):
    code, _, said = call(main, ["difficulty", "./nowhere", "--output", "bad"])
    assert code == 2 and said.startswith("error: ") and "nowhere" in said
    assert len(said.splitlines()) == 1 and not (workdir / "bad").exists()


def test_share_takes_one_document(call):
    from benchmark.difficulty.__main__ import main as share

    code, _, said = call(share, [])
    assert code == 2 and "python -m benchmark difficulty" in said
