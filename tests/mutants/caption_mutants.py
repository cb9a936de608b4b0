"""Faults in captions and in the folders of public data sets."""

from mutant import Mutant

DATA = "tests/data"

CAPTION_MUTANTS = (
    Mutant(
        "always-the-first-caption-of-an-image",
        "mindiffusion/text_conditions.py",
        "(u.double() * count).long()",
        "(u.double() * count).long() * 0",
        ("tests/mindiffusion/test_text_conditions.py",),
    ),
    Mutant(
        "the-same-captions-at-every-step",
        "mindiffusion/training/batches.py",
        "self._captions(self._sent(index), seed, position, at, variant)",
        "self._captions(self._sent(index), seed, position, 0 * at, variant)",
        ("tests/training/test_caption_batches.py",),
    ),
    Mutant(
        "a-cap-is-no-hat",
        "mindiffusion/data/attribute_words.py",
        '_any(_not("hair", "beanie cap"))',
        '_any(_not("hair", "beanie"))',
        (f"{DATA}/test_caption_grammar.py",),
    ),
    Mutant(
        "held-out-phrasings-are-trained",
        "mindiffusion/data/caption_grammar.py",
        "if not one.is_held_out)",
        "if one.both)",
        (f"{DATA}/test_caption_grammar.py",),
    ),
    Mutant(
        "changed-captions-keep-the-id-of-the-data",
        "mindiffusion/data/prepare.py",
        '"sha256": plan.captioner.identity}',
        '"sha256": ""}',
        (f"{DATA}/test_captions.py",),
    ),
    Mutant(
        "captions-change-the-key-of-older-configs",
        "mindiffusion/data/record.py",
        'for younger in ("labels", "captions"):',
        'for younger in ("labels",):',
        (f"{DATA}/test_labels.py",),
    ),
    Mutant(
        "captions-without-pictures-are-passed-over",
        "mindiffusion/data/file_captions.py",
        "missing = sorted(set(said) - there)",
        "missing = sorted(set(said) & set())",
        (f"{DATA}/test_captions.py",),
    ),
    Mutant(
        "a-file-of-somebody-else-forbids-captions",
        "mindiffusion/data/file_captions.py",
        "faults.append(error)",
        "raise error",
        (f"{DATA}/test_captions.py",),
    ),
    Mutant(
        "control-characters-end-a-caption",
        "mindiffusion/data/file_captions.py",
        "_LINE_END.split(_decoded(content, listing, path))",
        "_decoded(content, listing, path).splitlines()",
        (f"{DATA}/test_captions.py",),
    ),
    Mutant(
        "validation-of-ffhq-begins-one-late",
        "mindiffusion/data/public_layouts.py",
        "int(stem) >= FIRST_VALIDATION",
        "int(stem) > FIRST_VALIDATION",
        (f"{DATA}/test_public_layouts.py",),
    ),
)
