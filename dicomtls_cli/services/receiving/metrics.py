"""The figures of a running SCP in Prometheus' text format, on loopback; needs the package `prometheus_client`."""

from __future__ import annotations

from typing import Any

from dicomtls_cli.errors import ExitCode, OutputError, UsageError
from dicomtls_cli.services.receiving.events import Closed, Event, Opened, Received, Refused

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)  # upper bounds of the histogram's classes


class Metrics:
    """Counts events; call it with each. `start` serves the figures on `port` of 127.0.0.1 (0: a free one).

    Raises UsageError (`usage.no-prometheus`) where the package is missing.
    """

    def __init__(self, port: int) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise UsageError(
                "`--metrics` needs the package prometheus_client",
                "install it: `pip install 'dicomtls-cli[metrics]'`",
                slug="usage.no-prometheus",
            ) from None
        self.port = port
        self._registry = registry = prometheus.CollectorRegistry()
        counter, name = prometheus.Counter, "dicomtls"
        self._opened = counter(f"{name}_associations", "Associations accepted", registry=registry)
        self._open = prometheus.Gauge(f"{name}_associations_open", "Associations now", registry=registry)
        self._refused = counter(
            f"{name}_refused", "Connections and associations refused", ["stage", "reason"], registry=registry
        )
        self._lost = counter(f"{name}_lost", "Associations that did not end by release", registry=registry)
        self._instances = counter(f"{name}_instances", "Instances received", ["status"], registry=registry)
        self._bytes = counter(f"{name}_bytes", "Bytes of data sets stored", registry=registry)
        self._seconds = prometheus.Histogram(
            f"{name}_store_seconds", "From C-STORE-RQ to its answer", registry=registry, buckets=_SECONDS
        )
        self._server: Any = None

    def start(self) -> None:
        """Listen. Raises OutputError (exit code 5)."""
        import prometheus_client as prometheus

        try:
            self._server, _ = prometheus.start_http_server(self.port, "127.0.0.1", registry=self._registry)
        except OSError as error:
            raise OutputError(
                f"cannot listen on port {self.port}: {error.strerror or error}",
                "choose another port for `--metrics`, or stop what listens there",
                slug="listen.failed",
                exit_code=ExitCode.CANNOT_LISTEN,
            ) from error
        self.port = self._server.server_port

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def __call__(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case Opened():
                self._opened.inc()
                self._open.inc()
            case Refused(error=error):
                self._refused.labels(event.stage, error.slug).inc()
            case Closed(error=error):
                self._open.dec()
                if error is not None:
                    self._lost.inc()
            case Received(instance=instance):
                self._instances.labels(f"{instance.status:04X}").inc()
                self._seconds.observe(instance.seconds)
                if instance.stored is not None:
                    self._bytes.inc(instance.stored.length)
