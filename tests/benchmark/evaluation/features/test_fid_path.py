"""The whole FID path on a stub under INCEPTION_PATH, held against clean-fid's own result."""

import json
import warnings

import numpy as np
import pytest
import scipy
from cleanfid import fid
from cleanfid.inception_torchscript import InceptionV3W
from packaging.version import Version
from PIL import Image

from benchmark.__main__ import main

NAME = "inception-2015-12-05.pt"


def by_clean_fid(folders, weights):
    """clean-fid's features and its own distance, on PNGs.

    2,048-d features of a few images span a small space: in an orthonormal basis of it the distance
    is the same, and scipy's root is of a small matrix.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, scipy sqrtm's disp
        net = InceptionV3W(str(weights.parent), download=False).eval()
        found = [
            fid.get_folder_features(
                str(folder), net, num_workers=0, device="cpu", mode="clean", verbose=False
            )
            for folder in folders
        ]
        basis = np.linalg.qr(np.concatenate(found).T)[0]
        small = [features.astype(np.float64) @ basis for features in found]
        means = [features.mean(axis=0) for features in small]
        covariances = [np.cov(features, rowvar=False) for features in small]
        return fid.frechet_distance(means[0], covariances[0], means[1], covariances[1])


@pytest.mark.skipif(
    Version(scipy.__version__) >= Version("1.18"),
    reason="clean-fid 0.1.35 asks scipy's sqrtm for disp, which scipy 1.18 removed",
)
def test_stub_under_inception_path_gives_clean_fids_own_fid(
    workdir, save_stub, smooth_images, noisy, call, monkeypatch
):
    weights = save_stub(workdir / NAME)
    sets = {"generated": noisy(smooth_images(24, side=40), 40), "real": smooth_images(30, side=40)}
    for name, images in sets.items():
        (workdir / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(workdir / name / f"{index:03d}.png")
    expected = by_clean_fid([workdir / "generated", workdir / "real"], weights)
    monkeypatch.setenv("INCEPTION_PATH", str(weights))
    words = ["evaluate", "generated", "--reference", "real", "--metrics", "fd"]
    code, out, errors = call(main, [*words, "--json", "scores.json"])
    assert code == 0, errors
    (score,) = json.loads((workdir / "scores.json").read_text())["scores"]
    assert score["metric"] == "FID@24" and "smoke" in out
    assert score["value"] == pytest.approx(expected, rel=1e-5)
