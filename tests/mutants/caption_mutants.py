"""Faults in captions and in the folders of public data sets."""

from mutant import Mutant

DATA, EVALUATION = "tests/data", "tests/benchmark/evaluation"

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
    Mutant(
        "chance-is-of-the-own-prompt",
        "benchmark/evaluation/milestone/faithful_rows.py",
        "return [*of_pictures[by:], *of_pictures[:by]]",
        "return [*of_pictures]",
        (f"{EVALUATION}/test_faithfulness_scored.py",),
    ),
    Mutant(
        "a-flip-is-drawn-by-the-prompt-as-it-was",
        "benchmark/evaluation/milestone/faithful_rows.py",
        "(prompt if change is None else prompt.restated(*change.statement)).text",
        "prompt.text",
        (f"{EVALUATION}/test_faithfulness_scored.py",),
    ),
    Mutant(
        "a-change-may-make-other-statements-false",
        "benchmark/evaluation/attributes/caption_changes.py",
        "if len(untrue) == 1:",
        "if untrue:",
        (f"{EVALUATION}/attributes/test_caption_changes.py",),
    ),
    Mutant(
        "statements-about-one-picture-count-as-independent",
        "benchmark/evaluation/attributes/faithfulness.py",
        "variance = float(np.square(residual).sum()) * n / (n - 1)",
        "variance = len(judged.held) * value * (1 - value)",
        (f"{EVALUATION}/attributes/test_faithfulness.py",),
    ),
    Mutant(
        "features-from-small-to-large-change",
        "benchmark/analysis/caption_shares.py",
        "(-sizes[name], name)",
        "(sizes[name], name)",
        ("tests/plots/test_caption_figures.py",),
    ),
    Mutant(
        "a-picture-goes-with-the-next-prompt-by-chance-as-with-its-own",
        "benchmark/evaluation/milestone/text_rows.py",
        "own.roll(-1, 0)",
        "own",
        (f"{EVALUATION}/test_faithfulness_scored.py",),
    ),
    Mutant(
        "a-changed-word-may-have-been-true-before",
        "benchmark/evaluation/attributes/caption_changes.py",
        "if not holds(word, values)]",
        "]",
        (f"{EVALUATION}/attributes/test_caption_changes.py",),
    ),
)
