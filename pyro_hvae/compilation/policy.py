"""Decides whether compiling pays off, for training and evaluation, by numbers asked for and not by the clock."""

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from pyro_hvae.compilation.compiled_programs import is_compiled
from pyro_hvae.compilation.inductor import compile_obstacle

# Steps from which compiling pays. The first graph costs 10 to 20 seconds of a slow core the first time, every other graph some
# three more; the smallest networks save 1 ms a step. A slow or busy machine slows both about alike (see docs/performance.md).
STEPS_FOR_ONE_GRAPH, STEPS_PER_GRAPH = 5_000, 2_000
# The same where the compiled code is in the cache: 2 to 5 seconds, and about one for every further graph.
CACHED_STEPS_FOR_ONE_GRAPH, CACHED_STEPS_PER_GRAPH = 1_500, 500
# Rows through any model from which compiling pays: a graph costs 3 to 10 s of a slow core and saves 0.6 to 1.3 us a row.
EVALUATION_ROWS = 10_000_000
ROWS_PER_CHAIN_STEP = 500  # rows that cost as much as the fixed cost of one step of a chain


def decide_training(
    asked: bool | None, engine: str, lengths: Sequence[int], graphs: int, device: torch.device, program: str = ""
) -> tuple[bool, str]:
    """Whether to compile a run's training step, and a line that says so; the line is empty where nothing was left open.

    Arguments:
        asked: the user's choice; None leaves it open. engine: svi is never compiled.
        lengths: steps of the stages. graphs: how many graphs the stages need in total.
        program: its description (see `is_compiled`): fewer steps pay where its compiled code is in the cache.
    """
    if asked is not None or engine == "svi":
        return bool(asked), ""
    if why := compile_obstacle(device):
        return False, f"Training eagerly: {why}"
    first, each, where = STEPS_FOR_ONE_GRAPH, STEPS_PER_GRAPH, ""
    if program and is_compiled(program):
        first, each, where = CACHED_STEPS_FOR_ONE_GRAPH, CACHED_STEPS_PER_GRAPH, " with compiled code in the cache"
    steps, enough = sum(lengths), first + each * (graphs - 1)
    if steps < enough or min(lengths) < each:
        return False, f"Training eagerly: {steps:,} steps are too few for compiling to pay{where} (--compile does it)."
    return True, f"Compiling the training step, which pays from {enough:,} steps on{where} (--no-compile)."


def decide_evaluation(asked: bool | None, what: str, counts: str, rows: int, device: torch.device) -> bool:
    """Whether to compile an evaluation; a decision to compile that was left open is told on standard error.

    Arguments:
        asked: the user's choice; None leaves it open.
        what: what would be compiled; counts: the numbers behind `rows`, both for people. rows: rows through the model.

    >>> decide_evaluation(None, "the model", "500 data x 50 samples", 500 * 50, torch.device("cpu"))
    False
    """
    if asked is not None:
        return asked
    if rows < EVALUATION_ROWS or compile_obstacle(device):
        return False
    print_line(f"Compiling {what}, for which {counts} pay (--no-compile).")
    return True


def print_line(text: str) -> None:
    """Prints a line on standard error, above any progress bar there."""
    tqdm.write(text, file=sys.stderr)
