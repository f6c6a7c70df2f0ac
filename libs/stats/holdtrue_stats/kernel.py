"""The fold of `histogram` compiled by numba; imported only where numba is installed."""
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false, reportUnknownMemberType=false

import numba
import numpy as np

from holdtrue_stats.arrays import Float32s, Floats, Ints
from holdtrue_stats.histogram import CLIP, FIXED


@numba.njit(nogil=True, cache=True)
def fold(  # noqa: PLR0913, PLR0917 - a kernel takes arrays, not objects
    x: Float32s,
    edges: Float32s,
    center: Floats,
    inv_scale: Floats,
    hist: Ints,
    bin_sum: Ints,
    sq_sum: Ints,
    clipped: Ints,
    count: Ints,
) -> None:
    """Add rows x [n, d] to the state. Padding edges are NaN and never <= a value, so no length is needed."""
    n, d = x.shape
    width = edges.shape[1]
    for i in range(n):
        for j in range(d):
            v = x[i, j]
            if np.isnan(v):
                hist[j, width + 1] += 1
                continue
            place, left = 0, width
            while left > 1:
                half = left >> 1
                place += half * (edges[j, place + half - 1] <= v)
                left -= half
            if width > 0:
                place += edges[j, place] <= v
            z = (np.float64(v) - center[j]) * inv_scale[j]
            clipped[j] += np.abs(z) > CLIP
            fixed = np.int64(np.floor(min(CLIP, max(-CLIP, z)) * FIXED + 0.5))
            hist[j, place] += 1
            bin_sum[j, place] += fixed
            sq_sum[j] += (fixed * fixed) >> 16
    count[0] += n
