"""A server that imports what stages need and forks one process per job that a client sends (foundad.warm.client).

The server computes nothing itself. No thread of a numerical library and no GPU is started in it, so a fork behaves
like a new process. The server ends when the Snakemake process that it serves ends, and its jobs end with it.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from foundad.warm.client import SIGNALS

# Modules that jobs import inside their work. None of them may start a thread.
LIGHT = (
    "foundad.cli",
    "foundad.data.draws",
    "foundad.data.manifest",
    "foundad.data.verify",
    "foundad.metrics.evaluation",
    "foundad.metrics.masks",
    "foundad.report.collect",
    "pyarrow.parquet",
)
HEAVY = (
    *LIGHT,
    "torch",
    "foundad.detection.fitting",
    "foundad.encoders.extraction",
    "foundad.pairs.encoder",
    "foundad.encoders.libraries.timm",
    "foundad.method.detector",
)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def main() -> None:
    """Import the modules, listen, tell the client that started this server, and serve until Snakemake ends."""
    folder, kind, parent, ready = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    given = dict(os.environ)
    for name in HEAVY if kind == "heavy" else LIGHT:
        importlib.import_module(name)
    # Imports set variables that are read later, such as cuBLAS' workspace in foundad.device: jobs must have them, too.
    imported = {name: value for name, value in os.environ.items() if given.get(name) != value}
    gc.collect()
    gc.freeze()  # otherwise the first collection in every job would copy all this memory
    server = Server(folder / kind, parent, imported)
    os.write(ready, b"1")
    os.close(ready)
    try:
        server.serve()
    finally:
        server.close()


class Server:
    """Accepts jobs and watches them.

    Args:
        path: path of the socket.
        parent: id of the process with which this server ends.
        imported: variables of the environment that imports have set.
    """

    def __init__(self, path: Path, parent: int, imported: Mapping[str, str]) -> None:
        self.path, self.imported = path, imported
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.parent = os.pidfd_open(parent)
        self.ended, woken = os.pipe()
        for descriptor in (self.ended, woken):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken)
        self.clients: dict[socket.socket, int] = {}  # client -> process id of its job
        self.selector = selectors.DefaultSelector()
        path.unlink(missing_ok=True)
        self.listener.bind(str(path))
        self.listener.listen(256)
        for source in (self.listener, self.parent, self.ended):
            self.selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve clients until the parent process ends."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj == self.parent:
                    return
                elif key.fileobj == self.ended:
                    with suppress(BlockingIOError):
                        os.read(self.ended, 4096)
                    self._reap()
                else:
                    self._gone(key.fileobj)

    def close(self) -> None:
        """Kill the jobs that are left and delete the socket."""
        for worker in self.clients.values():
            with suppress(ProcessLookupError):
                os.killpg(worker, signal.SIGKILL)
        for path in (self.path, self.path.with_name(f"{self.path.name}.lock")):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()  # works only for the last server of the run

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        client.settimeout(10)
        try:
            length, streams, _, _ = socket.recv_fds(client, 8, 3)
            job = json.loads(_received(client, int.from_bytes(length, "little")))
        except (OSError, ValueError):
            client.close()
            return
        # Python forgets a signal that reaches the fork too early, or raises it where the fork would close the server.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        worker = os.fork()
        if worker == 0:
            self._become(client, streams, job)
        with suppress(OSError):  # the fork does the same; whoever comes first, its group exists from here on
            os.setpgid(worker, worker)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for stream in streams:
            os.close(stream)
        with suppress(OSError):
            client.sendall(f"{worker}\n".encode())
        self.clients[client] = worker
        self.selector.register(client, selectors.EVENT_READ)

    def _become(self, client: socket.socket, streams: list[int], job: Mapping[str, Any]) -> None:
        """In the fork: close the files of the server, take over the streams of the client, do the job, and end."""
        code = 1
        try:
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.selector.close()
            self.listener.close()
            for other in (client, *self.clients):
                other.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = _work(job, self.imported)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:  # whatever comes: this process must never go on as the server
                os._exit(code)

    def _reap(self) -> None:
        """Send the status of each job that ended to its client."""
        while True:
            try:
                worker, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if worker == 0:
                return
            for client, job in list(self.clients.items()):
                if job == worker:
                    with suppress(OSError):
                        client.sendall(f"{status}\n".encode())
                    self._forget(client)

    def _gone(self, client: Any) -> None:
        """Kill the job of a client that was killed."""
        with suppress(ProcessLookupError):
            os.killpg(self.clients[client], signal.SIGKILL)
        self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        self.selector.unregister(client)
        del self.clients[client]
        client.close()


def _received(client: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = client.recv(length - len(parts))
        if not part:
            raise ValueError("the client closed the connection")
        parts += part
    return parts


def _work(job: Mapping[str, Any], imported: Mapping[str, str]) -> int:
    """Run the command with the folder, environment and limits of the client. Returns the exit code."""
    from foundad import cli

    os.chdir(job["folder"])
    os.umask(job["umask"])
    os.environ.clear()
    os.environ.update({**imported, **job["environment"]})
    for name, values in job["limits"].items():
        resource.setrlimit(getattr(resource, name), tuple(values))
    arguments = job["arguments"]
    sys.argv = ["foundad", *arguments]
    threads = arguments[arguments.index("--threads") + 1] if "--threads" in arguments else "1"
    if threads != "1":  # the server was started with one thread
        from foundad.device import use_threads

        use_threads(int(threads))
    return cli.main(arguments)


if __name__ == "__main__":
    main()
