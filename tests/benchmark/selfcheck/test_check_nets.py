"""The self-check: known answers hold for nets that see, and a net that does not is named."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import benchmark.selfcheck.check_nets as selfcheck_module
from benchmark.evaluation.metrics.neighbours import MeanEstimate
from benchmark.selfcheck.check_nets import Line, check_net, faults_of, net_text, selfcheck
from benchmark.selfcheck.contracts import ContractRow
from benchmark.selfcheck.known_cases import (
    MODE,
    Mode,
    blurred,
    collapsed,
    compressed,
    find_mode,
    known_cases,
    noisy,
    thumbnails,
)
from mindiffusion.errors import UserError

NET = SimpleNamespace(label="Stub", frechet_name="FD-Stub", kernel_name="KD-Stub", dim=52)


class Seeing:
    """Stands in for a net: colours of squares, their roughness, and edges of JPEG's blocks."""

    net = NET

    def __call__(self, images):
        values = images.astype(np.float64) / 255
        n, side = values.shape[:2]
        colours = values.reshape(n, 4, side // 4, 4, side // 4, 3).mean((2, 4)).reshape(n, -1)
        steps = np.abs(np.diff(values, axis=2)).mean((1, 3))
        at_blocks = (steps[:, 7::8].mean(1) / steps.mean(1))[:, None]
        rough = np.log(np.abs(np.diff(values, axis=1)).mean((1, 2)) + 1e-3)
        return np.concatenate([colours, rough, at_blocks], axis=1)


class Blind(Seeing):
    """Features that have nothing to do with the images."""

    def __call__(self, images):
        return np.random.default_rng(int(images.sum())).normal(size=(len(images), NET.dim))


@pytest.fixture(scope="module")
def cases(avatars):
    return known_cases(avatars, 32)


@pytest.fixture(scope="module")
def reference(avatars):
    return np.array(avatars.train[:32])


def test_distortions_do_what_their_names_say(reference):
    def roughness(images):
        return np.abs(np.diff(images.astype(float), axis=1)).mean()

    assert roughness(blurred(reference, 2.0)) < roughness(blurred(reference, 0.7))
    assert roughness(blurred(reference, 0.7)) < roughness(reference)
    grey = np.full((8, 32, 32, 3), 128, np.uint8)
    assert noisy(grey, 5).std() == pytest.approx(5, rel=0.03)
    assert np.array_equal(noisy(grey, 5), noisy(grey, 5))
    away = [np.abs(compressed(reference, q).astype(int) - reference).mean() for q in (95, 25, 5)]
    assert 0 < away[0] < away[1] < away[2]


@pytest.mark.parametrize("share", [0, 1 / 3, 1])
def test_collapsed_replaces_a_share_of_the_other_images_by_new_ones_of_the_mode(share):
    pool = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    mode = Mode("even", np.arange(0, 40, 2))
    kept = collapsed(pool, mode, 12, share).ravel()
    assert len(set(kept)) == 12
    assert np.count_nonzero(kept % 2) == 6 - round(6 * share)
    assert set(range(0, 12, 2)) <= set(kept.tolist())


def test_find_mode_takes_the_most_different_value_of_which_there_are_enough():
    pixels = np.zeros((90, 2), dtype=np.float32)
    pixels[:30, 0] = 10
    pixels[:5, 1] = 100
    labels = {
        "constant": np.zeros(90, int),
        "rare": (np.arange(90) < 5).astype(int),
        "hat": (np.arange(90) < 30).astype(int),
        "noise": np.arange(90) % 4,
    }
    names = {label: ["none", "red", "green", "blue"] for label in labels}
    mode = find_mode(pixels, labels, names, 20)
    assert mode.name == "hat red"
    assert mode.rows.tolist() == list(range(30))


def test_find_mode_clusters_pixels_where_no_label_will_do(avatars):
    pixels = thumbnails(avatars.train)
    mode = find_mode(pixels, {"constant": np.zeros(256, int)}, {"constant": ["x"]}, 40)
    assert mode.name == "one of 4 pixel clusters"
    assert 40 <= len(mode.rows) < 256
    inside = pixels[mode.rows]
    outside = np.delete(pixels, mode.rows, axis=0)
    centre = inside.mean(0)
    assert np.square(inside - centre).sum(1).mean() < np.square(outside - centre).sum(1).mean()
    again = find_mode(pixels, {}, {}, 40)
    assert np.array_equal(again.rows, mode.rows)


def test_known_cases_need_four_sets(avatars):
    with pytest.raises(UserError, match=r"of 65 images needs 260 training images.*ask for 64"):
        known_cases(avatars, 65)


def test_known_cases_have_n_images_each_and_start_from_the_halves(cases, avatars):
    by_name = {case.name.split(":")[0]: case for case in cases}
    assert list(by_name) == ["with itself", "split halves", "blur", "noise", "JPEG", MODE]
    for case in cases:
        for make in case.levels.values():
            made = make()
            assert made.shape == (32, 32, 32, 3) and made.dtype == np.uint8
    (half,) = by_name["split halves"].levels.values()
    assert np.array_equal(half(), avatars.train[32:64])


def test_a_net_that_sees_is_in_order(cases, reference):
    lines = check_net(Seeing(), reference, cases)
    assert faults_of(lines) == []
    text = net_text(Seeing(), lines, 32)
    assert "FD-Stub@32" in text and "smoke: 32 images a set" in text
    assert all(f"\n{case.name} " in text for case in cases)


def test_a_blind_net_is_found_out(cases, reference):
    faults = faults_of(check_net(Blind(), reference, cases))
    assert any(fault.startswith("blur: ") for fault in faults)
    assert any(fault.startswith("JPEG: ") for fault in faults)


def line(case, level="", fd=1.0, kd=0.0, precision=0.8, recall=0.8, coverage=0.9):
    estimates = [MeanEstimate(value, 0.01) for value in (precision, recall, coverage)]
    return Line(case, level, fd, kd, 0.01, *estimates)


IN_ORDER = [
    line("with itself", fd=1e-9, kd=-0.1),
    line("split halves"),
    line("blur", "1 px", 2, 0.1),
    line("blur", "2 px", 3, 0.2),
    line("mode drop: hat", "50%", 2, 0.1),
    line("mode drop: hat", "100%", 3, 0.2, recall=0.5, coverage=0.6, precision=0.79),
]
WRONG = {
    "itself, Fréchet": (0, {"frechet": 0.1}, "Fréchet distance 0.1 to itself"),
    "itself, kernel": (0, {"kernel": 0.1}, "kernel distance 0.1 to itself"),
    "halves": (1, {"kernel": 0.05}, "two halves have kernel distance 0.05 ± 0.01, not 0"),
    "first level": (2, {"frechet": 0.9}, "blur: frechet distance 1 at split halves, 0.9 at 1 px"),
    "last level": (3, {"kernel": 0.1}, "blur: kernel distance 0.1 at 1 px, 0.1 at 2 px"),
    "recall": (5, {"recall": MeanEstimate(0.8, 0.01)}, "recall 0.800 before, 0.800 after"),
    "coverage": (5, {"coverage": MeanEstimate(0.95, 0.01)}, "coverage 0.900 before, 0.950 after"),
    "precision": (5, {"precision": MeanEstimate(0.7, 0.01)}, "precision falls from 0.800 to 0.700"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_wrong_answer_is_named(kind):
    index, change, message = WRONG[kind]
    lines = list(IN_ORDER)
    assert faults_of(lines) == []
    lines[index] = replace(lines[index], **change)
    (fault,) = faults_of(lines)
    assert message in fault


@pytest.fixture
def words():
    """The tiny avatars, as --set words."""
    return ["data.num_train=256", "data.num_held_out=32"]


def test_selfcheck_passes_with_a_real_net(workdir, words, call, monkeypatch):
    met = ContractRow("FD", "closed form", 0.0, 1e-6, "relative", True)
    monkeypatch.setattr(selfcheck_module, "contract_rows", lambda: [met])
    path = workdir / "check.json"
    code, out, errors = call(selfcheck, ["effnet-lite0-64"], words, 32, path)
    assert code == 0, out + errors
    assert "closed form" in out and "FD-EffNet-Lite0-64px@32" in out and "all in order" in out
    content = json.loads(path.read_text())
    assert content["faults"] == [] and content["n"] == 32
    assert len(content["nets"]["effnet-lite0-64"]) == 2 + 4 * 3


def test_selfcheck_fails_for_a_broken_contract_or_a_blind_net(workdir, words, call, monkeypatch):
    broken = ContractRow("KID", "torch-fidelity", 0.1, 1e-6, "relative", False)

    def find(name, cache_dir):
        if name == "inception":
            raise UserError("no weights")

    monkeypatch.setattr(selfcheck_module, "contract_rows", lambda: [broken])
    monkeypatch.setattr(selfcheck_module, "FEATURE_NETS", {"a": None, "b": None, "inception": None})
    monkeypatch.setattr(selfcheck_module, "find_weights", find)
    monkeypatch.setattr(
        selfcheck_module,
        "load_feature_net",
        lambda name, weights, device: {"a": Seeing(), "b": Blind()}[name],
    )
    code, out, _ = call(selfcheck, [], words, 32, None)
    assert code == 1
    assert "inception: absent (no weights)" in out
    assert "\na: " not in out and "\nb: blur: " in out and "\nnot in order: " in out
    code, out, _ = call(selfcheck, ["a"], words, 32, None)
    assert code == 1 and "not in order: 1" in out
    with pytest.raises(UserError, match="no weights"):
        selfcheck(["inception"], words, 32)


def test_selfcheck_needs_some_images():
    with pytest.raises(UserError, match="of 15 images asked for; give 16 or more"):
        selfcheck(n=15)
