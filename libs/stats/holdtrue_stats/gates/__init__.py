"""May this candidate take over? Three outcomes, because "not shown to be worse" and "worse" are different things.

Levels are 5 % one-sided: a check passes where the 5 % bound of candidate - champion is above -margin, fails where the
95 % bound is below it, and is `inconclusive` otherwise, saying how many more labels would probably decide. Too little
data, or data on which a formula would lie, is `inconclusive` too, never an exception.
"""

from holdtrue_stats.gates.check import DRAWS, LEAST_ROWS, Check, Outcome, labels_needed, worst
from holdtrue_stats.gates.counts import (
    McNemar,
    better_than_dummy,
    f1_difference,
    f1_noninferior,
    floor,
    mcnemar,
    precision_difference,
    precision_noninferior,
    recall_difference,
    recall_noninferior,
)
from holdtrue_stats.gates.groups import Slices, slices
from holdtrue_stats.gates.paired import auc_noninferior, delong, log_losses, loss_noninferior
from holdtrue_stats.gates.resampled import calibration_noninferior, ece_difference, fairness_noninferior, gap_difference

__all__ = [
    "DRAWS",
    "LEAST_ROWS",
    "Check",
    "McNemar",
    "Outcome",
    "Slices",
    "auc_noninferior",
    "better_than_dummy",
    "calibration_noninferior",
    "delong",
    "ece_difference",
    "f1_difference",
    "f1_noninferior",
    "fairness_noninferior",
    "floor",
    "gap_difference",
    "labels_needed",
    "log_losses",
    "loss_noninferior",
    "mcnemar",
    "precision_difference",
    "precision_noninferior",
    "recall_difference",
    "recall_noninferior",
    "slices",
    "worst",
]
