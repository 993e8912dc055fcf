"""Prints the seconds NannyML takes for the check of benchmarks.drift; needs NannyML alone."""

import sys
import time

import nannyml
import numpy as np
import pandas as pd

rows, num_features = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
names = [f"x{each}" for each in range(num_features)]
reference, window = (
    pd.DataFrame({name: rng.normal(size=rows) for name in names}) for _ in range(2)
)
calculator = nannyml.UnivariateDriftCalculator(
    column_names=names, continuous_methods=["kolmogorov_smirnov"], chunk_number=1
)
calculator.fit(reference)  # as our profile is made before
started = time.perf_counter()
calculator.calculate(window)
print(time.perf_counter() - started)
