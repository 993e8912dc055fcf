"""Prints the seconds Evidently takes for the check of benchmarks.drift; needs Evidently alone."""

import sys
import time

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

rows, num_features = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
reference, window = (
    pd.DataFrame({f"x{each}": rng.normal(size=rows) for each in range(num_features)})
    for _ in range(2)
)
report = Report([DataDriftPreset(num_method="ks")])
report.run(window.head(1_000), reference.head(1_000))  # whatever is loaded at the first use
started = time.perf_counter()
report.run(window, reference).dict()
print(time.perf_counter() - started)
