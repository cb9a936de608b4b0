"""Whatever numbers and texts a config holds, it is a run that can be planned, or one clear line."""

import contextlib
import copy
import functools
import operator
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.cells.progress import work_of
from benchmark.study.study import EvaluationConfig, Study, check_counts
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config, load_preset
from mindiffusion.config.run import check
from mindiffusion.errors import UserError
from mindiffusion.training.preflight import check_run, run_bytes

SECONDS = 1.0
WILD = st.one_of(
    st.sampled_from(
        [
            0,
            -1,
            1,
            2,
            8,
            2**31,
            2**63,
            10**400,
            1e308,
            5e-324,
            -0.0,
            0.5,
            0.999999,
            1.0,
            float("nan"),
            float("inf"),
            "",
            "\0",
            "\ud800",
            "x" * 10_000,
            "9" * 400,
            "1e9 epochs",
            "99999999%",
            None,
            True,
            [],
            {},
            [[[]]],
            "auto",
            "stages",
            "ddpm",
        ],
    ),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.floats() | st.integers(), max_size=4),
)
NUMBER = st.one_of(
    st.floats(0, 1), st.floats(), st.sampled_from([5e-324, 1e-300, 1e300, 1e-3, 1e4])
)
DENSITY = st.one_of(
    st.fixed_dictionaries({"t_min": NUMBER, "t_max": NUMBER}),
    st.fixed_dictionaries({"kind": st.just("beta"), "a": NUMBER, "b": NUMBER}),
    st.fixed_dictionaries({"kind": st.just("log_sigma_normal"), "mean": NUMBER, "std": NUMBER}),
    st.builds(
        lambda edges, masses: {"kind": "histogram", "edges": sorted(edges), "masses": masses},
        st.lists(NUMBER, max_size=4),
        st.lists(NUMBER, max_size=4),
    ),
    st.builds(lambda masses: {"kind": "levels", "masses": masses}, st.lists(NUMBER, max_size=4)),
)
STAGE = st.fixed_dictionaries(
    {"name": st.just("one"), "weight": NUMBER, "density": DENSITY, "sparsity": NUMBER}
)
PROCESS = st.fixed_dictionaries(
    {"beta1": NUMBER, "beta2": NUMBER, "n_T": st.integers(2, 100_000) | st.integers()}
)
SLOW = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def paths(content, above=()):
    """Places of all values of a config, its stages among them."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*above, key))


BASE = load_preset("celeba_cs_32") | {"training": {"steps": 100, "milestones": ["50%", 100]}}
WHOLE = copy.deepcopy(BASE)
WHOLE["training"] |= {"global_batch": 8, "epochs": None, "threads": 1, "log_every": 5}
WHOLE["sampler"] = {"steps": 5, "chunk": 8, "grid": 4, "seed": 0}
WHOLE["process"] = {"beta1": 1e-4, "beta2": 0.02, "n_T": 1000}
WHOLE["model"] = WHOLE.get("model", {}) | {"n_feat": 8, "width": 1.0, "probe_batches": 1}


def planned(content, num_train):
    """Whether there is such a run, planned and looked at; nothing but a UserError may come."""
    started = time.process_time()
    is_run = False
    try:
        config = build_config(content, "mine")
        check_run(config, num_train)
        assert 0 < run_bytes(config, 3) < 10**16
        is_run = resolve_plan(config, num_train).total_steps >= 1
    except UserError as error:
        assert str(error)
    assert time.process_time() - started < SECONDS
    return is_run


@pytest.mark.parametrize("width", [8, 4096])
def test_config_that_is_right_is_planned(width):
    content = copy.deepcopy(WHOLE)
    content["model"]["n_feat"] = width
    assert planned(content, 1000)


@SLOW
@given(st.data())
def test_config_with_wild_values_is_planned_or_refused(data):
    content = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(sorted(paths(WHOLE), key=str)))
        with contextlib.suppress(KeyError, IndexError, TypeError):  # replaced by then
            place = functools.reduce(operator.getitem, above, content)
            place[last] = data.draw(WILD)
    planned(content, data.draw(st.integers(1, 10**6)))


@SLOW
@given(st.lists(STAGE, min_size=1, max_size=3), PROCESS)
def test_curriculum_of_wild_numbers_is_planned_or_refused(stages, process):
    planned(WHOLE | {"curriculum": stages, "process": process}, 1000)


SCORING = st.fixed_dictionaries(
    {},
    optional={
        name: WILD
        for name in ("num_generated", "num_curve", "num_sampling_seeds", "num_reference",
                     "feature_nets", "metrics", "profile_images", "profile_levels", "strip",
                     "stitch_levels", "finisher")
    },
)  # fmt: skip


@SLOW
@given(SCORING)
def test_scoring_of_wild_numbers_is_counted_or_refused(content):
    run = build_config(WHOLE, "mine")
    try:
        scoring = check(EvaluationConfig, content, "mine")
        work_of(Study("mine", run.run_dir, (run,), scoring), run).total(resolve_plan(run, 1000))
        check_counts(scoring, 1000, 100, "mine")
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize("content", [{"a": [[]] * 5}, {}, {"curriculum": [{}]}])
def test_config_that_is_none_is_refused(content):
    with pytest.raises(UserError):
        build_config(content, "mine")
