"""PMML 4.4: written from scikit-learn and scored in numpy.

The subset: linear and logistic regression, decision trees, forests, gradient boosting and
perceptrons, behind standard, min-max and max-abs scaling, one-hot encoding and column
transformers. What lies outside is refused by name, on both sides.
https://dmg.org/pmml/v4-4-1/GeneralStructure.html
"""

from raymlops.models.pmml.scorer import PmmlScorer
from raymlops.models.pmml.writer import to_pmml

__all__ = ["PmmlScorer", "to_pmml"]
