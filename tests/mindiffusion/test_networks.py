from dataclasses import replace

import pytest
import torch
from torch import nn

from mindiffusion.build import NETWORKS, build_network, build_process
from mindiffusion.chain import Chain
from mindiffusion.config.model import (
    MODELS,
    DiTConfig,
    NaiveUnetConfig,
    SongUNetConfig,
    SparseUViTConfig,
    UViTConfig,
)
from mindiffusion.config.process import DDPMConfig, EDMConfig, VPSDEConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.config.text import TextConfig
from mindiffusion.curriculum.loss_weight import P2
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.data.spec import DataConfig
from mindiffusion.dit import DiT
from mindiffusion.errors import UserError
from mindiffusion.parameterization import EpsPrediction, Preconditioned
from mindiffusion.reg_unet import RegNaiveUnet
from mindiffusion.song_layers import UNetBlock
from mindiffusion.song_unet import SongUNet
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.sparse_uvit import SparseUViT
from mindiffusion.text.table import TextTable
from mindiffusion.unet import NaiveUnet
from mindiffusion.uvit import UViT


def config(network="naive_unet", *, seed=0, size=32, **model):
    return RunConfig(
        arm="X",
        curriculum=(StageConfig("s", 1.0, sparsity=0.8, penalty_lambda=1e-3),),
        output="unused",
        seed=seed,
        data=DataConfig(size=size),
        model=MODELS[network](**({"n_feat": 16} | model)),
        process=DDPMConfig(beta1=1e-3, beta2=0.1, n_T=20),
    )


def test_every_network_of_configs_has_one_builder_and_its_own_name():
    assert set(NETWORKS) == set(MODELS.values())
    assert all(kind().network == name for name, kind in MODELS.items())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("naive_unet", NaiveUnet), ("sparse_unet", SparseNaiveUnet), ("reg_unet", RegNaiveUnet)],
)
def test_build_network_makes_the_class_of_its_name(name, kind):
    net = build_network(config(name))
    assert type(net) is kind and isinstance(net, NaiveUnet) and net.n_feat == 16


@pytest.mark.parametrize("name", ["sparse_unet", "reg_unet"])
def test_build_network_gives_all_arms_of_a_seed_the_same_initial_weights(name):
    naive = build_network(config(seed=5)).state_dict()
    other = build_network(config(name, seed=5)).state_dict()
    buffers = {"channel_mask", "channel_birth_stage", "channel_saliency"}
    assert set(other) - set(naive) == (buffers if name == "sparse_unet" else set())
    assert list(naive) == [key for key in other if key not in buffers]
    assert all(torch.equal(value, other[key]) for key, value in naive.items())


@pytest.mark.parametrize("name", ["sparse_unet", "reg_unet"])
def test_build_network_weights_fit_every_class(name):
    missing, unexpected = build_network(config(name)).load_state_dict(
        build_network(config(seed=1)).state_dict(), strict=False
    )
    assert not unexpected and all(key.startswith("channel_") for key in missing)


def test_build_network_hands_the_config_to_the_sparse_network():
    net = build_network(config("sparse_unet", placement="silent", regrow_method="random", seed=4))
    assert (net.placement, net.regrow_method, net.seed) == ("silent", "random", 4)
    assert int(net.channel_mask.sum()) == 6  # 32 · (1 − .8) = 6.4


@pytest.mark.parametrize(
    ("bad", "words"), [({"n_feat": 12}, "model.n_feat is 12"), ({"size": 48}, "data.size is 48")]
)
def test_build_network_refuses_sizes_the_network_cannot_take(bad, words):
    with pytest.raises(UserError, match=words):
        build_network(config(**bad))


def test_build_process_has_the_configs_levels_and_reads_as_it_says():
    process = build_process(config("reg_unet"))
    assert process.chain == Chain((1e-3, 0.1), 20) and process.num_levels == 20
    assert isinstance(process.parameterization, EpsPrediction)
    assert process.level(torch.tensor([0.5])).weight.tolist() == [1.0]
    changed = DDPMConfig(parameterization="preconditioned", loss_weight=P2())
    other = build_process(replace(config(), process=changed))
    assert isinstance(other.parameterization, Preconditioned)
    level = other.level(torch.tensor([0.5]))
    torch.testing.assert_close(level.weight, level.sigma**2)


def uvit(network, *, size=32, seed=0, **model):
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    curriculum = (StageConfig("s", 1.0, sparsity=0.3),)
    data = DataConfig(size=size)
    return RunConfig(
        "X", curriculum, "unused", seed=seed, data=data, model=MODELS[network](**sizes, **model)
    )


def test_build_network_hands_the_config_to_both_transformers():
    plain = build_network(uvit("uvit", size=64, conv=False, skip="add"))
    assert type(plain) is UViT and plain.grid == (8, 8) and plain.skip == "add"
    assert (plain.patch_size, plain.embed_dim, len(plain.in_blocks)) == (8, 16, 1)
    assert plain.mid_block.attn.num_heads == 2 and isinstance(plain.final_layer, nn.Identity)
    sparse = build_network(uvit("sparse_uvit", placement="stream", sampling="masked", seed=4))
    assert type(sparse) is SparseUViT and (sparse.placement, sparse.sampling) == (
        "stream",
        "masked",
    )
    assert int(sparse.embedding_mask.mask.sum()) == 11  # ⌊16 · .7⌋
    assert sparse.embedding_mask.seed == 4


def test_both_transformers_of_a_seed_start_from_the_same_weights():
    plain, sparse = (build_network(uvit(n, seed=5)).state_dict() for n in ("uvit", "sparse_uvit"))
    assert set(sparse) - set(plain) == {"embedding_mask.mask"}
    assert all(torch.equal(value, sparse[name]) for name, value in plain.items())


def of(model, *, size=32):
    return replace(config(), data=DataConfig(size=size), model=model, process=VPSDEConfig())


MAPS = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1}
TOKENS = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SINUSOIDS = (
    SongUNetConfig(**MAPS),
    DiTConfig(hidden_size=16, depth=1, num_heads=2),
    UViTConfig(**TOKENS),
    SparseUViTConfig(**TOKENS),
)


def test_build_network_hands_the_config_to_a_song_unet():
    plain = build_network(of(SongUNetConfig(**MAPS)))
    assert type(plain) is SongUNet and plain.map_label is None and plain.map_augment is None
    assert (plain.img_resolution, plain.time_scale) == (32, 999.0)
    assert {block.dropout for block in plain.modules() if isinstance(block, UNetBlock)} == {0.0}
    fourier = build_network(of(SongUNetConfig(**MAPS, arch="ncsnpp", num_classes=4)))
    assert fourier.time_scale == 1.0 and fourier.map_label.in_features == 4
    assert fourier.map_noise.freqs.shape == (8,) and "16x16_aux_residual" in fourier.enc
    assert build_network(of(SongUNetConfig(**MAPS, time_scale=3.0))).time_scale == 3.0


def test_build_network_hands_the_config_to_a_dit():
    sizes = {"hidden_size": 16, "depth": 3, "num_heads": 2, "patch_size": 4}
    plain = build_network(of(DiTConfig(**sizes)))
    assert type(plain) is DiT and plain.y_embedder is None and plain.out_channels == 3
    assert (len(plain.blocks), plain.hidden_size, plain.time_scale) == (3, 16, 999.0)
    assert plain.pos_embed.shape == (1, 64, 16)
    assert build_network(of(DiTConfig(**sizes, learn_sigma=True))).out_channels == 6
    told = build_network(of(DiTConfig(**sizes, num_classes=5, time_scale=2.0)))
    assert told.y_embedder.embedding_table.weight.shape == (6, 16) and told.time_scale == 2.0
    # Which rows are trained is the batch's choice; the last is of what is not told.
    labelled = build_network(uvit("uvit", num_classes=5))
    assert labelled.label_emb.weight.shape == (6, 16)


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("encoder", ["hf:some", "words"])
def test_a_u_vit_with_text_has_the_public_ones_weights(encoder):
    """A frozen encoder with the empty string adds none; one that is trained stands apart."""
    text = TextConfig(encoder=encoder, width=8, max_tokens=5, null="empty")
    found = shapes(build_network(uvit("uvit", text=text)))
    public = UViT(32, 8, 3, 16, 2, 2, clip_dim=8, num_clip_token=5)
    own = [name for name in found if name.startswith("texts.")]
    assert bool(own) == text.is_trained
    assert [name for name in found if name not in own] == list(public.state_dict())
    assert {name: shape for name, shape in found.items() if name not in own} == shapes(public)
    assert found["context_embed.weight"] == (16, 8) and found["pos_embed"] == (1, 6 + 16, 16)


def test_a_dit_with_text_attends_by_the_layers_of_pixart():
    sizes = {"hidden_size": 16, "depth": 2, "num_heads": 2, "patch_size": 4}
    text = TextConfig(encoder="hf:some", width=8, max_tokens=5)
    network = build_network(of(DiTConfig(**sizes, text=text)))
    plain = shapes(build_network(of(DiTConfig(**sizes))))
    added = {k: shape for k, shape in shapes(network).items() if k not in plain}
    assert added == {
        "texts.null": (8,),
        "y_embedder.y_proj.fc1.weight": (16, 8),
        "y_embedder.y_proj.fc1.bias": (16,),
        "y_embedder.y_proj.fc2.weight": (16, 16),
        "y_embedder.y_proj.fc2.bias": (16,),
        "y_embedder.y_pool.weight": (16, 8),
        "y_embedder.y_pool.bias": (16,),
    } | {
        f"blocks.{k}.cross_attn.{layer}.{kind}": shape
        for k in range(2)
        for layer, out in (("q_linear", 16), ("kv_linear", 32), ("proj", 16))
        for kind, shape in (("weight", (out, 16)), ("bias", (out,)))
    }
    assert not any(block.cross_attn.proj.weight.any() for block in network.blocks)
    # The whole caption goes where the time goes; what is behind its end does not.
    states, is_there = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]) > 0
    found = network.y_embedder.pooled(states, is_there)
    expected = network.y_embedder.y_pool(torch.stack([states[0, :4].sum(0) / 2, states[1, 0]]))
    torch.testing.assert_close(found, expected)
    half = network.y_embedder.bfloat16().pooled(states.bfloat16(), is_there)
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.05)
    with pytest.raises(UserError, match="classes or text: give num_classes or texts"):
        DiT(8, 2, 3, 24, 2, 3, num_classes=2, texts=network.texts)


def test_the_process_says_by_which_factor_a_sinusoid_needs_what_it_tells(monkeypatch):
    assert DDPMConfig().time_scale == VPSDEConfig().time_scale == 999.0
    monkeypatch.setattr(VPSDEConfig, "time_scale", 1.5)
    for model in SINUSOIDS:
        assert build_network(of(model)).time_scale == 1.5
    # A U-ViT's usual factor is that of the noise times which its authors tell it.
    assert build_network(replace(of(SINUSOIDS[2]), process=DDPMConfig())).time_scale == 999.0


@pytest.mark.parametrize("model", SINUSOIDS, ids=lambda model: model.network)
def test_what_a_sinusoid_is_told_on_edm_does_not_wrap_round(model):
    # EDM's ln σ/4 as it is; times 999 it would pass through 400 periods.
    assert build_network(replace(of(model), process=EDMConfig())).time_scale == 1.0


def test_the_sines_of_a_naive_unet_do_not_turn_within_what_edm_tells():
    process = EDMConfig()
    network = build_network(replace(of(NaiveUnetConfig(n_feat=8)), process=process))
    told = build_process(replace(config(), process=process)).level(torch.tensor([2e-5, 1.0])).told
    assert told.min() < -1 and told.max() > 1
    angles = network.timeembed.lin1.weight.flatten() * told[:, None]
    assert angles.abs().max() < torch.pi / 2


def test_the_authors_sizes_are_called_as_they_call_them():
    assert DiTConfig(size="XL", patch_size=4).words == "DiT-XL/4"
    assert DiTConfig(hidden_size=768, num_heads=12, num_classes=10).words == "DiT-B/2, 10 classes"
    assert DiTConfig(learn_sigma=True).words == "DiT-S/2, learned variance"
    assert DiTConfig(depth=2).words == "DiT, patch 2, width 384, depth 2, heads 6"
    assert SongUNetConfig().words == (
        "DDPM++, width 128 × (2, 2, 2), 4 blocks a level, attention at 16"
    )


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        (SongUNetConfig(**MAPS), 33, "data.size is 33, but a SongUNet of 2 levels"),
        (SongUNetConfig(**MAPS), 24, "attn_resolutions has 16, but with images of 24 pixels and 2"),
        (DiTConfig(patch_size=5), 32, "patch_size is 5, which does not divide images of 32×32"),
    ],
)
def test_images_that_a_network_cannot_take_are_one_line(model, size, words):
    with pytest.raises(UserError, match=words) as error:
        build_network(of(model, size=size))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", ["uvit", "sparse_uvit"])
def test_images_that_patches_do_not_fill_are_refused(network):
    with pytest.raises(UserError, match=r"patch_size is 8, which does not divide images of 36×36"):
        build_network(uvit(network, size=36))


def test_a_compiled_network_reads_tables_of_several_sizes():
    text = TextConfig(width=8, max_tokens=6, vocabulary=16, layers=1)
    sizes = {"hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": 4}
    network = build_network(of(DiTConfig(**sizes, text=text))).eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.2)
    compiled = torch.compile(network, backend="eager")
    side = network.input_size
    x, told, numbers = torch.randn(4, 3, side, side), torch.rand(4), torch.tensor([0, 1, 2, -1])
    answers = []
    for count in (30, 12, 30):
        rows = torch.randint(4, 16, (count + 1, 6))
        network.read_texts(TextTable(rows, torch.randint(1, 7, (count + 1,))))
        with torch.inference_mode():
            answers.append(compiled(x, told, numbers))
            torch.testing.assert_close(answers[-1], network(x, told, numbers))
    assert not torch.allclose(answers[0], answers[1])
