# What `from holdtrue_stats import …` offers, and where it is: for type checkers, and for `__init__.py` when it runs.
# ruff: noqa: I001 - one import for each module

from holdtrue_stats.betting import Bernstein as Bernstein, EProcess as EProcess
from holdtrue_stats.calibration import (
    Map as Map,
    Table as Table,
    block_variance as block_variance,
    brier as brier,
    ece as ece,
    fit_isotonic as fit_isotonic,
    log_loss as log_loss,
    score_bin as score_bin,
    smoothed as smoothed,
)
from holdtrue_stats.cause import Cause as Cause, rank as rank
from holdtrue_stats.confusion import (
    Confusion as Confusion,
    Measure as Measure,
    accuracy as accuracy,
    binary as binary,
    f1 as f1,
    one_versus_rest as one_versus_rest,
    precision as precision,
    realised as realised,
    realised_macro as realised_macro,
    recall as recall,
    specificity as specificity,
)
from holdtrue_stats.decision import (
    DriftResult as DriftResult,
    Severity as Severity,
    Streaks as Streaks,
    drift as drift,
    rate as rate,
)
from holdtrue_stats.divergence import (
    Distances as Distances,
    distances as distances,
    hellinger as hellinger,
    js as js,
    linf as linf,
    psi as psi,
    psi_adjusted as psi_adjusted,
    psi_noise as psi_noise,
    tvd as tvd,
    wasserstein as wasserstein,
)
from holdtrue_stats.estimate import (
    cbpe as cbpe,
    cbpe_variance as cbpe_variance,
    estimated as estimated,
    estimated_auc as estimated_auc,
    ppi as ppi,
    ppi_mean as ppi_mean,
)
from holdtrue_stats.fairness import Gap as Gap, Rate as Rate, gaps as gaps
from holdtrue_stats.gates import (
    Check as Check,
    McNemar as McNemar,
    Outcome as Outcome,
    Slices as Slices,
    auc_noninferior as auc_noninferior,
    better_than_dummy as better_than_dummy,
    calibration_noninferior as calibration_noninferior,
    delong as delong,
    ece_difference as ece_difference,
    f1_difference as f1_difference,
    f1_noninferior as f1_noninferior,
    fairness_noninferior as fairness_noninferior,
    floor as floor,
    gap_difference as gap_difference,
    labels_needed as labels_needed,
    log_losses as log_losses,
    loss_noninferior as loss_noninferior,
    mcnemar as mcnemar,
    precision_difference as precision_difference,
    precision_noninferior as precision_noninferior,
    recall_difference as recall_difference,
    recall_noninferior as recall_noninferior,
    slices as slices,
    worst as worst,
)
from holdtrue_stats.histogram import (
    Edges as Edges,
    Kind as Kind,
    State as State,
    fold as fold,
    fold_numpy as fold_numpy,
    freeze as freeze,
    groups as groups,
    interpolate as interpolate,
    merge as merge,
    quantile as quantile,
    rebin as rebin,
    sums as sums,
)
from holdtrue_stats.interval import (
    difference as difference,
    joined as joined,
    macro as macro,
    mean as mean,
    newcombe as newcombe,
    pool as pool,
    score_interval as score_interval,
    wilson as wilson,
    z_value as z_value,
)
from holdtrue_stats.multiple import bh as bh, cauchy as cauchy, holm as holm
from holdtrue_stats.outlier import (
    Basis as Basis,
    pca_fit as pca_fit,
    pca_residual as pca_residual,
    tail_rank as tail_rank,
)
from holdtrue_stats.packing import PackingError as PackingError
from holdtrue_stats.ranking import (
    ByScore as ByScore,
    auc as auc,
    auc_gradient as auc_gradient,
    average_precision as average_precision,
    by_score as by_score,
    threshold_for as threshold_for,
)
from holdtrue_stats.regression import bias as bias, mae as mae, observe as observe, rmse as rmse
from holdtrue_stats.result import (
    Estimate as Estimate,
    Status as Status,
    insufficient as insufficient,
    invalid as invalid,
)
from holdtrue_stats.sequential import (
    Sums as Sums,
    apart as apart,
    compare_means as compare_means,
    compare_quantiles as compare_quantiles,
    compare_rates as compare_rates,
    half_width as half_width,
    mean_cs as mean_cs,
    quantile_cs as quantile_cs,
    rate_cs as rate_cs,
    rows_needed as rows_needed,
)
from holdtrue_stats.twosample import (
    chi2 as chi2,
    ks as ks,
    rank_location as rank_location,
    rank_scale as rank_scale,
    rank_tests as rank_tests,
    rare as rare,
    two_proportions as two_proportions,
)
from holdtrue_stats.validity import Validity as Validity, Watch as Watch, residual_test as residual_test
