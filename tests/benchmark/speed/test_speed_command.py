"""Every part of the command, at sizes where it takes seconds."""

import importlib.util
import json
from dataclasses import asdict, replace

import pytest

from benchmark.__main__ import main
from benchmark.speed.networks import NETWORK_PARTS
from benchmark.speed.parts import busy, networks, preparation, scaling
from mindiffusion.step_cost import step_cost
from mindiffusion.unet import NaiveUnet

pytestmark = pytest.mark.usefixtures("workdir", "short_turns")


def run_part(call, part, words, repeats=1):
    code, out, errors = call(
        main, ["speed", "--part", part, "--repeats", str(repeats), "--json", "speed.json", *words]
    )
    assert code == 0, errors
    return out


def rows_of(workdir):
    report = json.loads((workdir / "speed.json").read_text())
    return {row.get("row", row.get("swept")): row for row in report["rows"]}


def test_training_part_has_all_rows(workdir, call, tiny_speed_words):
    out = run_part(call, "training", tiny_speed_words, repeats=2)
    rows = rows_of(workdir)
    arms = [f"ours, {arm}" for arm in ("B", "C", "CS", "CR")]
    expected = ["reference loop", "reference, data in memory", *arms]
    if importlib.util.find_spec("denoising_diffusion_pytorch"):
        expected.insert(2, "peer")
    assert list(rows) == [*expected, "limit: bandwidth", "limit: matrices"]
    assert all(len(rows[name]["repeats"]) == 2 for name in expected)
    assert all(0 <= rows[arm]["data_wait"] <= 1 for arm in arms)
    assert rows["limit: bandwidth"]["cost"] == asdict(step_cost(NaiveUnet(3, 3, 8), 3, 32))
    assert "global_batch 16" in out and "fp32, eager" in out


def test_training_part_says_why_the_peer_is_left_out(call, tiny_speed_words):
    words = [*tiny_speed_words, "--set", "training.global_batch=8", "celeba_c_32"]
    out = run_part(call, "training", words)
    assert out.splitlines()[-1].startswith("peer left out: ")
    assert "ours, C" in out and "ours, B" not in out


def test_busy_part_pairs_every_loop_with_itself_beside_company(
    workdir, call, tiny_speed_words, monkeypatch
):
    monkeypatch.setattr(busy, "has_cxx_compiler", lambda: False)
    monkeypatch.setattr(busy, "available_cores", lambda: 1)
    run_part(call, "busy", tiny_speed_words)
    rows = rows_of(workdir)
    assert list(rows) == ["1 thread, eager", "1 thread, eager, beside"]
    assert rows["1 thread, eager"]["over_alone"]["median"] == 1
    assert rows["1 thread, eager, beside"]["over_alone"]["median"] != 1


def test_sampling_part_reckons_the_whole_ancestral_chain(workdir, call, tiny_speed_words):
    out = run_part(call, "sampling", tiny_speed_words)
    rows = rows_of(workdir)
    assert list(rows) == ["DDIM-50, plain", "DDIM-50, ours", "ancestral, plain", "ancestral, ours"]
    assert "20 of 100 levels timed" in out
    assert "note" not in rows["DDIM-50, ours"]


SMALL = {
    "uvit": {"model.depth": 2},
    "dit": {"model.depth": 1, "process.n_T": 100},
    "song_unet": {"model.channel_mult": "[1, 1]", "data.size": 16, "model.attn_resolutions": "[8]"},
}


def test_every_part_of_a_network_is_tested():
    assert set(SMALL) == set(NETWORK_PARTS)


@pytest.mark.parametrize("part", SMALL)
def test_part_of_a_network_has_all_rows_of_each_width(part, workdir, call, monkeypatch):
    narrow = replace(NETWORK_PARTS[part], cpu_widths=(16, 32))
    monkeypatch.setattr(networks, "NETWORK_PARTS", {part: narrow})
    values = {
        "data.num_train": 20, "training.global_batch": 4, "training.device": "cpu",
        "training.compile": "off", "training.threads": 1, "sampler.chunk": 2,
        "sampler.compile": "off", **SMALL[part],
    }  # fmt: skip
    words = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    out = run_part(call, part, words)
    rows = rows_of(workdir)
    each = [
        "plain, training", "ours, training", "ours, optimizer alone", "ours, averages alone",
        "plain, sampling", "ours, sampling",
    ]  # fmt: skip
    assert list(rows) == [f"width {width}, {name}" for width in (16, 32) for name in each]
    for name, row in rows.items():
        assert ("percent_of_step" in row) == name.endswith("alone")
        assert ("over_plain" in row) == ("alone" not in name)
        assert row.get("percent_of_rate", 1) > 0
    said = {line.split(": ")[0] for line in out.splitlines() if ": " in line}
    assert {"width 16", "width 32", "matrix rate", "plain", "sampling"} <= said
    assert "global_batch 4" in out and "chunk 2" in out


def test_width_that_is_given_is_the_only_one():
    found = networks._configs(NETWORK_PARTS["uvit"], ["model.embed_dim=64", "model.num_heads=1"])
    assert [*found] == [64]


@pytest.mark.parametrize(("part", "width"), [("uvit", "embed_dim"), ("dit", "hidden_size")])
def test_heads_follow_a_width_that_is_given(part, width):
    found = networks._configs(NETWORK_PARTS[part], [f"model.{width}=128"])
    assert {own: config.model.num_heads for own, config in found.items()} == {128: 2}


@pytest.mark.parametrize("is_on_gpu", [False, True])
@pytest.mark.parametrize("part", NETWORK_PARTS)
def test_widths_of_a_part_fit_its_network(part, is_on_gpu):
    device = f"training.device={'cuda' if is_on_gpu else 'cpu'}"
    measured = NETWORK_PARTS[part]
    found = networks._configs(measured, [device])
    assert tuple(found) == (measured.gpu_widths if is_on_gpu else measured.cpu_widths)
    assert len({config.model.words for config in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("part", "word", "message"),
    [("uvit", "model.network=naive_unet", "of naive_unet; it is a key of uvit"),
     ("song_unet", "model.network=dit", "of dit; it is a key of song_unet")],
)  # fmt: skip
def test_part_of_another_network_is_refused(part, word, message, call):
    words = ["--set", word, "--set", "data.num_train=20", "--set", "training.device=cpu"]
    code, _, errors = call(main, ["speed", "--part", part, *words])
    assert code == 2 and message in errors and len(errors.splitlines()) == 1


def test_preparation_part_compares_with_a_bare_pool(workdir, call, tiny_speed_words, monkeypatch):
    monkeypatch.setattr(preparation, "AVATARS_PER_FILE", 0.1)
    monkeypatch.setattr(preparation, "NUM_HELD_OUT", 4)
    run_part(call, "preparation", tiny_speed_words)
    rows = rows_of(workdir)
    assert list(rows) == [
        "JPEG folder, bare pool", "JPEG folder, ours", "avatars, bare pool", "avatars, ours"
    ]  # fmt: skip
    assert [row["images"] for row in rows.values()] == [100, 100, 14, 14]
    assert rows["JPEG folder, bare pool"]["over_bare_pool"]["median"] == 1
    assert not list((workdir / ".cache" / "speed").glob("tmp*"))


def test_scaling_part_times_ranks_and_draws_them(workdir, call, tiny_speed_words, monkeypatch):
    monkeypatch.setattr(scaling, "WIDTHS", (8,))
    monkeypatch.setattr(scaling, "SIDES", (32,))
    monkeypatch.setattr(scaling, "BATCH_FACTORS", (1,))
    monkeypatch.setattr(scaling, "RANKS", (2,))
    monkeypatch.setattr(scaling, "available_cores", lambda: 2)
    run_part(call, "scaling", tiny_speed_words)
    rows = rows_of(workdir)
    assert [rows[swept]["ranks"] for swept in ("width", "batch", "ranks")] == [1, 1, 2]
    assert rows["ranks"]["runtime"] == "fp32, eager, 1 threads a rank"
    assert (workdir / "speed.png").stat().st_size > 0


def test_scaling_points_stay_within_the_machine():
    found = scaling.points(32, 32, 128, max_ranks=2)
    assert len(found) == len(set(found)) == 8 + 3 + 2
    assert {point.ranks for point in found} == {1, 2}
    assert {point.global_batch for point in found if point.swept == "batch"} == {32, 128, 512}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "trainng"], "Did you mean 'training'?"),
        (["--repeats", "0"], "give 1 or more"),
        (["celeba_x_32"], "unknown preset"),
        (["celeba_b_32", "--set", "training.steps=5"], "too few to measure"),
        (["--set", "data.num_train=1.5"], "data.num_train"),
    ],
)
def test_mistakes_are_one_line(call, tiny_speed_words, words, said):
    code, out, errors = call(main, ["speed", *tiny_speed_words, *words])
    assert (code, out) == (2, "")
    assert errors.startswith("error: ") and said in errors and len(errors.splitlines()) == 1


def test_presets_of_unlike_size_are_refused(monkeypatch):
    from benchmark.speed import setting
    from mindiffusion.errors import UserError

    batches = iter((16, 32))
    monkeypatch.setattr(
        setting,
        "speed_config",
        lambda preset, overrides: setting._config(preset, overrides, next(batches), 1),
    )
    with pytest.raises(UserError, match="measure them apart"):
        setting.speed_configs(["celeba_b_32", "celeba_c_32"], [])
