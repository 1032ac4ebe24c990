"""A normal behaviour in closed form: the share that an epsilon keeps, its quantiles and entropy."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammainc, gammaincinv


def normal_share(log_epsilon: float, dim: int, width: float) -> float:
    """The share of N(0, width^2 I) in `dim` dimensions whose own density is at least epsilon (Eq.
    4); broadcasts like numpy.

    -2 log density = |x|^2 / width^2 + dim log(2 pi width^2), and |x|^2 / width^2 is chi-squared.
    Derived here, no source. With log_epsilon = c dim it tends to 1 as dim grows where -c >
    normal_entropy(width), and to 0 where -c is less.
    """
    return gammainc(
        dim / 2,
        np.maximum(-np.asarray(log_epsilon) - dim / 2 * np.log(2 * math.pi * np.square(width)), 0),
    )[()]


def quantile_log_epsilon(share: float, dim: int, width: float) -> float:
    """The log epsilon (nats) that keeps this share of N(0, width^2 I): the inverse of
    `normal_share`; broadcasts like numpy.
    """
    return -gammaincinv(dim / 2, share) - dim / 2 * np.log(2 * math.pi * np.square(width))


def normal_entropy(width: float) -> float:
    """Entropy of a normal of this width, nats per dimension: 1.4189 at width 1, the most that a
    standardised coordinate can have.
    """
    return 0.5 * np.log(2 * math.pi * math.e * np.square(width))
