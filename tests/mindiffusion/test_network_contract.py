"""What training, sampling and scoring take for granted of every network that configs may name."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from mindiffusion.augment import NUM_LABELS
from mindiffusion.build import (
    build_network,
    build_process,
    expected_tensors,
    network_without_memory,
)
from mindiffusion.config.model import (
    MODELS,
    DiTConfig,
    NaiveUnetConfig,
    RegUnetConfig,
    SongUNetConfig,
    SparseUnetConfig,
    SparseUViTConfig,
    UViTConfig,
)
from mindiffusion.config.process import DDPMConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.config.text import TextConfig
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.network import Network, ProbeBatch, StageCapacity
from mindiffusion.noise import Stream, normals
from mindiffusion.process import add_noise, eps_error
from mindiffusion.step_cost import step_cost
from mindiffusion.text.table import TextTable
from mindiffusion.text.words import Vocabulary, WordEncoder
from mindiffusion.training.optimizer import frozen_kept

TOKENS = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
MAPS = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1}
DEEP = {"patch_size": 4, "hidden_size": 32, "depth": 2, "num_heads": 2}
CLASSES = 3
WORDS = TextConfig(width=16, max_tokens=5, vocabulary=12, layers=1)
STATES = TextConfig(encoder="hf:some/encoder", width=6, max_tokens=5)
SMALLEST = (
    NaiveUnetConfig(n_feat=8),
    SparseUnetConfig(n_feat=8),
    SparseUnetConfig(n_feat=8, placement="silent"),
    SparseUnetConfig(n_feat=8, placement="down1"),
    RegUnetConfig(n_feat=8),
    UViTConfig(**TOKENS),
    SparseUViTConfig(**TOKENS),
    SparseUViTConfig(**TOKENS, placement="patch+decoder"),
    SparseUViTConfig(**TOKENS, placement="stream"),
    SparseUViTConfig(**TOKENS, placement="stream", sampling="masked"),
    UViTConfig(**TOKENS, num_classes=CLASSES),
    SparseUViTConfig(**TOKENS, placement="stream", num_classes=CLASSES),
    SongUNetConfig(**MAPS),
    SongUNetConfig(**MAPS, arch="ncsnpp"),
    SongUNetConfig(**MAPS, num_classes=CLASSES),
    DiTConfig(**DEEP),
    DiTConfig(**DEEP, num_classes=CLASSES),
    DiTConfig(**DEEP, learn_sigma=True),
    UViTConfig(**TOKENS, text=WORDS),
    UViTConfig(**TOKENS, text=replace(WORDS, null="empty")),
    UViTConfig(**TOKENS, text=STATES),
    SparseUViTConfig(**TOKENS, placement="stream", text=WORDS),
    DiTConfig(**DEEP, text=WORDS),
    DiTConfig(**DEEP, text=STATES),
    DiTConfig(**DEEP, text=replace(STATES, null="empty")),
)
SIDE, IMAGES = 32, 4
LADDER = ((0.75, 1e-3), (0.5, 1e-4), (0.0, 0.0))
"""Sparsity and λ of the stages."""


def run_of(model, seed=0):
    stages = tuple(
        StageConfig(f"stage{k}", 1.0, sparsity=sparsity, penalty_lambda=penalty)
        for k, (sparsity, penalty) in enumerate(LADDER)
    )
    process = DDPMConfig(beta1=1e-3, beta2=0.1, n_T=20)
    return RunConfig("X", stages, "unused", seed=seed, model=model, process=process)


@pytest.fixture(params=SMALLEST, ids=lambda model: f"{model.network} {SMALLEST.index(model)}")
def run(request):
    return run_of(request.param)


def built(run):
    """The network with its first weights; one that reads text has been given captions."""
    network = build_network(run)
    if run.model.text is not None:
        network.read_texts(captions(run.model.text))
    return network


def captions(text):
    """As many as there are classes of others, as an encoder would read them."""
    lengths, vocabulary = torch.tensor([1, 3, 2, 5]), Vocabulary(("bald", "beard", "with"))
    if text.is_trained:
        return WordEncoder(vocabulary, text).table(["bald", "with beard", "with with bald bald ?"])
    size = (CLASSES + 1, text.max_tokens, text.token_width)
    return TextTable(normals(2, Stream.NOISE, torch.arange(size[0]), 0, size[1:]).half(), lengths)


@pytest.fixture
def network(run):
    return built(run)


PROCESS = build_process(run_of(SMALLEST[0]))


def drawn(step=0, count=IMAGES):
    """Noisy images, their levels and their noise."""
    index, shape = torch.arange(count), (3, SIDE, SIDE)
    images, noise = (normals(1, s, index, step, shape) for s in (Stream.FLIP, Stream.NOISE))
    level = PROCESS.level(torch.linspace(0.2, 1.0, count))
    return add_noise(images.clamp(-1, 1), level, noise), level, noise


def probe(num_batches, batch_size):
    for step in range(num_batches):
        x_t, level, noise = drawn(step, min(batch_size, 2))
        yield ProbeBatch(x_t, level, noise, PROCESS)


def enter(network, index):
    return network.enter_stage(StageCapacity(index, *LADDER[index], seed=0), probe)


def predicted(network):
    x_t, level, _ = drawn()
    with torch.no_grad():
        return network(x_t, level.told.float())


def awake(network):
    """The network itself, with weights as if it were trained: some begin as zeros, to be idle."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def is_same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_network_of_configs_is_under_contract():
    assert {type(model) for model in SMALLEST} == set(MODELS.values())


def test_config_says_where_its_network_limits_capacity(run, network):
    """Tables show the words, and order the rows of realised sparsity by the places."""
    mask, norms = network.mask(), network.group_norms()
    places = [] if mask is None else [mask.place]
    places += [] if norms is None else list(norms)
    limit = run.model.capacity_limit
    assert (() if limit is None else limit.places) == tuple(places)
    assert run.model.words


def test_network_has_an_input_for_augmentation_if_its_config_says_so(run):
    training = replace(run.training, augment=0.1)
    if not run.model.takes_augment_labels:
        said = f"network {run.model.network} has no input that tells"
        with pytest.raises(ValidationError, match=said):
            replace(run, training=training)
        return
    network = awake(build_network(replace(run, training=training))).eval()
    x_t, level, _ = drawn()
    with torch.no_grad():
        none, zeros, ones = (
            network(x_t, level.told.float(), augment_labels=labels)
            for labels in (None, torch.zeros(IMAGES, NUM_LABELS), torch.ones(IMAGES, NUM_LABELS))
        )
    torch.testing.assert_close(none, zeros)
    assert not torch.allclose(none, ones)


def test_every_config_has_words_of_its_own():
    assert len({model.words for model in SMALLEST}) == len(SMALLEST)
    random = SparseUnetConfig(regrow_method="random").capacity_limit
    assert random.control == "random regrowth at each stage"
    assert SMALLEST[2].capacity_limit.location.endswith("innermost skip, time embedding")


def test_network_predicts_images_of_the_same_shape_each_alone(run, network):
    """Where it learns the variance, with as many channels more."""
    assert isinstance(awake(network), Network)
    x_t, level, _ = drawn()
    told = level.told.double()
    with torch.no_grad():
        whole = network.double()(x_t.double(), told, condition=None)
        part = network(x_t[2:3].double(), told[2:3])
    assert whole.shape == (IMAGES, 6 if run.model.learn_sigma else 3, SIDE, SIDE)
    assert bool(whole.isfinite().all()) and all(bool(part.any()) for part in whole.unbind(1))
    torch.testing.assert_close(whole[2:3], part)


def test_network_draws_nothing_when_it_is_asked(network):
    """In train mode too: its answer is of what it is given, so a step can be repeated."""
    awake(network).train()
    before = torch.get_rng_state()
    first = predicted(network)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(predicted(network), first)


def test_network_is_told_classes_or_captions_if_its_config_has_them(run, network):
    x_t, level, _ = drawn()
    told, count = level.told.float(), CLASSES if run.model.text else run.model.num_classes

    def answer(condition):
        with torch.no_grad():
            return awake(built(run))(x_t, told, condition)

    if count is None:
        with pytest.raises(UserError, match="takes None as its condition"):
            answer(torch.zeros(IMAGES, dtype=torch.int64))
        return
    of_none = answer(torch.full((IMAGES,), -1))
    assert torch.equal(answer(None), of_none)
    answers = [of_none, *(answer(torch.full((IMAGES,), k)) for k in range(count))]
    for image in range(IMAGES):
        for a, b in itertools.combinations(answers, 2):
            assert not torch.allclose(a[image], b[image])
    mixed = answer(torch.tensor([0, -1, 2, 1]))
    for image, k in enumerate((1, 0, 3, 2)):
        torch.testing.assert_close(mixed[image], answers[k][image])


def test_network_without_text_takes_no_captions(run):
    if run.model.text is None:
        with pytest.raises(UserError, match="reads no text; give captions to a network with"):
            build_network(run).read_texts(captions(WORDS))


def test_network_with_text_reads_each_captions_tokens_and_no_more(run, network):
    """What stands behind a caption's end does not matter, and nor do the other captions."""
    text = run.model.text
    if text is None:
        return
    x_t, level, _ = drawn()
    table, condition = captions(text), torch.tensor([1, 0, -1, 2])
    awake(network)

    def answer(table):
        network.read_texts(table)
        with torch.no_grad():
            return network(x_t, level.told.float(), condition)

    before = answer(table)
    other = table.rows.clone()
    other[3] = 7 if text.is_trained else 1.5
    after = answer(TextTable(other, table.lengths))
    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.allclose(after[3], before[3])
    if text.is_trained or run.model.network == "dit":
        padded = table.rows.clone()
        padded[2, int(table.lengths[2]) :] = 7
        torch.testing.assert_close(answer(TextTable(padded, table.lengths)), before)
    with pytest.raises(UserError, match=r"captions came as .*model.text.max_tokens") as error:
        network.read_texts(TextTable(table.rows[:, :3], table.lengths))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "model", [UViTConfig(**TOKENS, text=WORDS), DiTConfig(**DEEP, text=STATES)]
)
def test_network_with_text_is_one_graph_to_the_compiler_whatever_it_reads(model):
    network, (x_t, level, _) = awake(built(run_of(model))), drawn()
    told, condition, table = level.told.float(), torch.tensor([1, 0, -1, 2]), captions(model.text)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x_t, told, condition), network(x_t, told, condition))
        network.read_texts(TextTable(table.rows.flip(0), table.lengths.flip(0)))
        torch.testing.assert_close(compiled(x_t, told, condition), network(x_t, told, condition))


def test_network_that_reads_the_empty_string_needs_it_first():
    run = run_of(DiTConfig(**DEEP, text=replace(STATES, null="empty")))
    x_t, level, _ = drawn()
    with pytest.raises(UserError, match="has not been given it yet"):
        build_network(run)(x_t, level.told.float())


def test_network_with_classes_or_captions_refuses_others_in_one_line(run, network):
    if run.model.num_classes is None and run.model.text is None:
        return
    x_t, level, _ = drawn()
    for wrong in ([0, 0, 0, -2], [0, 0, 0, CLASSES + 1], [0, 0, 0], [0.0] * IMAGES):
        with pytest.raises(UserError, match="as its condition, but got") as error:
            network(x_t, level.told.float(), torch.tensor(wrong))
        assert "\n" not in str(error.value)


def test_network_has_the_initial_weights_of_its_seed(run, network):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    again = build_network(run)
    assert torch.equal(torch.rand(3), expected)  # the caller's generator is left alone
    assert is_same(state(again), state(network))
    other = dict(build_network(run_of(run.model, seed=1)).named_parameters())
    # Norms start the same, and so may biases; what is to be idle starts at 0.
    drawn = [(name, p) for name, p in network.named_parameters() if p.dim() > 1 and p.any()]
    drawn = [(name, p) for name, p in drawn if p.requires_grad]
    assert drawn
    assert not any(torch.equal(parameter, other[name]) for name, parameter in drawn)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_network_enters_a_stage_once_however_often_it_is_told(network):
    keys = network.capacity_report().keys()
    for index in range(len(LADDER)):
        enter(network, index)
        first, report = state(network), network.capacity_report()
        enter(network, index)
        assert is_same(state(network), first) and network.capacity_report() == report
        assert report.keys() == keys
        assert all(isinstance(value, float) and math.isfinite(value) for value in report.values())


def test_network_goes_on_from_its_state(run, network):
    enter(awake(network), 0)
    enter(network, 1)
    other = built(run_of(run.model, seed=1))
    assert not torch.equal(predicted(other), predicted(network))
    other.load_state_dict(state(network))
    assert torch.equal(predicted(other), predicted(network))


def test_network_without_memory_has_the_same_tensors_and_costs_the_same(run, network):
    bare = network_without_memory(run)
    assert {tensor.device.type for tensor in bare.state_dict().values()} == {"meta"}
    expected = [(n, tensor.shape, tensor.dtype) for n, tensor in network.state_dict().items()]
    assert [(n, t.shape, t.dtype) for n, t in expected_tensors(run).items()] == expected
    assert step_cost(bare, 3, SIDE) == step_cost(network, 3, SIDE)


def test_network_learns_within_a_few_steps(network):
    enter(network, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x_t, level, noise = drawn()
    losses = []
    for _ in range(20):
        penalty = network.penalty()
        error = eps_error(PROCESS.predict(network, x_t, level), noise).mean()
        losses.append(float(error.detach()))
        (error if penalty is None else error + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]


def test_penalty_is_a_finite_number_with_a_gradient_or_none(network):
    for index in range(len(LADDER)):
        enter(network, index)
        penalty = network.penalty()
        if penalty is not None:
            assert penalty.shape == () and float(penalty.detach()) > 0 and penalty.requires_grad
        assert LADDER[index][1] or penalty is None  # λ = 0 takes no time


def test_mask_that_is_lifted_comes_back(network):
    enter(network, 0)
    mask, under = network.mask(), predicted(network)
    if mask is None:
        return
    assert mask.is_on.dtype == torch.bool and mask.share_off == pytest.approx(0.75)
    before = state(network)
    with mask.lifted():
        assert network.mask().share_off == 0
        assert not torch.equal(predicted(network), under)
    with pytest.raises(KeyboardInterrupt), mask.lifted():
        raise KeyboardInterrupt
    assert is_same(state(network), before) and torch.equal(predicted(network), under)
    for name in mask.weights.values():
        assert len(before[name]) == len(mask.is_on)


def test_mask_with_all_units_on_changes_nothing(network):
    for index in range(len(LADDER)):
        enter(network, index)
    mask, under = network.mask(), predicted(network)
    if mask is None:
        return
    assert mask.share_off == 0
    with mask.lifted():
        assert torch.equal(predicted(network), under)


def test_mask_that_is_lifted_outside_training_can_be_imposed_there(network):
    enter(network, 0)
    if network.mask() is None:
        return
    in_training = predicted(network)
    with network.mask().lifted():
        lifted = predicted(network)
    network.eval()
    mask, before = network.mask(), state(network)
    assert mask.share_off == pytest.approx(0.75)
    if mask.imposed is None:
        assert torch.equal(predicted(network), in_training)
        return
    torch.testing.assert_close(predicted(network), lifted)
    by_itself = predicted(network)
    with mask.imposed():
        assert torch.equal(predicted(network), in_training)
    with pytest.raises(KeyboardInterrupt), mask.imposed():
        raise KeyboardInterrupt
    assert torch.equal(predicted(network), by_itself) and is_same(state(network), before)


def test_frozen_entries_have_no_gradient_and_keep_their_bits(network):
    """At every stage, whatever the optimizer's decay and its memory; other entries move."""
    optimizer = torch.optim.AdamW(awake(network).parameters(), lr=1e-2, weight_decay=0.1)
    for index in (2, 0, 1):  # what was trained before has a memory
        enter(network, index)
        before, parameters = state(network), dict(network.named_parameters())
        x_t, level, noise = drawn()
        eps_error(PROCESS.predict(network, x_t, level), noise).mean().backward()
        frozen = {name: rows.expand_as(before[name]) for name, rows in network.frozen().items()}
        assert all(rows.dtype == torch.bool for rows in frozen.values())
        assert not any(bool(parameters[name].grad[rows].any()) for name, rows in frozen.items())
        with frozen_kept(network):
            optimizer.step()
        optimizer.zero_grad()
        for name, parameter in parameters.items():
            rows = frozen.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            assert torch.equal(parameter[rows], before[name][rows]), name
            if not parameter.requires_grad:
                assert torch.equal(parameter, before[name]), name
                continue
            moved = parameter[~rows] != before[name][~rows]
            assert bool(moved.any()) or bool(rows.all()), name


def test_group_norms_are_of_the_weights(network):
    norms = network.group_norms()
    if norms is None:
        return
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    for block, after in network.group_norms().items():
        assert after.dim() == 1 and bool((after > 0).all())
        torch.testing.assert_close(after, 2 * norms[block])


def test_layers_that_a_config_lists_are_modules_with_maps_or_tokens(run, network):
    names, seen = run.model.layers(SIDE), {}
    modules = dict(network.named_modules())
    assert len(set(names)) == len(names) > 0
    for name in names:
        modules[name].register_forward_hook(lambda *call, name=name: seen.update({name: call[2]}))
    predicted(awake(network))
    assert list(seen) == list(names)  # in the order of the network
    assert all(out.dim() in (3, 4) and len(out) == IMAGES for out in seen.values())


def test_units_under_a_mask_have_births_and_can_be_switched_off_again(network):
    sparsities = [sparsity for sparsity, _ in LADDER]
    if network.mask() is None:
        assert network.births(sparsities) is None
        return
    before = torch.full_like(network.mask().is_on, -1, dtype=torch.int64)
    for index in range(len(LADDER)):
        enter(network, index)
        stage = network.births(sparsities[: index + 1]).stage
        assert torch.equal(stage >= 0, network.mask().is_on) and int(stage.max()) == index
        # What is on stays so, with the stage in which it came.
        assert torch.equal(stage[before >= 0], before[before >= 0])
        before = stage
    births = awake(network.eval()).births(sparsities)
    whole, kept = predicted(network), state(network)
    with births.held(stage >= 0):
        torch.testing.assert_close(predicted(network), whole)
    answers = [whole]
    one = torch.arange(len(stage)) == 0
    for on in (stage != 0, stage != 2, one):
        with births.held(on):
            answers.append(predicted(network))
    assert is_same(state(network), kept) and torch.equal(predicted(network), whole)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(answers, 2))
    # It is the network whose mask has these units alone.
    (mask,) = [tensor for name, tensor in network.named_buffers() if name.endswith("mask")]
    mask.copy_(one)
    with network.mask().imposed() if network.mask().imposed else births.held(one):
        assert torch.equal(predicted(network), answers[-1])
