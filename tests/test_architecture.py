"""Who imports whom, and how large things may grow."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib

import pytest

PACKAGES = ("mindiffusion", "benchmark", "plots")
TORCH_FREE = (
    "benchmark.rows.frames",
    "benchmark.rows.file",
    "benchmark.analysis.statistics",
    "benchmark.study.index",
    "benchmark.rows.merge",
    "benchmark.reporting.outcome",
    "benchmark.analysis.sensitivity",
    "benchmark.rows.pack",
    "benchmark.reporting.tables.build",
    "benchmark.cells.status",
    "benchmark.cells.slurm",
    "plots.build",
    "mindiffusion.cli",
    "mindiffusion.config.run",
    "mindiffusion.data.prepare",
)
MAY_BE_LONG = {"__init__", "forward", "train"}


def modules(repository):
    """Dotted name → (path, syntax tree) of all our modules."""
    found = {}
    for package in PACKAGES:
        for path in sorted((repository / package).rglob("*.py")):
            name = ".".join(path.relative_to(repository).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = (path, ast.parse(path.read_text()))
    return found


@pytest.fixture(scope="module")
def ours(repository):
    return modules(repository)


def imported(tree):
    """Dotted names a module imports, also inside functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names.add(node.module)
    return names


def of_package(names, package):
    return {name for name in names if name.split(".")[0] == package}


def test_mindiffusion_imports_neither_benchmark_nor_plots(ours):
    for name, (_, tree) in ours.items():
        if name.startswith("mindiffusion"):
            outside = of_package(imported(tree), "benchmark") | of_package(imported(tree), "plots")
            assert not outside, name


ROOMS = {
    "study": {"mindiffusion"},
    "rows": {"mindiffusion", "study"},
    "evaluation": {"mindiffusion", "study", "rows"},
    "analysis": {"mindiffusion", "study", "rows"},
    "plots": {"mindiffusion", "study", "rows", "analysis"},
    "reporting": {"mindiffusion", "study", "rows", "analysis", "plots"},
    "cells": {"mindiffusion", "study", "rows", "evaluation", "analysis", "reporting"},
    "data": {"mindiffusion", "study"},
    "difficulty": {
        "mindiffusion",
        "study",
        "rows",
        "evaluation",
        "analysis",
        "plots",
        "reporting",
        "cells",
    },
    "speed": {"mindiffusion", "rows", "evaluation", "plots"},
    "selfcheck": {"mindiffusion", "rows", "evaluation", "speed"},
}
"""What each room imports, as docs/design.md draws it: nothing else, and no less."""


def room_of(name):
    """``benchmark.rows.file`` → rows; plots and mindiffusion are one room each."""
    parts = name.split(".")
    return ".".join(parts[:2]).removeprefix("benchmark.") if parts[0] == "benchmark" else parts[0]


def test_writables_import_what_the_plan_says(ours):
    found = {room: set() for room in ROOMS}
    for name, (_, tree) in ours.items():
        room = room_of(name)
        if room in ROOMS:
            targets = {n for n in imported(tree) if n.split(".")[0] in PACKAGES}
            found[room] |= {room_of(target) for target in targets} - {room, "benchmark"}
    assert found == ROOMS


def test_no_rooms_import_in_a_circle(ours):
    """Rooms: folders of the library and of the benchmark, and what stands beside these."""
    arrows = {}
    for name, (_, tree) in ours.items():
        room = ".".join(name.split(".")[:2])
        used = {".".join(n.split(".")[:2]) for n in imported(tree) if n.split(".")[0] in PACKAGES}
        arrows.setdefault(room, set()).update(used - {room})
    graphlib.TopologicalSorter(arrows).prepare()


def test_every_module_of_the_benchmark_stands_in_a_room(ours):
    outside = {n for n in ours if n.startswith("benchmark.") and room_of(n) not in ROOMS}
    assert outside == {"benchmark.__main__"}


def test_plots_take_little_of_the_library(ours):
    allowed = {"mindiffusion.errors", "mindiffusion.files", "mindiffusion.outside.pictures",
               "mindiffusion.curriculum.exposure"}  # fmt: skip
    for name, (_, tree) in ours.items():
        if name.startswith("plots"):
            assert of_package(imported(tree), "mindiffusion") <= allowed, name


def test_benchmark_imports_plots_inside_functions_only(ours):
    for name, (_, tree) in ours.items():
        if name.startswith("benchmark"):
            top = {n for node in tree.body for n in imported(ast.Module([node], []))
                   if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
            assert not of_package(top, "plots"), name


def test_arguments_are_parsed_by_commands_only(ours):
    users = {name for name, (_, tree) in ours.items() if "argparse" in imported(tree)}
    commands = {name for name in ours if name.endswith(".command")}
    assert users == {"mindiffusion.cli", "benchmark.__main__", "plots.__main__", *commands}


def test_random_numbers_come_from_noise_only(ours):
    """torch's generators serve initial weights, and DDPM.forward where a caller gives no draws."""
    drawing = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "manual_seed"}
    users = {
        (name, node.attr)
        for name, (_, tree) in ours.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in drawing
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    }
    assert users == {
        ("mindiffusion.build", "manual_seed"),
        ("mindiffusion.ddpm", "rand"),
        ("mindiffusion.ddpm", "randn_like"),
        # How others draw, which is what is timed there.
        ("benchmark.speed.rivals.reference_loop", "randn"),
        ("benchmark.speed.rivals.reference_loop", "randn_like"),
        ("benchmark.speed.rivals.reference_loop", "randint"),
        ("benchmark.speed.rivals.plain_network", "randint"),
        *(
            ("benchmark.speed.rivals.plain_process", how)
            for how in ("rand", "randn", "randint", "randn_like")
        ),
    }


OPENS = {"open", "read_text", "read_bytes", "fromfile", "memmap", "ZipFile", "is_zipfile", "mmap"}
LOADERS = {"np": "load", "torch": "load", "jit": "load", "pickle": "load", "Image": "open"}
OPENED_ELSEWHERE = {
    # What a stranger can't have written, with the reason.
    "mindiffusion.cli": "variables out of a text that the boundary has read",
    "mindiffusion.files": "writes, and looks at the temporary files that it made itself",
    "mindiffusion.errors": "writes the traceback, and sends what has no reader to nowhere",
    "mindiffusion.data.avatars": "styles of an installed package, and pictures drawn in memory",
    "mindiffusion.data.pool": "the pipe from its own workers",
    "mindiffusion.data.worker": "the pipe from its own parent",
    "mindiffusion.runtime": "/proc",
    "mindiffusion.training.signals": "/proc",
    "benchmark.rows.file": "maps the end of the file that it has opened to append to",
    "benchmark.study.declaration": "the project's own document",
    "benchmark.evaluation.milestone.yardstick": "a new file without a name",
    "benchmark.selfcheck.known_cases": "pictures that it made a moment ago",
    "benchmark.reporting.page.build": "the project's own page",
    "benchmark.speed": "files that it made itself, to be timed; /proc",
}


def calls(tree):
    """(what it is called on, called name) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield "", node.func.id
            elif isinstance(node.func, ast.Attribute):
                owner = node.func.value
                yield getattr(owner, "id", getattr(owner, "attr", "")), node.func.attr


def test_files_of_strangers_are_opened_by_the_boundary_alone(ours):
    users = set()
    for name, (_, tree) in ours.items():
        opens = any(
            (called in OPENS and (owner, called) != ("", "read_text"))  # that of the boundary
            or LOADERS.get(owner) == called
            or owner == "yaml"
            or called == "load_dotenv"
            for owner, called in calls(tree)
        )
        if opens and not name.startswith("mindiffusion.outside."):
            users.add("benchmark.speed" if name.startswith("benchmark.speed.") else name)
    assert users == set(OPENED_ELSEWHERE)


def test_the_boundary_stands_on_nothing_but_errors(ours):
    for name, (_, tree) in ours.items():
        if name.startswith("mindiffusion.outside"):
            used = of_package(imported(tree), "mindiffusion")
            own = {one for one in used if one.startswith("mindiffusion.outside.")}
            assert used - own <= {"mindiffusion.errors", "mindiffusion.printable"}, name


def test_the_loop_knows_no_arm(ours):
    training = [
        f"mindiffusion.training.{name}" for name in ("loop", "run_folder", "trainer", "watch")
    ]
    for name in (*training, "benchmark.cells.local"):
        path, tree = ours[name]
        words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert not words & {"B", "C", "CS", "CR", "b", "c", "cs", "cr"}, path


NETWORKS = {
    f"mindiffusion.{name}"
    for name in (
        *("unet", "sparse_unet", "reg_unet", "layers"),
        *("uvit", "sparse_uvit", "uvit_layers"),
        *("song_unet", "song_layers", "dit"),
        "text_layers",
    )
}
NETWORK_NAMES = {
    *("naive_unet", "sparse_unet", "reg_unet", "uvit", "sparse_uvit", "song_unet", "dit"),
}
SETTINGS_OF_NETWORKS = {
    f"mindiffusion.config.{name}" for name in ("model", "naive_unet", "uvit", "song_unet", "dit")
}


def test_one_module_builds_networks_and_no_other_knows_one(ours):
    """But for networks themselves, and for what is timed beside a rival with the same network."""
    for name, (path, tree) in ours.items():
        if name not in NETWORKS and not name.startswith("benchmark.speed."):
            assert not imported(tree) & NETWORKS or name == "mindiffusion.build", path
        words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        if words & NETWORK_NAMES and not name.startswith("benchmark.speed."):
            # Which networks there are, and which fields they have lost.
            assert name in SETTINGS_OF_NETWORKS | {"mindiffusion.config.run"}, path


PROCESSES = {
    f"mindiffusion.{name}"
    for name in ("ddpm", "curriculum_ddpm", "schedules", "chain", "vpsde", "edm", "linear_path")
}
OF_A_PROCESS = {
    "n_T",
    "beta1",
    "beta2",
    "alpha_bar",
    "beta_min",
    "beta_max",
    "P_mean",
    "P_std",
    "sigma_min",
    "sigma_max",
}


def test_one_module_builds_processes_and_no_other_knows_one(ours):
    """But for their settings, and for what is timed beside a rival with the same process."""
    for name, (path, tree) in ours.items():
        is_own = name in PROCESSES | {"mindiffusion.config.process"}
        if not is_own and not name.startswith("benchmark.speed."):
            assert not imported(tree) & PROCESSES or name == "mindiffusion.build", path
            attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
            assert not attributes & OF_A_PROCESS, path


def test_one_module_knows_the_range_of_pixels(ours):
    users = {
        name
        for name, (_, tree) in ours.items()
        if 127.5 in {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    }
    assert users == {"mindiffusion.data.codec"}


def test_one_function_decides_which_codec_a_run_has(ours):
    users = {
        name
        for name, (_, tree) in ours.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "mindiffusion.data.codec"
        if any(alias.name == "PIXELS" for alias in node.names)
    }
    assert {name for name in users if not name.startswith("benchmark.speed.")} == {
        "mindiffusion.build",
        # An autoencoder sees pixels, and gives them back.
        "mindiffusion.latent_codec",
        "mindiffusion.prepared_latents",
        # The classifier of attributes is a network of its own, which sees pixels.
        "benchmark.evaluation.attributes.architecture",
        "benchmark.evaluation.attributes.classifier",
    }


def test_files_and_functions_stay_small(ours):
    for name, (path, tree) in ours.items():
        assert len(path.read_text().splitlines()) <= 400, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name not in MAY_BE_LONG:
                length = node.end_lineno - node.lineno + 1
                # A signature and a docstring are no code.
                body = node.body[1:] if ast.get_docstring(node) else node.body
                code = node.end_lineno - body[0].lineno + 1 if body else 0
                assert code <= 40, f"{name}.{node.name}: {length} lines"


def test_sections_of_methods_that_are_cited_are_there(repository):
    text = (repository / "docs" / "methods.md").read_text()
    assert len(text.splitlines()) <= 350
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    cited = []
    for package in (*PACKAGES, "tests"):
        for path in (repository / package).rglob("*.py"):
            words = " ".join(path.read_text().replace("\n#", " ").split())
            cited += re.findall(r"docs/methods\.md, ([A-Z][a-zA-Z -]+)", words)
    assert len(cited) > 10
    for found in cited:
        assert any(found.startswith(section) for section in sections), found


def test_top_level_holds_the_three_scripts_only(repository):
    scripts = sorted(path.name for path in repository.glob("*.py"))
    assert scripts == [f"train_celeba_{arm}_32.py" for arm in ("c", "cr", "cs")]


@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_train_script_is_a_docstring_and_one_call(repository, arm):
    path = repository / f"train_celeba_{arm}_32.py"
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 25
    assert "torchrun" in ast.get_docstring(tree)
    _docstring, imports, guard = tree.body
    assert isinstance(imports, ast.ImportFrom) and isinstance(guard, ast.If)
    assert ast.unparse(guard.body[0]) == f"main('celeba_{arm}_32')"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_module_does_not_import_torch(name, repository):
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0


def test_a_cell_starts_without_what_tables_need(repository):
    code = "import sys, benchmark.cells.cell; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert not {"pandas", "scipy.stats", "matplotlib"} & set(out.stdout.split())


def test_files_that_are_no_code_are_installed(repository):
    with (repository / "pyproject.toml").open("rb") as handle:
        patterns = tomllib.load(handle)["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        root = repository / package
        data = {p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
        listed = {p for pattern in patterns.get(package, []) for p in root.glob(pattern)}
        assert data == listed, package


def test_no_file_of_ours_is_ignored_by_git(repository):
    """An ignored preset is there for whoever wrote it and missing in every clone."""
    command = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", *PACKAGES]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    ignored = [name for name in done.stdout.splitlines() if "__pycache__" not in name]
    assert ignored == []
