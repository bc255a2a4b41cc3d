"""Take spans by OTLP over HTTP, and tell how many have come. It needs what MLflow's image has.

Listens on all addresses, at the port that is its argument. GET answers with the number of spans.
"""

import gzip
import http.server
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    spans = 0

    def log_message(self, *_unused):
        pass

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        content = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
        message = ExportTraceServiceRequest.FromString(content)
        Handler.spans += sum(len(scope.spans) for each in message.resource_spans for scope in each.scope_spans)
        self.answer(b"")

    def do_GET(self):
        self.answer(str(Handler.spans).encode())


http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
