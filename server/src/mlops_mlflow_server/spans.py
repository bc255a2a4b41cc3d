# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spans of the server's own calls, which a collector of OpenTelemetry gets; docs/monitoring.md has what is in them.

A sampled call has a span, with one below it for each statement of SQL and each request to the object store. They are
sent by a thread of their own, so no call waits for the collector: spans beyond `MOST` that are not sent are dropped.

MLflow's tracing has the same SDK. The provider of these spans is this module's alone and no span is OpenTelemetry's
current one, so neither sees anything of the other. No variable `OTEL_EXPORTER_...` is set, since MLflow reads these.
"""

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
import os
import re
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

import requests
import sqlalchemy
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression, trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.types import Message, Scope, Send

from mlops_mlflow_server import addresses, metrics, s3
from mlops_mlflow_server.calls import NO_ROUTE, SPANS, Call, current
from mlops_mlflow_server.settings import number

_logger = logging.getLogger("mlflow.mlops")

# Of a worker, about 4 MB.
MOST = 2048
BATCH = 512
SECONDS_BETWEEN = 1
# Of one request to the collector, with its repetitions.
TIMEOUT = 10
# At the end, for what is not sent yet: a pod has few seconds.
LAST_SECONDS = 5
# Below the span of one call.
MOST_BELOW = 100
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OPERATIONS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"})
_UNANSWERED = "unanswered"
_parents = TraceContextTextMapPropagator()


class _Session(requests.Session):
    """requests', where no variable replaces the CA that is asked for."""

    def merge_environment_settings(self, *given: Any) -> Any:
        """Return the settings of a request."""
        found = super().merge_environment_settings(*given)
        return {**found, "verify": self.verify} if isinstance(self.verify, str) else found


class Sender(SpanExporter):
    """Sends spans to a collector, counts what comes of them, and says once that it is away.

    Args:
        options: of OpenTelemetry's exporter.
    """

    def __init__(self, **options: Any):
        session = _Session()
        # The exporter takes it for success, and does not follow it.
        session.hooks["response"].append(_refuse_redirect)
        self._exporter = trace_exporter.OTLPSpanExporter(session=session, **options)
        self._lock = threading.Lock()
        self._pending = 0
        self._is_away = False
        logging.getLogger(trace_exporter.__name__).addFilter(lambda _record: not self._is_away)

    def reserve(self) -> bool:
        """Return whether there is room for a further span, and count it if so."""
        with self._lock:
            is_free = self._pending < MOST
            self._pending += is_free
        return is_free

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and try again for `TIMEOUT` at most."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            is_sent = result is SpanExportResult.SUCCESS
            with self._lock:
                self._pending -= len(spans)
            metrics.SERVER_SPANS.labels("sent" if is_sent else "dropped").inc(len(spans))
            if self._is_away == is_sent:
                _logger.warning("Spans are sent again" if is_sent else "Spans are dropped: the collector is away")
            self._is_away = not is_sent
        return result

    def shutdown(self) -> None:
        """End what waits for another try."""
        self._exporter.shutdown()


class Queue(BatchSpanProcessor):
    """OpenTelemetry's queue, which here drops what has no room, and counts it."""

    def __init__(self, sender: Sender):
        # All are given, so that no variable decides.
        super().__init__(
            sender,
            max_queue_size=MOST,
            schedule_delay_millis=SECONDS_BETWEEN * 1000,
            max_export_batch_size=BATCH,
            export_timeout_millis=TIMEOUT * 1000,
        )
        self._sender = sender

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended."""
        if self._sender.reserve():
            super().on_end(span)
        else:
            metrics.SERVER_SPANS.labels("dropped").inc()


class Spans:
    """The spans of a worker.

    Args:
        sender: where they go.
        ratio: of calls that are sampled, from 0 to 1. A trusted proxy that traces decides for its own calls.
        namespace: the namespace of this pod, or an empty text.
    """

    def __init__(self, sender: Sender, ratio: float, namespace: str):
        resource = {
            "service.name": "mlflow",
            "service.version": importlib.metadata.version("mlflow"),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            **({"k8s.namespace.name": namespace, "k8s.pod.name": socket.gethostname()} if namespace else {}),
        }
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=Resource.create(resource), shutdown_on_exit=False
        )
        self._provider.add_span_processor(Queue(sender))
        self._tracer = self._provider.get_tracer("mlops_mlflow_server")

    def begin(self, scope: Scope) -> Span:
        """Return the span of a call that begins."""
        context = Context()
        client = scope.get("client")
        if client and addresses.is_trusted_proxy(client[0]):
            given = {name.decode(): value.decode("latin1") for name, value in scope["headers"] if name in _PARENT}
            context = _parents.extract(given, context)
        return self._tracer.start_span(_method(scope), context, SpanKind.SERVER)

    def end(self, call: Call) -> None:
        """End the span of a call, and say what is known of it now."""
        span = call.span
        if span is None or not span.is_recording():
            return
        method, route, status = _method(call.scope), call.route, call.status
        span.set_attribute("http.request.method", method)
        span.set_attribute("request.id", call.id)
        if route != NO_ROUTE:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500 or not status:
            span.set_attribute("error.type", str(status) if status else _UNANSWERED)
            span.set_status(StatusCode.ERROR)
        span.end()

    def below(self, name: str, attributes: dict[str, str]) -> Span | None:
        """Return the span of what begins within the call that is being answered, or None if that one is not sampled."""
        call = current()
        if call is None or call.span is None or not call.span.is_recording() or call.below >= MOST_BELOW:
            return None
        call.below += 1
        context = trace.set_span_in_context(call.span, Context())
        return self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)

    def flushing(self, send: Send) -> Send:
        """Return the `send` of an ASGI lifespan that sends what is left before the process ends."""

        async def flushing_send(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await self.close()
            await send(message)

        return flushing_send

    async def close(self) -> None:
        """Send what is left, for `LAST_SECONDS` at most."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=close, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LAST_SECONDS)


_PARENT = frozenset({b"traceparent", b"tracestate"})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in metrics.METHODS else "_OTHER"


def _refuse_redirect(response: requests.Response, **_unused: Any) -> None:
    if response.is_redirect:
        raise requests.TooManyRedirects("the collector answers with a redirect")


def _end(span: Span | None, error: str = "") -> None:
    if span is not None:
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()


def _watch_databases(spans: Spans) -> None:
    """Have a span for each statement, with its kind, and not its text, which may have what users store."""

    def begin(
        connection: sqlalchemy.Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, *_unused: Any
    ) -> None:
        words = statement.split(None, 1)
        operation = words[0].upper() if words and words[0].upper() in _OPERATIONS else "OTHER"
        url = connection.engine.url
        attributes = {
            "db.system.name": url.get_backend_name(),
            "db.namespace": url.database or "",
            "db.operation.name": operation,
        }
        if context is not None:
            context.mlops_span = spans.below(f"{operation} {url.database}", attributes)

    def end(*given: Any) -> None:
        _end(getattr(given[4], "mlops_span", None))

    def fail(failed: Any) -> None:
        _end(getattr(failed.execution_context, "mlops_span", None), type(failed.original_exception).__name__)

    event.listen(Engine, "before_cursor_execute", begin)
    event.listen(Engine, "after_cursor_execute", end)
    event.listen(Engine, "handle_error", fail)


def _watch_s3(spans: Spans, client: Any) -> None:
    def begin(model: Any, context: dict, **_unused: Any) -> None:
        attributes = {"rpc.system.name": "aws-api", "rpc.method": f"S3/{model.name}"}
        context["mlops_span"] = spans.below(f"S3/{model.name}", attributes)

    def end(http_response: Any, context: dict, **_unused: Any) -> None:
        status = http_response.status_code
        _end(context.pop("mlops_span", None), str(status) if status >= 400 else "")

    def fail(context: dict, exception: Exception, **_unused: Any) -> None:
        _end(context.pop("mlops_span", None), type(exception).__name__)

    events = client.meta.events
    events.register("before-call.s3", begin)
    events.register("after-call.s3", end)
    events.register("after-call-error.s3", fail)


def _headers(text: str) -> dict[str, str]:
    """Return headers that are written as `OTEL_EXPORTER_OTLP_HEADERS` has them; no message has a value."""
    found = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = (each.strip() for each in pair.partition("="))
        value = urllib.parse.unquote(value)
        if not (_HEADER.fullmatch(name) and equals and value.isprintable() and value.isascii()):
            raise ValueError("MLOPS_OTLP_HEADERS must be name=value, with commas between several")
        found[name] = value
    return found


def start() -> Spans | None:
    """Return the spans that the environment asks for, or None.

    Raises:
        ValueError: a variable has a value that it must not have.
        OSError: there is no file of the CA.
    """
    endpoint = os.environ.get(SPANS, "").strip().rstrip("/")
    if not endpoint:
        return None
    url = urllib.parse.urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.query:
        raise ValueError(f"{SPANS} must be http:// or https:// and a host, without credentials")
    ratio = number("MLOPS_OTLP_SAMPLE_RATIO", 1, minimum=0)
    if ratio > 1:
        raise ValueError(f"MLOPS_OTLP_SAMPLE_RATIO is '{ratio:g}': it must be from 0 to 1")
    ca = os.environ.get("MLOPS_OTLP_CA_FILE", "")
    if ca:
        os.stat(ca)
    sender = Sender(
        endpoint=f"{endpoint}/v1/traces",
        certificate_file=ca or None,
        headers=_headers(os.environ.get("MLOPS_OTLP_HEADERS", "")),
        timeout=TIMEOUT,
        compression=Compression.Gzip,
    )
    spans = Spans(sender, ratio, os.environ.get("MLOPS_OTLP_NAMESPACE", ""))
    _watch_databases(spans)
    s3.watchers.append(functools.partial(_watch_s3, spans))
    return spans
