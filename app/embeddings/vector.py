"""Vectors as they are stored and compared."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.errors import EmbeddingDimensionMismatch, InvalidInput, Path

Vector = NDArray[np.float32]

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def check_vector(path: Path, numbers: Sequence[float], dimensions: int) -> Vector:
    """Return a client's vector at unit length; raise for a wrong length or a number that float4 can't hold.

    Cosine similarity ignores length, so nothing is lost; it keeps every component within the range of half
    precision. A vector of zeros has no direction: it stays as it is and no search finds it.
    """
    if len(numbers) != dimensions:
        raise EmbeddingDimensionMismatch(path, expected=dimensions, actual=len(numbers))
    try:
        vector = np.asarray(numbers, dtype=np.float64)
        is_in_range = not numbers or bool(np.abs(vector).max() <= _MAX_FLOAT32)
    except OverflowError:
        is_in_range = False
    if is_in_range:
        return normalised(vector)
    # Not a number, or too large: neither lies between the bounds.
    position = next(place for place, number in enumerate(numbers) if not -_MAX_FLOAT32 <= number <= _MAX_FLOAT32)
    raise InvalidInput((*path, position), "must be a finite number within the range of a 4-byte float")


def normalised(vector: NDArray[np.floating]) -> Vector:
    """Return the vector at unit length; zeros stay zeros."""
    largest = float(np.abs(vector).max()) if vector.size else 0.0
    if largest == 0.0:
        return vector.astype(np.float32)
    # Scaling first keeps the squares of very small and very large numbers within range.
    scaled = vector.astype(np.float64) / largest
    unit: Vector = (scaled / math.sqrt(scaled.dot(scaled))).astype(np.float32)
    return unit


def has_direction(vector: Vector) -> bool:
    """Whether the vector can be compared by angle."""
    return bool(np.count_nonzero(vector))
