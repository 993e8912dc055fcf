"""TensorFlow: Keras models trained in copies, through the same Trainer as torch's.

spec = KerasSpec(model=Factory(call="flights.models:mlp"), data=Factory(call="flights.data:rows"))
result = Trainer(spec, plan=ParallelPlan(data=2)).fit()
"""

from raymlops.train.keras.spec import KerasSpec

__all__ = ["KerasSpec"]
