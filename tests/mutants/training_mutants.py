"""Faults in training, its batches, checkpoints and restarts."""

from mutant import Mutant

UNITS = "tests/mindiffusion"
TRAINING = "tests/training"
PACERS = f"{TRAINING}/test_pacer_contract.py"
RESUME = f"{TRAINING}/test_resume.py::test_resume_after_sigterm_at_any_step_is_bit_equal"

TRAINING_MUTANTS = (
    Mutant(
        "ema-frozen",
        "mindiffusion/training/ema.py",
        "1.0 - min(decay, warm_up))",
        "0.0 * min(decay, warm_up))",
        (f"{TRAINING}/test_ema.py",),
    ),
    Mutant(
        "ema-without-warm-up",
        "mindiffusion/training/ema.py",
        "1.0 - min(decay, warm_up))",
        "1.0 - decay)",
        (f"{TRAINING}/test_ema.py",),
    ),
    Mutant(
        "mask-averaged-with-the-weights",
        "mindiffusion/training/ema.py",
        "self._buffers = dict(network.named_buffers())",
        "self._buffers = {name: b.clone() for name, b in network.named_buffers()}",
        (f"{TRAINING}/test_ema.py",),
    ),
    Mutant(
        "ema-not-restored",
        "mindiffusion/training/ema.py",
        "tensor.copy_(saved[ema_name(decay)][name])",
        "saved[ema_name(decay)][name]",
        (f"{TRAINING}/test_ema.py",),
    ),
    Mutant(
        "ema-warms-up-again-after-resume",
        "mindiffusion/training/ema.py",
        'self.num_updates = int(state["num_updates"])',
        'self.num_updates = 0 * int(state["num_updates"])',
        (f"{TRAINING}/test_ema.py",),
    ),
    Mutant(
        "noise-keyed-by-place-in-the-rank",
        "mindiffusion/training/batches.py",
        "position = torch.arange(start, stop, device=self._device)",
        "position = torch.arange(stop - start, device=self._device)",
        (f"{TRAINING}/test_batches.py",),
    ),
    Mutant(
        "flip-not-keyed-by-the-step",
        "mindiffusion/training/batches.py",
        "Stream.FLIP, position, at, 1",
        "Stream.FLIP, position, 0 * at, 1",
        (f"{TRAINING}/test_batches.py",),
    ),
    Mutant(
        "unbiased-loss-counts-the-bound-as-often-as-it-is-drawn",
        "mindiffusion/process.py",
        "of_variance if often is None else of_variance / often.to(losses)",
        "of_variance",
        (f"{TRAINING}/test_variance_runs.py",),
    ),
    Mutant(
        "every-epoch-in-the-same-order",
        "mindiffusion/training/batches.py",
        "return permutation(seed, epoch, size",
        "return permutation(seed, 0, size",
        (f"{TRAINING}/test_batches.py",),
    ),
    Mutant(
        "data-order-starts-again-after-resume",
        "mindiffusion/training/batches.py",
        "index = image_indices(seed, step, ",
        'index = image_indices(seed, step - self.__dict__.setdefault("first", step), ',
        (f"{TRAINING}/test_resume.py::test_resume_after_sigterm_at_any_step_is_bit_equal",),
    ),
    Mutant(
        "all-normals-share-one-stream",
        "mindiffusion/noise.py",
        "words = philox(counter, (key, int(stream)))",
        "words = philox(counter, (key, 0))",
        (f"{UNITS}/test_noise.py",),
    ),
    Mutant(
        "seal-not-checked",
        "mindiffusion/training/checkpoint.py",
        "if seal.model_dump() != _seal(_step_of(path), digest):",
        "if not seal:",
        (f"{TRAINING}/test_checkpoint.py",),
    ),
    Mutant(
        "pruning-takes-milestones-along",
        "mindiffusion/training/checkpoint.py",
        'run_dir.glob("ckpt-*") if _is_rolling(p) and',
        'run_dir.glob("*-*") if re.fullmatch(FILES, p.name) and',
        (f"{TRAINING}/test_checkpoint.py",),
    ),
    Mutant(
        "log-lines-doubled-after-resume",
        "mindiffusion/training/metrics_log.py",
        'and entry["step"] <= step]',
        'and entry["step"] <= 10**9 + step]',
        (f"{TRAINING}/test_resume.py::test_resume_drops_log_lines_past_its_checkpoint",),
    ),
    Mutant(
        "config-hash-forgets-the-learning-rate",
        "mindiffusion/config/run.py",
        '    del content["sampler"]["grid"]\n',
        '    del content["sampler"]["grid"], content["training"]["lr"]\n',
        ("tests/config/test_config.py",),
    ),
    Mutant(
        "lock-lets-a-second-process-in",
        "mindiffusion/files.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n                break",
        "fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)\n                break",
        (f"{UNITS}/test_files.py",),
    ),
)

LOOP_MUTANTS = (
    Mutant(
        "ranks-train-on-the-same-share",
        "mindiffusion/training/trainer.py",
        "first = self.ranks.rank * self.share\n        size",
        "first = 0 * self.share\n        size",
        (f"{TRAINING}/test_ranks.py::test_two_ranks_see_the_batches_of_one",),
    ),
    Mutant(
        "global-batch-scaled-by-the-ranks",
        "mindiffusion/training/trainer.py",
        "self.share = rank_share(global_batch, ranks.world)",
        "self.share = global_batch",
        (f"{TRAINING}/test_ranks.py::test_two_ranks_see_the_batches_of_one",),
    ),
    Mutant(
        "micro-batches-share-their-noise",
        "mindiffusion/training/trainer.py",
        "self.source.batch(self.step, start, stop)",
        "self.source.batch(self.step, first, first + stop - start)",
        (f"{TRAINING}/test_ranks.py::test_micro_batch_changes_the_weights_by_rounding_only",),
    ),
    Mutant(
        "penalty-in-every-micro-batch",
        "mindiffusion/training/trainer.py",
        "self.network.penalty() if is_last else None",
        "self.network.penalty()",
        (f"{TRAINING}/test_ranks.py::test_micro_batch_changes_the_weights_by_rounding_only",),
    ),
    Mutant(
        "optimizer-not-restored",
        "mindiffusion/training/trainer.py",
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        "",
        (f"{TRAINING}/test_resume.py::test_resume_after_sigterm_at_any_step_is_bit_equal",),
    ),
    Mutant(
        "probe-drawn-in-the-window-before",
        "mindiffusion/training/trainer.py",
        "self.noisy(batch, stage.density)",
        "self.noisy(batch, self.pacer.stages[stage.index - 1].density)",
        (f"{TRAINING}/test_trainer_stages.py",),
    ),
    Mutant(
        "probe-of-the-ranks-own-share",
        "mindiffusion/training/trainer.py",
        "self.source.batch(step, 0, size, streams)",
        "self.source.batch(step, 0, size // self.ranks.world, streams)",
        (f"{TRAINING}/test_ranks.py::test_two_ranks_give_the_weights_of_one",),
    ),
    Mutant(
        "lambda-of-the-first-stage",
        "mindiffusion/training/trainer.py",
        "stage.config.penalty_lambda, self.config.seed",
        "self.pacer.stages[0].config.penalty_lambda, self.config.seed",
        (f"{TRAINING}/test_trainer_stages.py",),
    ),
)

STEP_MUTANTS = (
    Mutant(
        "penalty-in-the-logged-loss",
        "mindiffusion/training/trainer.py",
        "errors.detach(), level.t",
        "(errors + (self.network.penalty() or 0.0)).detach(), level.t",
        (f"{TRAINING}/test_trainer_stages.py",),
    ),
    Mutant(
        "network-not-told-how-images-were-changed",
        "mindiffusion/training/trainer.py",
        "told_changes(self._wrapped, batch.augment_labels)",
        "told_changes(self._wrapped, None)",
        (f"{TRAINING}/test_augmented_runs.py::test_trainer_tells_the_labels_of_the_batch",),
    ),
    Mutant(
        "changes-drawn-by-the-place-in-the-micro-batch",
        "mindiffusion/training/batches.py",
        "torch.arange(start, start + len(inputs))",
        "torch.arange(len(inputs))",
        (f"{TRAINING}/test_augmented_runs.py",),
    ),
    Mutant(
        "gradient-never-clipped",
        "mindiffusion/training/trainer.py",
        "        if limit is not None:\n            nn",
        "        if limit is None:\n            nn",
        (f"{TRAINING}/test_trainer_stages.py",),
    ),
    Mutant(
        "losses-not-logged-yet-lost-at-resume",
        "mindiffusion/training/trainer.py",
        '        self.watch.unlogged = state["unlogged"]\n',
        "",
        (f"{TRAINING}/test_resume.py",),
    ),
    Mutant(
        "stage-not-entered-after-resume",
        "mindiffusion/training/loop.py",
        "if is_first or trainer.step == stage.start:",
        "if trainer.step == stage.start:",
        (RESUME,),
    ),
    Mutant(
        "milestone-lost-between-its-state-and-its-weights",
        "mindiffusion/training/resume.py",
        "if is_milestone and not checkpoint.is_whole(",
        "if not is_milestone and not checkpoint.is_whole(",
        (f"{TRAINING}/test_run_folder.py",),
    ),
    Mutant(
        "damaged-log-kept-at-resume",
        "mindiffusion/training/resume.py",
        '        write_text(run_dir / METRICS_FILE, state["log"])\n',
        "",
        (f"{TRAINING}/test_run_folder.py",),
    ),
    Mutant(
        "states-left-unpruned-after-a-kill",
        "mindiffusion/training/resume.py",
        "        checkpoint.prune(run_dir, step)\n",
        "",
        (f"{TRAINING}/test_resume.py::test_resume_after_a_kill_before_the_pruning_prunes",),
    ),
    Mutant(
        "loss-that-is-not-finite-passes",
        "mindiffusion/training/watch.py",
        "bad = ~np.isfinite(losses)",
        "bad = losses < 0",
        (f"{TRAINING}/test_loop_errors.py",),
    ),
    Mutant(
        "what-a-state-keeps-of-its-pacer-not-checked",
        "mindiffusion/training/checkpoint.py",
        'pacing.state_schema.model_validate(content["pacing"])',
        "pass",
        (f"{PACERS}::test_state_with_something_else_of_its_pacer_is_refused_in_one_line",),
    ),
    Mutant(
        "milestone-without-the-stages-of-its-run-passes",
        "mindiffusion/training/checkpoint.py",
        "is_told = kind is _MilestoneFile and not pacing.is_table",
        "is_told = False",
        (f"{PACERS}::test_milestone_with_something_else_of_its_pacer_is_refused_in_one_line",),
    ),
    Mutant(
        "densities-of-a-rank-follow-its-own-losses",
        "mindiffusion/training/watch.py",
        "self._on_images(*images.permute(1, 2, 0, 3).flatten(2).numpy())",
        "self._on_images(times, losses)",
        (f"{PACERS}::test_two_ranks_switch_at_the_steps_of_one",),
    ),
    Mutant(
        "what-an-online-density-saw-lost-at-resume",
        "mindiffusion/curriculum/adaptive.py",
        '        for name, own in (("sums", self._sums), ("counts", self._counts), '
        '("means", self._means)):\n            own[:] = _numbers(state or {}, name, own.shape)\n',
        "",
        (f"{PACERS}::test_run_killed_ten_times_ends_in_the_same_bits",),
    ),
)
