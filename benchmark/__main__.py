"""``python -m benchmark``: one command for each thing that can be done with runs and images."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindiffusion.cli import add_run_options, add_seed_option, add_set_option, load_settings
from mindiffusion.errors import UserError, guarded, leave
from mindiffusion.machine import yield_cores

if TYPE_CHECKING:
    from benchmark.study import Study
    from mindiffusion.training.config import RunConfig


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    _add_reproduce(commands)
    status = commands.add_parser("status", help="what every cell of a study is doing")
    status.add_argument("folder", type=Path, help="a study's or a run's folder")
    status.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")

    _add_prepare(commands)
    train = commands.add_parser("train", help="train one preset, such as celeba_b_32")
    train.add_argument("preset")
    add_seed_option(train)
    add_run_options(train)

    _add_sample(commands)
    tables = commands.add_parser("tables", help="rebuild tables from rows alone")
    tables.add_argument("folder", type=Path, help="a study's folder, such as results/demo")
    report = commands.add_parser("report", help="rebuild tables, figures, paper, report from rows")
    report.add_argument("folder", type=Path, help="a study's folder, such as results/demo")

    _add_transport(commands)
    _add_evaluate(commands)
    _add_selfcheck(commands)
    commands.add_parser("doctor", help="versions, devices, weights, known-bad pairs")
    _add_speed(commands)
    return parser


def _add_reproduce(commands: Any) -> None:
    reproduce = commands.add_parser("reproduce", help="run a study; make its tables and report")
    reproduce.add_argument("study", help="demo, avatars32, celeba32 … or a YAML file of your own")
    reproduce.add_argument("--arms", metavar="A,B", help="run these arms' cells only, such as B,C")
    reproduce.add_argument("--seeds", metavar="K,L", help="run these seeds' cells only: 0,1 or 0-7")
    reproduce.add_argument("--steps", type=int, metavar="N", help="length of every run")
    reproduce.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, for another time"
    )
    add_run_options(reproduce)
    _add_cluster_options(reproduce)
    # What a study's own processes are told: one cell and how many run beside it; a job's cells;
    # the data that the parent has opened.
    reproduce.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    reproduce.add_argument("--only", nargs=2, action="append", help=argparse.SUPPRESS)
    reproduce.add_argument("--prepared", action="append", default=[], help=argparse.SUPPRESS)


def _add_transport(commands: Any) -> None:
    merge = commands.add_parser("merge", help="join the results of several machines")
    merge.add_argument("folders", type=Path, nargs="+", help="results folders of one study")
    merge.add_argument("--output", type=Path, required=True, help="may be one of them")
    pack = commands.add_parser(
        "pack", help="a study on its way: rows and unfinished cells in files"
    )
    pack.add_argument("folder", type=Path, help="a study's folder, such as results/avatars32")
    pack.add_argument("output", type=Path, help="folder for the files")
    unpack = commands.add_parser("unpack", help="take such files into a study's folder")
    unpack.add_argument("packed", type=Path, help="the folder that pack wrote")
    unpack.add_argument("folder", type=Path, help="the study's folder, there already or not")


def _add_cluster_options(reproduce: argparse.ArgumentParser) -> None:
    reproduce.add_argument(
        "--cluster",
        choices=("slurm", "local"),
        help="run the cells as jobs: of SLURM, or of this machine to try that out",
    )
    reproduce.add_argument(
        "--cells-per-job", type=int, metavar="N", help="default: 1 on slurm, all on local"
    )
    reproduce.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of sbatch, such as partition=gpu or time=240 (minutes); repeatable",
    )


def _add_prepare(commands: Any) -> None:
    prepare = commands.add_parser("prepare", help="prepare and check a data set's array")
    prepare.add_argument("name", nargs="?", default="celeba_b_32", help="a preset or a study")
    prepare.add_argument("--dataset", help="avatars, celeba, photos, or a folder or zip of images")
    add_set_option(prepare, "such as data.crop=center178; repeatable")
    prepare.add_argument(
        "--inception",
        action="store_true",
        help="fetch clean-fid's Inception weights into .cache instead",
    )


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser("sample", help="sample images from a milestone's weights")
    sample.add_argument("checkpoint", type=Path, help="a weights-<step>.pt file")
    sample.add_argument("--count", type=int, default=64, help="number of images")
    sample.add_argument("--weights", help="raw or an average such as ema0.9999")
    sample.add_argument(
        "--output",
        type=Path,
        default=Path("samples.png"),
        help="a .png grid, or a .npy array (N, H, W, 3) uint8",
    )
    sample.add_argument("--seed", type=int, help="sampling seed")


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="score a run, a checkpoint, or any images")
    evaluate.add_argument(
        "path", type=Path, help="a run's folder, a weights-<step>.pt, or a folder, zip or npy"
    )
    evaluate.add_argument(
        "--metrics", metavar="A,B", help="such as fd,kd,prdc,is,memorisation; default: what fits"
    )
    evaluate.add_argument(
        "--net", action="append", default=[], help="feature net, the primary one first; repeatable"
    )
    evaluate.add_argument(
        "--reference",
        type=Path,
        help="for images: what they are held against, images or a data folder",
    )
    evaluate.add_argument("--finisher", type=Path, help="for a run: what finishes stitched samples")
    evaluate.add_argument("--json", type=Path, help="for images: keep the results in this file")
    add_set_option(evaluate, "for a run, such as evaluation.num_generated=2048; repeatable")


def _add_selfcheck(commands: Any) -> None:
    check = commands.add_parser("selfcheck", help="do the metrics say what they should, here?")
    check.add_argument("--net", action="append", default=[], help="feature net; else all at hand")
    check.add_argument("--count", type=int, default=1024, help="images in each set")
    check.add_argument("--json", type=Path, help="keep the results in this file")
    add_set_option(check, "of the data, such as data.dataset=celeba; repeatable")


def _add_speed(commands: Any) -> None:
    speed = commands.add_parser("speed", help="measure this machine beside plain ways to train")
    speed.add_argument("presets", nargs="*", help="such as celeba_b_32; the four arms if none")
    speed.add_argument(
        "--part",
        default="training",
        help="training (default), preparation, sampling, evaluation, scaling or busy",
    )
    speed.add_argument(
        "--evaluation", dest="part", action="store_const", const="evaluation", help="that part"
    )
    speed.add_argument("--repeats", type=int, default=5, help="turns of every row")
    speed.add_argument("--json", type=Path, help="keep the table, and each turn, in this file")
    add_set_option(
        speed, "such as model.n_feat=64, or data.num_train=20000 for the number of pictures"
    )


def _study_words(options: argparse.Namespace) -> list[str]:
    """Command-line words that make a child load the same study."""
    words = ["reproduce", options.study]
    for name in ("output", "dataset", "global_batch", "steps"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for text in options.overrides:
        words += ["--set", text]
    return [*words, "--smoke"] if options.smoke else words


def _reproduce(options: argparse.Namespace) -> int:
    from benchmark.choice import choose_runs
    from benchmark.study import load_study
    from mindiffusion.data.store import take_over

    take_over(options.prepared)
    overrides = _with_dataset(options)
    for name in ("global_batch", "steps"):
        if getattr(options, name) is not None:
            overrides.insert(0, f"training.{name}={getattr(options, name)}")
    study = load_study(
        options.study, output=options.output, overrides=overrides, smoke=options.smoke
    )
    by_key = {(config.output, config.seed): config for config in study.runs}
    if options.cell is not None:
        from benchmark.cell import run_cell

        output, seed, side_by_side = options.cell
        return run_cell(study, by_key[output, int(seed)], int(side_by_side))
    runs = choose_runs(study, options.arms, options.seeds)
    if options.only:
        runs = tuple(by_key[output, int(seed)] for output, seed in options.only)
    return _reproduce_runs(study, runs, options)


def _reproduce_runs(
    study: "Study", runs: "Sequence[RunConfig]", options: argparse.Namespace
) -> int:
    from benchmark.cost import print_dry_run
    from benchmark.runner import device_slots, run_study
    from mindiffusion.training.signals import Interrupted

    if options.dry_run:
        return print_dry_run(study, runs, len(device_slots(runs, study.runs_per_device)))
    if options.minutes is not None and not (options.minutes > 0 and options.cluster is None):
        raise UserError("--minutes is a time above 0, on this machine; jobs have --slurm time=M.")
    if options.cluster is not None:
        return _reproduce_on_cluster(study, runs, options)
    minutes = math.inf if options.minutes is None else options.minutes
    words, is_whole = _study_words(options), not options.only
    try:
        return run_study(study, words, runs, minutes=minutes, with_tables=is_whole)
    except Interrupted as stop:
        print("stopped; run the same command again to go on.", file=sys.stderr)
        return 128 + stop.signal_number


def _reproduce_on_cluster(
    study: "Study", runs: "Sequence[RunConfig]", options: argparse.Namespace
) -> int:
    from benchmark.cluster import ClusterOptions, parse_settings, run_on_cluster

    how = ClusterOptions(options.cluster, options.cells_per_job, parse_settings(options.slurm))
    return run_on_cluster(study, _study_words(options), runs, how)


def _status(options: argparse.Namespace) -> int:
    from benchmark.status import show_status

    return show_status(options.folder, options.watch)


def _prepare(options: argparse.Namespace) -> int:
    if options.inception:
        from benchmark.features.inception import fetch_inception
        from mindiffusion.places import cache_root

        print(fetch_inception(cache_root()))
        return 0
    from benchmark.study import load_study, study_names
    from mindiffusion.data.store import prepared_data
    from mindiffusion.training.presets import apply_overrides, build_config, load_preset

    overrides = _with_dataset(options)
    if options.name in study_names() or options.name.endswith((".yaml", ".yml")):
        config = load_study(options.name, overrides=overrides).runs[0]
    else:
        config = build_config(apply_overrides(load_preset(options.name), overrides), options.name)
    data = prepared_data(config.data, show_progress=True)
    print(
        f"{len(data.train)} training and {len(data.held_out)} held-out images in {data.folder}, "
        f"manifest {data.manifest_id}"
    )
    return 0


def _with_dataset(options: argparse.Namespace) -> list[str]:
    """``--set`` arguments, after ``--dataset`` as the first of them."""
    if options.dataset is None:
        return list(options.overrides)
    return [f"data.dataset={json.dumps(options.dataset)}", *options.overrides]


def _train(options: argparse.Namespace) -> int:
    from mindiffusion.cli import train_preset

    return train_preset(options.preset, options)


def _sample(options: argparse.Namespace) -> int:
    from benchmark.draw import draw

    return draw(options.checkpoint, options.count, options.weights, options.output, options.seed)


def _tables(options: argparse.Namespace) -> int:
    from benchmark.tables import write_tables

    for path in write_tables(options.folder):
        print(path)
    return 0


def _merge(options: argparse.Namespace) -> int:
    from benchmark.merge import merge

    print(merge(options.folders, options.output))
    return 0


def _pack(options: argparse.Namespace) -> int:
    from benchmark.travel import pack

    for path in pack(options.folder, options.output):
        print(path)
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from benchmark.travel import unpack

    print(unpack(options.packed, options.folder))
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmark.outcome import tell, write_outcome

    print(tell(options.folder, write_outcome(options.folder)))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from benchmark.choice import words_of
    from benchmark.evaluation.folder import evaluate_images
    from benchmark.evaluation.run import evaluate_run, is_run_or_checkpoint, run_evaluation

    metrics = words_of(options.metrics, "--metrics") if options.metrics else None
    is_run = is_run_or_checkpoint(options.path)
    idle = ("reference", "json") if is_run else ("finisher", "overrides")
    for name in idle:
        if getattr(options, name):
            word = "set" if name == "overrides" else name
            kind = "a run" if is_run else "images"
            raise UserError(f"--{word} says nothing for {kind}, such as {options.path}; drop it.")
    if is_run:
        evaluation = run_evaluation(metrics, options.net, options.overrides)
        return evaluate_run(options.path, evaluation, options.finisher)
    return evaluate_images(options.path, options.reference, options.net, metrics, options.json)


def _selfcheck(options: argparse.Namespace) -> int:
    from benchmark.selfcheck import selfcheck

    return selfcheck(options.net, options.overrides, options.count, options.json)


def _doctor(options: argparse.Namespace) -> int:
    from benchmark.doctor import doctor

    return doctor()


def _speed(options: argparse.Namespace) -> int:
    from benchmark.speed.command import speed

    return speed(options.part, options.presets, options.overrides, options.repeats, options.json)


COMMANDS = {
    "reproduce": _reproduce,
    "status": _status,
    "prepare": _prepare,
    "train": _train,
    "sample": _sample,
    "tables": _tables,
    "report": _report,
    "merge": _merge,
    "pack": _pack,
    "unpack": _unpack,
    "evaluate": _evaluate,
    "selfcheck": _selfcheck,
    "doctor": _doctor,
    "speed": _speed,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return guarded(lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    load_settings()
    yield_cores()
    return COMMANDS[options.command](options)


def script() -> None:
    """The console script ``curriculum-benchmark``."""
    leave(main())


if __name__ == "__main__":
    script()
