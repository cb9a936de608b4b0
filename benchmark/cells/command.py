"""The commands that compute: reproduce, status, prepare, train."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindiffusion.cli import add_run_options, add_seed_option, add_set_option
from mindiffusion.config.presets import (
    apply_overrides,
    build_config,
    load_preset,
    preset_names,
)
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import shown_value

if TYPE_CHECKING:
    from benchmark.study.study import Study
    from benchmark.study.theory_study import TheoryStudy
    from mindiffusion.config.run import RunConfig
    from mindiffusion.data.prepared import PreparedData
    from mindiffusion.theory.setting import TheoryRun


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    _add_reproduce(commands)
    status = commands.add_parser("status", help="what every cell of a study is doing")
    status.add_argument("folder", type=Path, help="a study's or a run's folder")
    status.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
    status.set_defaults(run=_status)
    _add_prepare(commands)
    train = commands.add_parser("train", help="train one preset, such as celeba_b_32")
    train.add_argument("preset", help=f"one of {', '.join(preset_names())}")
    add_seed_option(train)
    add_run_options(train)
    train.set_defaults(run=_train)


def _add_reproduce(commands: Any) -> None:
    reproduce = commands.add_parser("reproduce", help="run a study; make its tables and report")
    reproduce.add_argument("study", help="demo, avatars32, celeba32 … or a YAML file of your own")
    reproduce.add_argument("--arms", metavar="A,B", help="run these arms' cells only, such as B,C")
    reproduce.add_argument("--seeds", metavar="K,L", help="run these seeds' cells only: 0,1 or 0-7")
    reproduce.add_argument("--steps", type=int, metavar="N", help="length of every run")
    reproduce.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, for another time"
    )
    add_run_options(
        reproduce, "folder of the study's results", "8 steps of every cell, scored: a quick check"
    )
    _add_cluster_options(reproduce)
    reproduce.set_defaults(run=_reproduce)


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
    prepare.add_argument(
        "name", nargs="?", default="celeba_b_32", help="a preset, a study or a study's YAML file"
    )
    prepare.add_argument("--dataset", help="avatars, celeba, photos, or a folder or zip of images")
    add_set_option(prepare, "such as data.crop=center178; repeatable")
    prepare.add_argument(
        "--inception",
        action="store_true",
        help="fetch clean-fid's Inception weights into .cache instead",
    )
    prepare.set_defaults(run=_prepare)


def _reproduce(options: argparse.Namespace) -> int:
    from benchmark.study.choice import choose_runs
    from benchmark.study.study import Study, load_study

    overrides = _with_dataset(options)
    for name in ("global_batch", "steps"):
        if getattr(options, name) is not None:
            overrides.insert(0, f"training.{name}={getattr(options, name)}")
    study = load_study(
        options.study, output=options.output, overrides=overrides, smoke=options.smoke
    )
    runs = choose_runs(study, options.arms, options.seeds)
    if options.minutes is not None and not (options.minutes > 0 and options.cluster is None):
        raise UserError(
            "--minutes must be greater than 0 and works only without --cluster; for SLURM jobs use "
            "--slurm time=M."
        )
    if isinstance(study, Study):
        return _reproduce_runs(study, runs, options)
    return _reproduce_theory(study, runs, options)


def _reproduce_theory(
    study: "TheoryStudy", runs: "Sequence[TheoryRun]", options: argparse.Namespace
) -> int:
    if options.cluster is not None:
        raise UserError(
            f"{study.name} trains all its runs at once in one process, so --cluster would gain "
            "nothing; leave it out."
        )
    from benchmark.cells.theory.run import print_theory_dry_run, run_theory_study

    if options.dry_run:
        return print_theory_dry_run(study, runs)
    minutes = math.inf if options.minutes is None else options.minutes
    return run_theory_study(study, runs, minutes=minutes)


def _reproduce_runs(
    study: "Study", runs: "Sequence[RunConfig]", options: argparse.Namespace
) -> int:
    if options.dry_run:
        from benchmark.cells.slots import device_slots
        from benchmark.cells.time_left import print_dry_run

        return print_dry_run(study, runs, len(device_slots(runs, study.runs_per_device)))
    if options.cluster is not None:
        return _reproduce_on_cluster(study, runs, options)
    from benchmark.cells.local import run_study

    return run_study(study, runs, minutes=math.inf if options.minutes is None else options.minutes)


def _reproduce_on_cluster(
    study: "Study", runs: "Sequence[RunConfig]", options: argparse.Namespace
) -> int:
    from benchmark.cells.slurm import ClusterOptions, parse_settings, run_on_cluster

    how = ClusterOptions(options.cluster, options.cells_per_job, parse_settings(options.slurm))
    return run_on_cluster(study, runs, how)


def _status(options: argparse.Namespace) -> int:
    from benchmark.cells.status import show_status

    return show_status(options.folder, options.watch)


def _prepare(options: argparse.Namespace) -> int:
    if options.inception:
        from benchmark.evaluation.features.inception import fetch_inception
        from mindiffusion.places import cache_root

        print(fetch_inception(cache_root()))
        return 0
    from benchmark.study.study import Study, load_study, study_names
    from mindiffusion.data.store import prepared_data

    overrides = _with_dataset(options)
    if options.name in study_names() or options.name.endswith((".yaml", ".yml")):
        study = load_study(options.name, overrides=overrides)
        if not isinstance(study, Study):
            raise UserError(f"{study.name} draws its samples as it trains: there is no array.")
        config = study.runs[0]
    elif options.name in preset_names():
        config = build_config(apply_overrides(load_preset(options.name), overrides), options.name)
    else:
        name, allowed = options.name, [*preset_names(), *study_names()]
        raise UserError(
            f"{shown_value(name, 400)} is no preset, no study and no YAML file of a study; "
            f"train --help lists the presets.{did_you_mean(name, allowed)}"
        )
    data = prepared_data(config.data, show_progress=True)
    print(
        f"{len(data.train)} training and {len(data.held_out)} held-out images in {data.folder}, "
        f"manifest {data.manifest_id}"
    )
    _prepare_latents(config, data)
    return 0


def _prepare_latents(config: "RunConfig", data: "PreparedData") -> None:
    """Encode the training images, where networks see latents."""
    if config.codec.is_bounded:
        return
    from mindiffusion.prepared_latents import with_latents
    from mindiffusion.runtime import resolve_runtime

    device = resolve_runtime(config, local_ranks=1).device
    found = with_latents(data.training, config.codec, config.data, device, show_progress=True)
    assert found.latents is not None
    print(f"latents of the autoencoder {found.latents.vae[:12]}, scale {found.latents.scale:.9g}")


def _with_dataset(options: argparse.Namespace) -> list[str]:
    """``--set`` arguments, after ``--dataset`` as the first of them."""
    if options.dataset is None:
        return list(options.overrides)
    return [f"data.dataset={json.dumps(options.dataset)}", *options.overrides]


def _train(options: argparse.Namespace) -> int:
    from mindiffusion.cli import train_preset

    return train_preset(options.preset, options)
