"""All faults to plant, each a change of one place that at least one test must notice.

They are mistakes that were made, here or in neighbouring projects, or that leave a program which
runs, trains and prints plausible numbers.
"""

from benchmark_mutants import BENCHMARK_MUTANTS
from caption_mutants import CAPTION_MUTANTS
from library_mutants import CURRICULUM_MUTANTS, PROCESS_MUTANTS
from text_mutants import TEXT_MUTANTS
from theory_mutants import THEORY_MUTANTS
from training_mutants import LOOP_MUTANTS, STEP_MUTANTS, TRAINING_MUTANTS

MUTANTS = (
    *PROCESS_MUTANTS,
    *CURRICULUM_MUTANTS,
    *TRAINING_MUTANTS,
    *LOOP_MUTANTS,
    *STEP_MUTANTS,
    *BENCHMARK_MUTANTS,
    *TEXT_MUTANTS,
    *CAPTION_MUTANTS,
    *THEORY_MUTANTS,
)
