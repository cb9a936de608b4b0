"""Faults in the two-feature theory: its data, oracle, training and measures."""

from mutant import Mutant

UNITS = "tests/theory"
CODE = "mindiffusion/theory"

THEORY_MUTANTS = (
    Mutant(
        "oracle-forgets-that-empty-groups-are-rejected",
        f"{CODE}/oracle.py",
        "(present - _log_any(grouped)).exp()",
        "present.exp()",
        (f"{UNITS}/test_oracle.py",),
    ),
    Mutant(
        "oracle-rejects-both-groups-together",
        f"{CODE}/oracle.py",
        "logits.unflatten(-1, (2, -1))",
        "logits.unflatten(-1, (1, -1))",
        (f"{UNITS}/test_oracle.py",),
    ),
    Mutant(
        "first-feature-is-drawn-as-if-codes-were-never-empty",
        f"{CODE}/two_features.py",
        "return torch.expm1(place * none) / math.expm1(d * none)",
        "return -torch.expm1(place * none)",
        (f"{UNITS}/test_two_features.py",),
    ),
    Mutant(
        "toy-time-is-not-turned-round",
        "mindiffusion/chain.py",
        "return (1.0 - self.lowest) * t / (1.0 - (1.0 - self.lowest) * t)",
        "return (1.0 - self.lowest) * t / (1.0 - (1.0 - self.lowest) * (1 - t))",
        ("tests/mindiffusion/test_linear_path.py",),
    ),
    Mutant(
        "loss-in-x0-keeps-the-weight-of-eps",
        "mindiffusion/linear_path.py",
        "sigma.square() if self._answers_x0 else one",
        "one",
        ("tests/mindiffusion/test_linear_path.py",),
    ),
    Mutant(
        "arms-of-a-seed-share-no-draws",
        f"{CODE}/draws.py",
        "[place[run.seed, run.noise_stream] for run in runs]",
        "[number % len(pairs) for number, run in enumerate(runs)]",
        (f"{UNITS}/test_simulation.py",),
    ),
    Mutant(
        "finished-runs-take-the-averages-of-others",
        f"{CODE}/simulation.py",
        "self._restore({n: v[stay] if v.dim() else v for n, v in averages.items()})",
        "self._restore({n: v[: len(stay)] if v.dim() else v for n, v in averages.items()})",
        (f"{UNITS}/test_simulation.py",),
    ),
    Mutant(
        "finished-runs-leave-before-they-hand-out-their-weights",
        f"{CODE}/simulation.py",
        "            self._train_to(min(until, self._next_change()))\n",
        "            self._train_to(min(until, self._next_change()))\n"
        "            self._drop_finished()\n",
        (f"{UNITS}/test_simulation.py",),
    ),
    Mutant(
        "excess-is-measured-from-the-sample",
        f"{CODE}/scores.py",
        "deviation = said - best",
        "deviation = said - x",
        (f"{UNITS}/test_measures.py",),
    ),
    Mutant(
        "content-of-m1-counts-all-neurons",
        f"{CODE}/measures.py",
        "chosen = (second > first) & ~is_dead(strengths)",
        "chosen = ~is_dead(strengths)",
        (f"{UNITS}/test_measures.py",),
    ),
    Mutant(
        "dead-neurons-align-with-features",
        f"{CODE}/measures.py",
        "alive = np.where(is_dead(strengths)[..., None], -1.0, cosines)",
        "alive = cosines",
        (f"{UNITS}/test_measures.py",),
    ),
    Mutant(
        "weak-features-are-in-the-unit-of-the-strong",
        f"{CODE}/scores.py",
        "unflatten(1, (2, d)).sum(2).mean(0)",
        "unflatten(1, (d, 2)).sum(1).mean(0)",
        ("tests/benchmark/evaluation/test_theory_rows.py",),
    ),
    Mutant(
        "later-neurons-are-those-of-the-first-stage",
        "benchmark/evaluation/theory/theory_rows.py",
        "is_first = snapshot.birth_stage == 0",
        "is_first = snapshot.birth_stage >= 0",
        ("tests/benchmark/evaluation/test_theory_rows.py",),
    ),
)
