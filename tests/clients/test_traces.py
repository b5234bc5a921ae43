"""OpenTelemetry traces, as a collector of OTLP over HTTP gets them. Only an Osprey that was built with the
cargo feature has any: tests/run tiny builds it so."""

import contextlib
import http.server
import json
import socket
import subprocess
import threading

import pytest

import conftest
import harness

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module", autouse=True)
def has_traces(tmp_path_factory):
    conftest.need_osprey()
    config = tmp_path_factory.mktemp("traces") / "osprey.toml"
    config.write_text('upstream.address = "127.0.0.1:5432"\nobserve.traces = "http://127.0.0.1:4318"\n')
    done = subprocess.run(
        [harness.osprey_binary(), "check-config", "--config", config], capture_output=True, text=True
    )
    if done.returncode != 0:
        assert 'without the cargo feature "traces"' in done.stderr, done.stderr
        pytest.skip("built without the cargo feature: tests/run tiny has it")


class Collector(http.server.BaseHTTPRequestHandler):
    """Keeps the spans that it is sent."""

    def do_POST(self):
        assert self.path == "/v1/traces", self.path
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for resource in body["resourceSpans"]:
            self.server.resources.append(attributes(resource["resource"]))
            for scope in resource["scopeSpans"]:
                self.server.spans.extend(scope["spans"])
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def collector():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.spans, server.resources = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span):
    return {each["key"]: next(iter(each["value"].values())) for each in span.get("attributes", [])}


def configure(tmp_path, port, more=""):
    config = tmp_path / "osprey.toml"
    config.write_text(harness.FORGETS + f'[observe]\ntraces = "http://127.0.0.1:{port}"\n{more}')
    return config


def test_spans_of_a_session_its_statements_and_a_second_run(cluster, database, tmp_path):
    with collector() as sink:
        config = configure(tmp_path, sink.server_port, 'log_statements = "all"\n')
        with harness.Osprey(cluster.port, config=config) as osprey:
            with osprey.endpoint(database).connect() as client:
                client.execute(f"SELECT 'hush' /*traceparent='{PARENT}'*/")
                client.execute("SELECT count(*) FROM salaries WHERE name <> %s", ["hush"])
                client.execute("VALUES (1)")
            osprey.stop()
    assert "hush" not in json.dumps(sink.spans)
    assert {each["service.name"] for each in sink.resources} == {"osprey"}
    [session] = [span for span in sink.spans if span["name"] == "session"]
    mine = [span for span in sink.spans if span.get("parentSpanId") == session["spanId"]]
    assert {span["name"] for span in mine} == {"login", f"SELECT {database}", f"VALUES {database}"}
    told = attributes(session)
    assert told["user.name"] == "app" and told["db.namespace"] == database
    assert told["osprey.close_reason"] == "client" and told["client.address"] == "127.0.0.1"

    [read] = [span for span in mine if span["name"] == f"SELECT {database}"]
    told = attributes(read)
    assert told["osprey.engine"] == "sqe" and told["osprey.protocol"] == "extended"
    assert told["db.query.text"] == "SELECT count(*) FROM salaries WHERE name <> $1"
    [first] = [span for span in sink.spans if span.get("parentSpanId") == read["spanId"]]
    assert first["name"] == "first run" and first["status"]["message"] == "OSP-1001"
    begin, end = int(read["startTimeUnixNano"]), int(read["endTimeUnixNano"])
    assert begin == int(first["startTimeUnixNano"]) < int(first["endTimeUnixNano"]) < end

    _, trace, span, _ = PARENT.split("-")
    [theirs] = [each for each in sink.spans if each["traceId"] == trace]
    assert theirs["parentSpanId"] == span and theirs["name"] == f"SELECT {database}"
    assert [link["spanId"] for link in theirs["links"]] == [session["spanId"]]


def test_no_text_is_in_a_span_unless_it_may_be_logged(cluster, database, tmp_path):
    with collector() as sink:
        with harness.Osprey(cluster.port, config=configure(tmp_path, sink.server_port)) as osprey:
            with osprey.endpoint(database).connect() as client:
                client.execute("SELECT count(*) FROM items WHERE label = 'hush'")
            osprey.stop()
    assert f"SELECT {database}" in {span["name"] for span in sink.spans}
    assert "items" not in json.dumps(sink.spans)


def test_of_no_session_but_those_that_clients_want(cluster, database, tmp_path):
    with collector() as sink:
        config = configure(tmp_path, sink.server_port, 'trace_share = "0%"\n')
        with harness.Osprey(cluster.port, config=config) as osprey:
            with osprey.endpoint(database).connect() as client:
                client.execute("SELECT 1")
                client.execute(f"SELECT 2 /*traceparent='{PARENT}'*/")
                client.execute(f"SELECT 3 /*traceparent='{PARENT[:-2]}00'*/")
            osprey.stop()
    assert [span["traceId"] for span in sink.spans] == [PARENT.split("-")[1]]


def test_nobody_waits_for_a_collector_that_is_mute_or_gone(cluster, database, tmp_path):
    """Nor does the end, for long."""
    with mute() as port:
        for where in (port, harness.free_port()):
            with harness.Osprey(cluster.port, config=configure(tmp_path, where)) as osprey:
                with osprey.endpoint(database).connect() as client:
                    # More than wait in its queue.
                    for number in range(3000):
                        assert client.execute(f"SELECT {number}").fetchone() == (number,)
                osprey.stop()
                assert osprey.process.returncode == 0


@contextlib.contextmanager
def mute():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
