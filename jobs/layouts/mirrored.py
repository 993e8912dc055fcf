"""TensorFlow: whole copies of a Keras model, on the devices of one process or of all workers.

python jobs/layouts/mirrored.py --plan data=2
python jobs/layouts/mirrored.py --plan data=2 --loop fit
ray job submit --working-dir . -- python jobs/layouts/mirrored.py --home /shared/raymlops
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from raymlops.cluster import ClusterSettings
from raymlops.data.loading import ArraySource
from raymlops.train import Factory, KerasSpec, ParallelPlan, Trainer


def network(width: int = 64) -> Any:
    from tensorflow import keras

    hidden = keras.layers.Dense(width, activation="relu")
    return keras.Sequential([keras.layers.Input((64,)), hidden, keras.layers.Dense(10)])


def digits() -> tuple[ArraySource, ArraySource]:
    images, labels = load_digits(return_X_y=True)
    columns = (images / 16).astype(np.float32), labels.astype(np.int64)
    train, validation = zip(*(np.split(column, [1297]) for column in columns), strict=True)
    return ArraySource(train), ArraySource(validation)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=ParallelPlan.parse, default=ParallelPlan(data=2))
    parser.add_argument("--loop", choices=("custom", "fit"), default="custom")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--home", type=Path, default=Path(".raymlops"))
    arguments = parser.parse_args()
    spec = KerasSpec(
        model=Factory(call="mirrored:network"), data=Factory(call="mirrored:digits"),
        name="digits", loop=arguments.loop, epochs=arguments.epochs,
    )  # fmt: skip
    cluster = ClusterSettings(address="auto" if "RAY_ADDRESS" in os.environ else "local")
    result = Trainer(spec, plan=arguments.plan, home=arguments.home, cluster=cluster).fit()
    images, labels = digits()[1].columns
    right = np.argmax(result.model()(images), axis=1) == labels
    print(f"run {result.run_id}: {result.steps} steps, accuracy {right.mean():.3f}")


if __name__ == "__main__":
    main()
