"""A collector of OpenTelemetry: it takes spans by OTLP over HTTP, as they are on the wire."""

import gzip
import http.server
import ssl
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


def _value(value):
    return getattr(value, value.WhichOneof("value"))


class Span:
    """A span that has arrived."""

    def __init__(self, span, resource):
        self.name, self.kind = span.name, span.kind
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.attributes = {each.key: _value(each.value) for each in span.attributes}
        self.resource = {each.key: _value(each.value) for each in resource.attributes}
        self.is_error = span.status.code == span.status.STATUS_CODE_ERROR
        self.seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


class Collector:
    """Listens on 127.0.0.1.

    Args:
        port: to listen at, or 0 for a free one.
        context: of TLS, or None for http.
    """

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None):
        self.status, self.headers, self.content = 200, [], b""
        self.go_on = threading.Event()
        self.go_on.set()
        self._spans: list[Span] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_unused):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.go_on.wait(60)
                outer.headers.append((self.path, dict(self.headers)))
                if outer.status == 200:
                    outer._take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                if outer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(answer)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _take(self, content: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(content)
        self.content += content
        self._spans += [
            Span(span, resource.resource)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        """Listen no more."""
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()

    def spans(self, **attributes) -> list[Span]:
        """Return the spans that have arrived with these attributes, whose names have `_` for a dot."""
        return [
            span
            for span in self._spans
            if all(span.attributes.get(name.replace("_", ".")) == value for name, value in attributes.items())
        ]

    def wait(self, number: int, seconds: float = 30, **attributes) -> list[Span]:
        """Return the spans with these attributes as soon as there are so many."""
        end = time.monotonic() + seconds
        while len(found := self.spans(**attributes)) < number:
            assert time.monotonic() < end, [(span.name, span.attributes) for span in self._spans][-20:]
            time.sleep(0.05)
        return found
