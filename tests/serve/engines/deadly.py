"""A model in plain Python that some rows kill, and others block."""

from __future__ import annotations

import os
import signal
import time

import numpy as np


def predict(matrix: np.ndarray) -> np.ndarray:
    if matrix[:, 0].max() > 10:
        os.kill(os.getpid(), signal.SIGSEGV)
    if matrix[:, 0].min() < -3:
        time.sleep(60)
    return matrix[:, 0]
