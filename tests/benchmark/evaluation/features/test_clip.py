"""CLIP's score, against a tiny CLIP of the package transformers where that is installed."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from benchmark.evaluation.features import clip
from mindiffusion.errors import UserError

SIDE, WIDTH, TOKENS = 16, 12, 9


def test_scores_are_cosines_in_hundredths_and_never_below_0():
    images = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]))
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1]]))
    assert_allclose(clip.clip_scores(images, texts), [100, 100 / 2**0.5, 0], rtol=1e-6)


def test_a_folder_has_to_be_named_and_whole(monkeypatch, tmp_path):
    monkeypatch.delenv("CLIP_PATH", raising=False)
    with pytest.raises(UserError, match=r"name its folder by CLIP_PATH in \.env"):
        clip.clip_folder()
    monkeypatch.setenv("CLIP_PATH", str(tmp_path))
    assert clip.clip_folder() == tmp_path
    with pytest.raises(UserError, match=r"tokenizer\.json does not exist") as caught:
        clip.clip_sha256(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """A tiny CLIP with random weights, as transformers keeps it."""
    reason = "the extra text is not installed"
    transformers = pytest.importorskip("transformers", reason=reason)
    tokenizers = pytest.importorskip("tokenizers", reason=reason)
    words = ("<|startoftext|>", "a", "red", "hat", "bald", "head", "<|endoftext|>")
    vocabulary = {word: number for number, word in enumerate(words)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="a")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(words[0], 0), (words[-1], len(words) - 1)],
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2}
    text = {"vocab_size": len(words), "max_position_embeddings": TOKENS, "num_attention_heads": 2,
            "eos_token_id": len(words) - 1, "bos_token_id": 0, **sizes}  # fmt: skip
    vision = {"image_size": SIDE, "patch_size": 8, "num_attention_heads": 2, **sizes}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).eval().save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_vectors_are_those_of_transformers(folder):
    transformers = pytest.importorskip("transformers", reason="the extra text is not installed")
    found = clip.open_clip(folder, torch.device("cpu"))
    network = transformers.CLIPModel.from_pretrained(folder).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(one)[:, None, None] for one in (clip._MEAN, clip._STD))
    # "a red hat" and "bald head a hat" with their begin and end; the rest is padding.
    ids = torch.tensor([[0, 1, 2, 3, 6, 6, 6, 6, 6], [0, 4, 5, 1, 3, 6, 6, 6, 6]])
    with torch.no_grad():
        theirs = network(input_ids=ids, pixel_values=(scaled - mean) / std)
    texts = found.of_texts(["a red hat", "bald head a hat"])
    assert_allclose(texts.numpy(), theirs.text_embeds.numpy(), atol=1e-6)
    assert_allclose(found.of_images(images).numpy(), theirs.image_embeds.numpy(), atol=1e-5)
    larger = images.repeat(2, axis=1).repeat(2, axis=2)
    assert found.of_images(larger).shape == (3, 8)
    assert found.sha256 == clip.clip_sha256(folder)


def test_what_is_no_clip_is_refused(folder):
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"hidden_size": 12', '"hidden_size": 13'))
    with pytest.raises(UserError, match="cannot be read by transformers") as caught:
        clip.open_clip(folder, torch.device("meta"))
    assert "\n" not in str(caught.value)
