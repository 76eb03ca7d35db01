"""Where releases are built, switched and started: files, a symbolic link, a process.

What happened is counted by those to whom it happened: each build notes itself in a journal, and
each service process notes its own start. Nothing here knows of the engine; an idempotency key is
to this machine what it is to any other, a request seen before is answered and not repeated.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Machine"]

_SERVICE = '''\
"""{service} {version}: answers /health, and ends when its standard input does."""
import http.server
import json
import os
import socketserver
import sys
import threading

port, journal, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
release = json.load(open(os.path.join(os.path.dirname(__file__), "release.json")))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{**release, "status": "ok"}}).encode()
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(socketserver.TCPServer):
    allow_reuse_address = True


def end_with_the_machine():
    sys.stdin.read()
    os._exit(0)


server = Server(("127.0.0.1", port), Handler)
with open(journal, "a") as lines:
    lines.write(key + "\\n")
print("ready", flush=True)
threading.Thread(target=end_with_the_machine, daemon=True).start()
server.serve_forever()
'''
_START_SECONDS = 20


class Machine:
    """One machine in one folder. Its methods may be called from any thread, one acts at a time."""

    def __init__(self, root: Path) -> None:
        self._releases = root / "releases"
        self._live = root / "live"
        self._builds = root / "builds.journal"
        self._starts = root / "starts.journal"
        self._log = root / "services.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._closed = False
        for folder in (self._releases, self._live):
            folder.mkdir(parents=True)

    @property
    def builds(self) -> int:
        """How many releases were built."""
        return len(_lines(self._builds))

    @property
    def starts(self) -> int:
        """How many service processes came up, as they noted themselves."""
        return len(_lines(self._starts))

    def build(self, service: str, version: str, runtime: str, key: str) -> str:
        """Write the release's files. Their digest."""
        files = {
            "release.json": json.dumps({"service": service, "version": version}),
            "service.py": _SERVICE.format(service=service, version=version),
            "runtime.txt": f"{runtime}\n",
        }
        with self._lock:
            if key not in _lines(self._builds):
                folder = self._folder(service, version)
                folder.mkdir(parents=True, exist_ok=True)
                for name, content in files.items():
                    _write_atomically(folder / name, content)
                with self._builds.open("a") as journal:
                    journal.write(f"{key}\n")
        return hashlib.sha256("".join(files.values()).encode()).hexdigest()[:12]

    def deploy(self, service: str, version: str, port: int, key: str) -> None:
        """Switch the service to a release, and restart it. Raises ValueError without a release."""
        folder = self._folder(service, version)
        if not folder.exists():
            raise ValueError(f"no release {version} of {service} was built")
        with self._lock:
            if self._closed:
                raise RuntimeError("the machine is shut down")
            if key in _lines(self._starts):
                return
            live = self._live / service
            fresh = self._live / f".{service}.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(os.path.relpath(folder, self._live))
            fresh.replace(live)
            self._stop(service)
            self._start(service, [str(live / "service.py"), str(port), str(self._starts), key])

    def health(self, port: int) -> Mapping[str, str]:
        """What the service at `port` says of itself. Raises OSError if none answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            answer: dict[str, str] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def close(self) -> None:
        """Stop all services. Nothing can be deployed any more."""
        with self._lock:
            self._closed = True
            for service in list(self._processes):
                self._stop(service)

    def _folder(self, service: str, version: str) -> Path:
        folder = self._releases / service / version
        if not folder.resolve().is_relative_to(self._releases.resolve()):
            raise ValueError(f"{service!r} {version!r} does not name a release")
        return folder

    def _start(self, service: str, arguments: list[str]) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={},
            )
        self._processes[service] = process
        assert process.stdout is not None
        answers, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        if not answers or process.stdout.readline() != b"ready\n":
            self._stop(service)
            raise RuntimeError(f"{service} did not start: {_lines(self._log)[-1:]}")

    def _stop(self, service: str) -> None:
        process = self._processes.pop(service, None)
        if process is not None:
            process.terminate()
            with process:  # closes its pipes and waits for it
                pass


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _write_atomically(path: Path, content: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(content)
    fresh.replace(path)
