import os
import platform
import subprocess
import sys
import tomllib

import pytest

from mindiffusion.machine import environment_number, module_command

TRAP = "raise SystemExit('imported from the working folder')"
SCRIPT = """
import re, sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({name}())
"""


@pytest.fixture
def console_script(repository, tmp_path):
    """A function: runs the console script, as pip writes it, in a folder that holds a trap."""
    with (repository / "pyproject.toml").open("rb") as handle:
        scripts = tomllib.load(handle)["project"]["scripts"]
    module, name = scripts["curriculum-benchmark"].split(":")
    script = tmp_path / "bin" / "curriculum-benchmark"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(module=module, name=name))
    here = tmp_path / "here"
    here.mkdir()
    for trap in ("torch.py", "benchmark.py", "numpy.py"):
        (here / trap).write_text(TRAP)

    def run(*words):
        environment = os.environ | {"PYTHONPATH": str(repository)}
        return subprocess.run(
            [sys.executable, script, *words], cwd=here, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    return run


def test_console_script_imports_nothing_of_the_working_folder(console_script):
    done = console_script("doctor")
    assert done.returncode == 0, done.stderr
    assert "torch " in done.stdout


def test_children_look_where_their_parent_does(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    assert module_command("benchmark") == [sys.executable, "-P", "-m", "benchmark"]
    for here in (str(tmp_path), ""):
        monkeypatch.setattr(sys, "path", [here])
        assert module_command("benchmark") == [sys.executable, "-m", "benchmark"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("0", 0), ("", None), ("-1", None), ("x", None), ("1e3", None), ("٣", None)],
)
def test_variable_is_a_number_or_none(text, number, monkeypatch):
    monkeypatch.setenv("RANK", text)
    assert environment_number("RANK") == number


needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told"
)
FREES = """
import resource
import numpy as np
from mindiffusion.machine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        del_me = [np.ones(2**20) for _ in range(8)]
        del del_me
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
is_kept = keep_freed_memory()
faults()
print(is_kept, before, faults())
"""


def freed_memory(repository, **changes):
    own = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {k: value for k, value in os.environ.items() if not k.startswith(own)}
    environment |= {"PYTHONPATH": str(repository)} | changes
    done = subprocess.run(
        [sys.executable, "-c", FREES], env=environment, capture_output=True, text=True, check=True
    )
    is_kept, before, after = done.stdout.split()
    return is_kept == "True", int(before), int(after)


@needs_glibc
def test_freed_memory_is_kept_and_costs_no_faults_again(repository):
    is_kept, before, after = freed_memory(repository)
    # 64 MiB of pages of 4 KiB, five times: some of them, or huge pages, are met again anyway.
    assert is_kept and after < before / 4


@needs_glibc
@pytest.mark.parametrize(
    ("name", "value", "is_kept"),
    [
        ("MALLOC_ARENA_MAX", "2", False),
        ("GLIBC_TUNABLES", "glibc.malloc.perturb=0", False),
        ("PYTHONMALLOC", "pymalloc", True),
    ],
)
def test_users_own_allocator_settings_stand(name, value, is_kept, repository):
    assert freed_memory(repository, **{name: value})[0] is is_kept
