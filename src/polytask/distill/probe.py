"""How well an encoder's features serve a classification as they are: linear probe and neighbours.

Source: the protocols of Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016 (linear) and
Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018 (nearest neighbours by cosine), on pooled features and with scikit-learn.
"""

from __future__ import annotations

import warnings

import numpy as np

NEIGHBOURS = 5


def probe(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, wanted: np.ndarray
) -> dict[str, float]:
    """Accuracies on features `others` [M, D] with labels `wanted` [M] after fitting on [N, D], [N].

    `linear_probe`: logistic regression on standardised features; `knn`: the vote of the nearest
    training images by cosine, near ones counting more.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    nearest = KNeighborsClassifier(
        min(NEIGHBOURS, len(features)), metric="cosine", weights="distance"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is reached by then counts
        linear.fit(features, labels)
    nearest.fit(features, labels)
    return {
        "linear_probe": float(linear.score(others, wanted)),
        "knn": float(nearest.score(others, wanted)),
    }
