"""Faults in the data, the metrics, the rows and the scoring."""

from mutant import Mutant

BENCHMARK = "tests/benchmark"

BENCHMARK_MUTANTS = (
    Mutant(
        "prepared-data-keyed-without-its-source",
        "mindiffusion/data/prepare.py",
        '        "fingerprint": plan.fingerprint,\n',
        "",
        ("tests/data/test_prepare.py",),
    ),
    Mutant(
        "held-out-images-in-train",
        "mindiffusion/data/prepare.py",
        "rows = ~duplicate if plan.replace_duplicates else",
        "rows = duplicate | ~duplicate if plan.replace_duplicates else",
        ("tests/data/test_prepare.py",),
    ),
    Mutant(
        "reference-cache-keyed-without-its-data",
        "benchmark/features/reference.py",
        '        "manifest": manifest_id,\n',
        "",
        (f"{BENCHMARK}/features/test_reference_set.py",),
    ),
    Mutant(
        "resized-images-not-clipped",
        "benchmark/features/resize.py",
        "        part.clamp_(low, high)\n",
        "",
        (f"{BENCHMARK}/features/test_feature_resize.py",),
    ),
    Mutant(
        "batches-of-features-across-groups-lost",
        "benchmark/features/extract.py",
        "            for rest in self._waiting.values():\n                self._run(*rest)\n",
        "",
        (f"{BENCHMARK}/features/test_extract.py",),
    ),
    Mutant(
        "rows-keyed-without-seed",
        "benchmark/results.py",
        '_OUTCOME = {"value", "error", "samples"}',
        '_OUTCOME = {"value", "error", "samples", "seed"}',
        (f"{BENCHMARK}/test_results.py",),
    ),
    Mutant(
        "cut-row-kept-in-the-file",
        "benchmark/results.py",
        "    os.ftruncate(descriptor, start)\n",
        '    os.write(descriptor, b"\\n")\n',
        (f"{BENCHMARK}/test_results.py",),
    ),
    Mutant(
        "kid-biased",
        "benchmark/metrics/kid.py",
        "return _row_and_column_sums(x, x)[0] - with_itself",
        "return _row_and_column_sums(x, x)[0] - 0 * with_itself",
        (f"{BENCHMARK}/metrics/test_kid.py",),
    ),
    Mutant(
        "frechet-without-the-means",
        "benchmark/metrics/frechet.py",
        "distance = shift @ shift + ",
        "distance = ",
        (f"{BENCHMARK}/metrics/test_frechet.py",),
    ),
    Mutant(
        "covariance-with-ddof-zero",
        "benchmark/metrics/frechet.py",
        "self._scatter / (self._n - 1)",
        "self._scatter / self._n",
        (f"{BENCHMARK}/metrics/test_frechet.py",),
    ),
    Mutant(
        "profile-levels-off-by-one",
        "benchmark/metrics/denoising.py",
        "alpha_bar[t], t / n_T)",
        "alpha_bar[t - 1], t / n_T)",
        (f"{BENCHMARK}/metrics/test_denoising.py",),
    ),
    Mutant(
        "interval-of-a-normal-not-of-student",
        "benchmark/statistics.py",
        "stdtrit(array.size - 1, ",
        "stdtrit(10**9, ",
        (f"{BENCHMARK}/test_statistics.py",),
    ),
    Mutant(
        "mean-over-seeds-counts-sampling-seeds",
        "benchmark/results.py",
        'per_seed = frame.groupby([*by, "seed"], sort=True).agg(',
        'per_seed = frame.groupby([*by, "seed", "sampling_seed"], sort=True).agg(',
        (f"{BENCHMARK}/test_results.py",),
    ),
    Mutant(
        "scores-of-the-raw-weights",
        "benchmark/evaluate.py",
        "process = process_of(content, primary_weights(config), device)",
        'process = process_of(content, "raw", device)',
        (f"{BENCHMARK}/test_evaluate.py",),
    ),
)
