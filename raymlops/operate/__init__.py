"""Operating models: the workspace, the verbs, and the loop that runs by itself."""

from raymlops.operate.alerts import end_silences, silence, trial
from raymlops.operate.artifacts import convert_model, example_record, inspect, trust_file, verify
from raymlops.operate.challenger import Challenger, judge_challenger, make_challenger
from raymlops.operate.datasets import add_data, check_data, newest_data
from raymlops.operate.exporter import start_exporter
from raymlops.operate.fitting import fit, propose_plan, resume
from raymlops.operate.forgetting import (
    Forgotten,
    ForgottenCheckpoints,
    forget_checkpoints,
    forget_predictions,
)
from raymlops.operate.health import ModelHealth, MonitorHealth, Status, status
from raymlops.operate.labelling import Labelled, add_labels
from raymlops.operate.machinery import Machinery, down, up
from raymlops.operate.mirror import mirror, start_mirror
from raymlops.operate.operator import Operator
from raymlops.operate.own_models import register_model
from raymlops.operate.private import serving_privately
from raymlops.operate.releasing import promote, publisher, release, rollback
from raymlops.operate.sentinel import open_sentinel, start_sentinel
from raymlops.operate.serving import (
    check_prediction,
    deploy,
    deploy_pool,
    predict,
    start_monitor,
    undeploy,
    undeploy_pool,
)
from raymlops.operate.settings import Settings, load_settings
from raymlops.operate.submitting import submit
from raymlops.operate.training import (
    promote_first,
    register,
    resume_search,
    search_standing,
    train,
    tune,
)
from raymlops.operate.triggers import RetrainPolicy
from raymlops.operate.watch import check_rows, watch
from raymlops.operate.workspace import Workspace

__all__ = [
    "Challenger",
    "Forgotten",
    "ForgottenCheckpoints",
    "Labelled",
    "Machinery",
    "ModelHealth",
    "MonitorHealth",
    "Operator",
    "RetrainPolicy",
    "Settings",
    "Status",
    "Workspace",
    "add_data",
    "add_labels",
    "check_data",
    "check_prediction",
    "check_rows",
    "convert_model",
    "deploy",
    "deploy_pool",
    "down",
    "end_silences",
    "example_record",
    "fit",
    "forget_checkpoints",
    "forget_predictions",
    "inspect",
    "judge_challenger",
    "load_settings",
    "make_challenger",
    "mirror",
    "newest_data",
    "open_sentinel",
    "predict",
    "promote",
    "promote_first",
    "propose_plan",
    "publisher",
    "register",
    "register_model",
    "release",
    "resume",
    "resume_search",
    "rollback",
    "search_standing",
    "serving_privately",
    "silence",
    "start_exporter",
    "start_mirror",
    "start_monitor",
    "start_sentinel",
    "status",
    "submit",
    "train",
    "trial",
    "trust_file",
    "tune",
    "undeploy",
    "undeploy_pool",
    "up",
    "verify",
    "watch",
]
