"""Faults in what reads captions: encoders, their tables, and the networks' layers for them."""

from mutant import Mutant

UNITS = "tests/mindiffusion"
TRAINED = "tests/training/test_text_runs.py"

TEXT_MUTANTS = (
    Mutant(
        "caption-that-is-not-told-is-the-first",
        "mindiffusion/text/table.py",
        "index = numbers + 1",
        "index = numbers.clamp_min(0) + 1",
        (f"{UNITS}/test_network_contract.py",),
    ),
    Mutant(
        "words-without-a-row-are-padding",
        "mindiffusion/text/words.py",
        "self._rows.get(word, UNKNOWN)",
        "self._rows.get(word, PADDING)",
        (f"{UNITS}/test_words.py",),
    ),
    Mutant(
        "prompts-are-read-as-they-are-typed",
        "benchmark/evaluation/images/wish.py",
        "prompt = clean(self.prompt)",
        "prompt = self.prompt",
        (TRAINED,),
    ),
    Mutant(
        "wishes-that-failed-are-drawn-again",
        "benchmark/evaluation/images/sample.py",
        "        else:\n            wish = one\n",
        "        wish = one\n",
        (TRAINED,),
    ),
    Mutant(
        "held-out-captions-add-words",
        "mindiffusion/kept_text.py",
        "Vocabulary.of(captions.learned,",
        "Vocabulary.of(captions.texts,",
        (TRAINED,),
    ),
    Mutant(
        "words-attend-to-padding",
        "mindiffusion/text_layers.py",
        "block(states, keys=is_there)",
        "block(states)",
        (f"{UNITS}/test_network_contract.py",),
    ),
    Mutant(
        "images-attend-to-padding",
        "mindiffusion/dit.py",
        "self.cross_attn(x, caption, keys)",
        "self.cross_attn(x, caption)",
        (f"{UNITS}/test_network_contract.py",),
    ),
    Mutant(
        "states-kept-for-other-captions",
        "mindiffusion/text/encoder.py",
        '"texts": list(texts)}',
        '"texts": len(texts)}',
        (f"{UNITS}/test_text_encoders.py",),
    ),
    Mutant(
        "another-encoder-than-the-trained-one",
        "mindiffusion/kept_text.py",
        "encoder.sha256 != kept.sha256",
        "False",
        (TRAINED,),
    ),
)
