import sys

import pytest
import torch

from benchmark.__main__ import main
from benchmark.selfcheck import doctor as doctor_module


@pytest.fixture
def report(call):
    """A function that runs the doctor → (exit code, first word of a line → the rest)."""

    def run():
        code, out, _ = call(main, ["doctor"])
        return code, {line[:14].strip(): line[15:] for line in out.splitlines()}

    return run


def test_doctor_lists_versions_devices_weights_and_data(workdir, report):
    code, lines = report()
    assert code == 0
    assert lines["torch"] == torch.__version__.split("+")[0] or lines["torch"] == torch.__version__
    assert lines["python"] == sys.version.split()[0]
    assert int(lines["cores usable"]) >= 1
    assert lines["C++ compiler"] in ("found", "not found: eager on CPU")
    assert lines["inception"].startswith("not found") and "INCEPTION_PATH" in lines["inception"]
    assert lines["CELEBA_PATH"] == "not set"


def test_doctor_says_where_data_and_weights_are(workdir, report, monkeypatch):
    monkeypatch.setenv("CELEBA_PATH", str(workdir / "nowhere"))
    (workdir / "inception.pt").write_bytes(b"x")
    monkeypatch.setenv("INCEPTION_PATH", str(workdir / "inception.pt"))
    _, lines = report()
    assert lines["CELEBA_PATH"] == f"{workdir / 'nowhere'} (missing)"
    assert lines["inception"] == str(workdir / "inception.pt")
    monkeypatch.setenv("CELEBA_PATH", str(workdir))
    assert report()[1]["CELEBA_PATH"] == str(workdir)


def test_doctor_reads_dotenv(workdir, report, monkeypatch):
    monkeypatch.setenv("CELEBA_PATH", "kept for the teardown")
    monkeypatch.delenv("CELEBA_PATH")
    (workdir / ".env").write_text(f"CELEBA_PATH={workdir}\n")
    assert report()[1]["CELEBA_PATH"] == str(workdir)


def test_doctor_names_a_torchvision_of_another_index(workdir, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    code, out, _ = call(main, ["doctor"])
    (problem,) = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert code == 1 and "torchvision" in problem and "pip install" in problem


def test_doctor_works_without_torch(workdir, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor_module.known_bad_pairs() == [
        "torch is not installed; run: pip install '.[train]'"
    ]
    code, out, _ = call(main, ["doctor"])
    assert code == 1 and "torch is not installed" in out
