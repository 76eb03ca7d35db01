"""Downloads Neo4j's Java libraries, as pinned in neo4j.lock. Runs in scripts/neo4j's environment.

`--lock COORDINATE` resolves a release anew and prints the lock file for it.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import truststore
from jgo.maven import Artifact, MavenContext
from jgo.parse import Endpoint

ATTEMPTS = 4
LOCK = Path(__file__).with_name("neo4j.lock")


def main() -> None:
    """Download what the lock file names, or print a new one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True, help="the folder of the jars")
    parser.add_argument("--lock", metavar="COORDINATE", help="for example org.neo4j:neo4j:5.26.12")
    options = parser.parse_args()
    # The machine's certificates, as pip uses them: a company's proxy may have its own.
    truststore.inject_into_ssl()
    context = MavenContext(repo_cache=options.to, timeout=60)
    if options.lock:
        print(f"# What {options.lock} needs at run time, and the SHA-256 of each jar.")
        print(f"# Made by _neo4j_jars.py --lock {options.lock}")
        for artifact in _resolve(context, options.lock):
            coordinate = ":".join(part for part in artifact.key[:4] if part)
            print(_digest(artifact.resolve()), coordinate)
    else:
        _download_all(context, dict(_read_lock()))


def _read_lock() -> Iterator[tuple[str, str]]:
    for line in LOCK.read_text().splitlines():
        if line and not line.startswith("#"):
            digest, coordinate = line.split()
            yield coordinate, digest


def _resolve(context: MavenContext, coordinate: str) -> Iterator[Artifact]:
    [root] = Endpoint.parse(coordinate).coordinates
    dependency = context.create_dependency(replace(root, scope="compile"))
    for found in context.resolver.resolve([dependency]):
        yield from (each.artifact for each in found if each.scope in {"compile", "runtime"})


def _download_all(context: MavenContext, lock: dict[str, str]) -> None:
    size, shown, started = 0, 0.0, time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(_download, context, *entry) for entry in lock.items()]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                size += job.result()
                if (now := time.monotonic()) - shown > (0.2 if sys.stderr.isatty() else 5):
                    shown = now
                    _show(f"{done} of {len(jobs)} libraries, {size / 1e6:.0f} MB")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.monotonic() - started
    _show(f"{len(jobs)} libraries, {size / 1e6:.0f} MB, in {seconds:.0f} s", last=True)


def _download(context: MavenContext, coordinate: str, digest: str) -> int:
    group, name, version, *classifier = coordinate.split(":")
    artifact = context.project(group, name).at_version(version).artifact(*classifier)
    problem = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path: Path = artifact.resolve()
            if _digest(path) == digest:
                return path.stat().st_size
            problem = "what arrived is not what neo4j.lock names"
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            problem = str(error)
        # An earlier download may have been cut off: what it left must not be taken for the jar.
        if artifact.cached_path is not None:
            artifact.cached_path.unlink(missing_ok=True)
        time.sleep(attempt)
    raise SystemExit(f"\n{coordinate} could not be downloaded: {problem}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show(text: str, *, last: bool = False) -> None:
    if sys.stderr.isatty():
        print(f"\r  {text}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
