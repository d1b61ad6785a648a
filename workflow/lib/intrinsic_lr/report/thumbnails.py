"""The test images on which the runs of a setting disagree most, with the labels that they give."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.image import imsave
from safetensors import safe_open

from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import Ensemble
from intrinsic_lr.stats.disagreement import label_distribution

SHOWN = 12
"""At most so many images."""


def disagreed(ensemble: Ensemble, step: int, data_path: str, info_path: str) -> dict[str, Any] | None:
    """Return the images with the labels that runs give them after `step` steps, and the share of all disagreement.

    None where runs give every image one label, or fewer than two runs are finite.
    """
    info, truth = true_labels(data_path, info_path)
    labels = ensemble.labels(step)
    labels = labels[(labels >= 0).all(axis=1)]
    if len(labels) < 2:
        return None
    shares = label_distribution(labels, len(info["classes"]))
    # The probability that two runs, drawn with replacement, give an image two labels.
    apart = 1 - (shares**2).sum(axis=1)
    first = np.argsort(-apart, kind="stable")[:SHOWN]
    first = first[apart[first] > 0]
    if not len(first):
        return None
    with safe_open(data_path, framework="np") as tensors:
        images = tensors.get_tensor("test_images")
    # Some sets, such as the digits, use a part of the bytes' range.
    images = (images[first] * (255 / max(images.max(), 1))).astype(np.uint8)
    names = [str(name) for name in info["classes"]]
    told = [_told(shares[index], names) for index in first]
    return {
        "images": [
            {"url": _png(image), "truth": names[truth[index]], "labels": text}
            for image, index, text in zip(images, first, told, strict=True)
        ],
        "share": apart[first].sum() / apart.sum(),
        "total": len(truth),
        "runs": len(labels),
    }


def _told(shares: np.ndarray, names: Sequence[str]) -> str:
    """Return the labels given to an image, the most frequent first, with the shares of runs that give them."""
    given = [label for label in np.argsort(-shares, kind="stable") if shares[label] > 0]
    return ", ".join(f"{names[label]}: {100 * shares[label]:.0f} %" for label in given[:3])


def _png(image: np.ndarray) -> str:
    """Return an image of bytes (C, H, W), of one channel or three, as a data URL."""
    pixels = np.repeat(image, 3, axis=0) if len(image) == 1 else image[:3]
    file = BytesIO()
    imsave(file, np.moveaxis(pixels, 0, -1), format="png", metadata={"Software": None})
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"
