# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep traces in their experiment, and let only the server set their location tags.

A trace is written by its id. MLflow authorizes that by the experiment that the call names, and then changes the trace
of this id in whichever experiment it is: who may write to one experiment could change, and with basic-auth move, the
traces of all others. Here the store compares the experiments, and a difference is refused unless the caller may change
both. The run of the header `X-Mlflow-Run-Id` must be one that the caller may change.

Some tags of a trace say where the server reads its data, with the server's own key to the object store. Clients set
them neither by the tags of a trace, nor by attributes of a span, nor by the routes for tags. MLflow's clients send the
tags that they received, so with a whole trace they are dropped without an error.

In-process calls of the AI gateway have no caller, so they never write to an existing trace of another experiment.
"""

import copy
from collections.abc import Callable, Collection, Iterable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED
from mlflow.server import handlers
from mlflow.store.tracking import sqlalchemy_store
from mlflow.store.tracking.dbmodels.models import SqlAssessments, SqlTraceInfo
from mlflow.tracing.utils.otlp import MLFLOW_RUN_ID_HEADER
from mlflow.utils.mlflow_tags import (
    MLFLOW_ARTIFACT_LOCATION,
    MLFLOW_TRACE_ARCHIVAL_FAILURE,
    MLFLOW_TRACE_ARCHIVE_LOCATION,
    MLFLOW_TRACE_SPANS_LOCATION,
)

from mlops_mlflow_server import callers, metrics

RESERVED = frozenset(
    {
        MLFLOW_ARTIFACT_LOCATION,
        MLFLOW_TRACE_ARCHIVAL_FAILURE,
        MLFLOW_TRACE_ARCHIVE_LOCATION,
        MLFLOW_TRACE_SPANS_LOCATION,
    }
)
_WRAPPED = ("log_spans", "start_trace", "deprecated_start_trace_v2", "deprecated_end_trace_v2")


def without_reserved(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that a client may set."""
    return {key: value for key, value in tags.items() if key not in RESERVED}


def _refusal(sentence: str) -> MlflowException:
    return MlflowException(sentence, error_code=PERMISSION_DENIED)


def _check_traces(store: Any, caller: callers.Caller, trace_ids: Collection[str], experiment_id: str) -> None:
    try:
        number = int(experiment_id)
    except (TypeError, ValueError):
        raise MlflowException.invalid_parameter_value(f"'{experiment_id}' is not an experiment's id") from None
    with store.ManagedSessionMaker(read_only=True) as session:
        others = (
            session.query(SqlTraceInfo.request_id, SqlTraceInfo.experiment_id)
            .filter(SqlTraceInfo.request_id.in_(trace_ids), SqlTraceInfo.experiment_id != number)
            .all()
        )
    allowed = {other: caller.may_update(str(other)) for other in {row.experiment_id for row in others}}
    for row in others:
        if not allowed[row.experiment_id]:
            raise _refusal(f"Trace '{row.request_id}' is not in experiment '{experiment_id}'")


def _check_assessments(store: Any, trace_id: str, assessment_ids: Collection[str]) -> None:
    """Refuse assessments of other traces, which MLflow would move to this one."""
    with store.ManagedSessionMaker(read_only=True) as session:
        foreign = (
            session.query(SqlAssessments.assessment_id)
            .filter(SqlAssessments.assessment_id.in_(assessment_ids), SqlAssessments.trace_id != trace_id)
            .first()
        )
    if foreign is not None:
        raise _refusal(f"Assessment '{foreign[0]}' is not of trace '{trace_id}'")


def _check_runs(caller: callers.Caller, run_ids: Iterable[str]) -> None:
    for run_id in run_ids:
        if run_id and not caller.is_administrator() and not caller.may_update_run(run_id):
            raise _refusal(f"You may not link traces to run '{run_id}'")


def _validating(validate: Callable) -> Callable:
    def validate_trace_tag(key: str, value: str) -> Any:
        if key in RESERVED:
            raise MlflowException(f"Tag '{key}' is set by the server", error_code=INVALID_PARAMETER_VALUE)
        return validate(key, value)

    return validate_trace_tag


def install(caller: callers.Caller) -> bool:
    """Wrap the methods of MLflow's store that write traces; return whether this version has the expected names."""
    store = sqlalchemy_store.SqlAlchemyStore
    blocked = getattr(handlers, "_HANDLER_BLOCKED_TRACE_TAGS", None)
    validate = getattr(sqlalchemy_store, "_validate_trace_tag", None)
    # Their base class has methods of the same names.
    if not set(_WRAPPED) <= set(vars(store)) or validate is None or not isinstance(blocked, frozenset):
        return False
    log, start = store.log_spans, store.start_trace
    start_v2, end_v2 = store.deprecated_start_trace_v2, store.deprecated_end_trace_v2

    def log_spans(self: Any, location: str, spans: list, *arguments: Any, **options: Any) -> Any:
        if spans:
            _check_runs(caller, callers.header(MLFLOW_RUN_ID_HEADER))
            _check_traces(self, caller, {span.trace_id for span in spans}, location)
        stored = log(self, location, spans, *arguments, **options)
        metrics.SPANS.inc(len(spans))
        return stored

    def start_trace(self: Any, trace_info: Any) -> Any:
        _check_traces(self, caller, [trace_info.trace_id], trace_info.experiment_id)
        named = [each.assessment_id for each in trace_info.assessments if each.assessment_id]
        if named:
            _check_assessments(self, trace_info.trace_id, named)
        trace_info = copy.copy(trace_info)
        trace_info.tags = without_reserved(trace_info.tags)
        return start(self, trace_info)

    # MLflow's handlers pass the tags of both by name.
    def start_trace_v2(self: Any, *arguments: Any, tags: dict[str, str], **options: Any) -> Any:
        return start_v2(self, *arguments, tags=without_reserved(tags), **options)

    def end_trace_v2(self: Any, *arguments: Any, tags: dict[str, str], **options: Any) -> Any:
        return end_v2(self, *arguments, tags=without_reserved(tags), **options)

    store.log_spans, store.start_trace = log_spans, start_trace
    store.deprecated_start_trace_v2, store.deprecated_end_trace_v2 = start_trace_v2, end_trace_v2
    # Of the store: attributes of spans and the routes that set a tag. Of the handlers: also those that delete one.
    sqlalchemy_store._validate_trace_tag = _validating(validate)
    handlers._HANDLER_BLOCKED_TRACE_TAGS = blocked | RESERVED
    return True
