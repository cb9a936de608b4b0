"""Plants faults in copies of the product and runs the tests that should notice: ``make mutants``.

A mutant is noticed when a test fails; when nothing fails it survives, and a test is missing. First
the same tests run on the unchanged tree, since a test that fails anyway notices nothing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutant import Mutant, plant, why_stale
from mutants import MUTANTS

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("mindiffusion", "benchmark", "plots", "tests")
LIMIT_SECONDS = 900
SOME_TEST_FAILED = 1
"""pytest's exit codes: 0 all passed, 1 a test failed; any other tells nothing about a test."""


def copy_tree(target: Path) -> None:
    """What the tests need of the working tree, without what was compiled from it."""
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, target / name, ignore=ignored)
    for path in [*REPOSITORY.glob("*.py"), REPOSITORY / "pyproject.toml"]:
        shutil.copy(path, target)
    # Tests run examples of the documents.
    (target / "docs").mkdir()
    for path in REPOSITORY.glob("docs/*.md"):
        shutil.copy(path, target / "docs")


def run_tests(tree: Path, targets: Sequence[str]) -> tuple[int, str]:
    """Run pytest on a tree: its exit code and what it printed."""
    # No test that a mutant of the same size as the original is compiled again: write nothing.
    changes = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    scratch = ["--basetemp", str(tree / "temporary"), "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", *scratch, *targets],
        cwd=tree,
        env=dict(os.environ) | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return -1, process.communicate()[0]
    return process.returncode, output


def try_mutant(mutant: Mutant) -> tuple[str, str]:
    """Plant one fault; returns "noticed", "SURVIVED" or "BROKEN", and what tells so."""
    with tempfile.TemporaryDirectory(prefix=f"mutant-{mutant.name}-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        plant(mutant, tree)
        code, output = run_tests(tree, mutant.tests)
    if code == 0:
        return "SURVIVED", ", ".join(mutant.tests)
    if code != SOME_TEST_FAILED:
        return "BROKEN", f"pytest ended with {code}: {' '.join(output.split())[-300:]}"
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return "noticed", found[1] if found else "by a failing test"


def control(mutants: Sequence[Mutant]) -> None:
    """Run all targets on the unchanged tree; end the program if one fails there."""
    targets = sorted({target for mutant in mutants for target in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="mutant-control-") as folder:
        copy_tree(Path(folder))
        code, output = run_tests(Path(folder), targets)
    if code:
        sys.exit(f"{output[-2000:]}\nerror: the tests fail without any mutant; mend them first.")
    print(f"control: {len(targets)} targets pass without a mutant", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mutants", description=__doc__)
    parser.add_argument("--name", action="append", help="only this mutant; repeatable")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at a time")
    options = parser.parse_args()
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = sorted(set(options.name or []) - known.keys())
    if unknown:
        parser.error(f"no mutant {unknown[0]!r}; see --list.")
    chosen = [known[name] for name in options.name or known]
    if options.list:
        print("\n".join(f"{mutant.name:<32} {mutant.file}" for mutant in chosen))
        return 0
    stale = [why for why in (why_stale(mutant, REPOSITORY) for mutant in chosen) if why]
    if stale:
        sys.exit("\n".join([*stale, f"error: {len(stale)} entries do not fit the code."]))
    with ThreadPoolExecutor(options.workers) as pool:
        waiting = pool.submit(control, chosen)
        outcomes = []
        for mutant, (outcome, why) in zip(chosen, pool.map(try_mutant, chosen), strict=True):
            outcomes.append(outcome)
            print(f"{outcome:<9} {mutant.name:<32} {why}", flush=True)
        waiting.result()
    survivors = len(outcomes) - outcomes.count("noticed")
    print(f"{len(outcomes)} mutants, {survivors} not noticed")
    return min(1, survivors)


if __name__ == "__main__":
    sys.exit(main())
