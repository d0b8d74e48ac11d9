"""Runs ``foundad <arguments>`` in a fork of a process that has imported what it needs, or else in a new process.

    python -I -S foundad/warm/client.py FOLDER PID <arguments>

The workflow calls it for every job instead of ``python -m foundad``. FOLDER holds the sockets of the servers of one
run. PID is the Snakemake process of that run; the servers end when it ends. The first job that finds no server starts
one. If anything goes wrong before the job starts, the job runs in a new process. This file imports only a few modules
of the standard library, so it starts in a few milliseconds.

The job gets the arguments, environment, folder, limits and standard streams of this process. This process passes
signals on to the job. If this process is killed, the job dies. When the job ends, this process ends with the same
status.
"""

import fcntl
import json
import os
import resource
import signal
import socket
import sys

HEAVY = ("features", "bank", "fit", "observe")  # stages that use torch
COLD = ("efficiency",)  # measures the memory of its own process, which a fork shares with the server
LIMITS = ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NOFILE")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # passed on to the job


def main() -> None:
    """Give the job to a server, wait for it, and end with its status. Without a server, run it in this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before the job starts, an interrupt ends this process silently
    folder, parent, *arguments = sys.argv[1:]
    kind = "heavy" if arguments and arguments[0] in HEAVY else "light"
    connection = None if arguments and arguments[0] in COLD else connected(folder, kind, parent)
    if connection is None:
        cold(arguments)
    else:
        hand_over(connection, arguments)


def cold(arguments: list[str]) -> None:
    """Replace this process by ``python -m foundad``."""
    os.execv(sys.executable, [sys.executable, "-m", "foundad", *arguments])


def connected(folder: str, kind: str, parent: str) -> socket.socket | None:
    """A connection to the server of this kind, which is started if none answers. None if that fails."""
    path = f"{folder}/{kind}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid != os.getuid():
            return None
        connection = connection_to(path)
        if connection is None:
            with open(f"{path}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # held until the server listens
                connection = connection_to(path)  # another client may have started it meanwhile
                if connection is None and start(folder, kind, parent):
                    connection = connection_to(path)
        return connection
    except OSError:
        return None


def connection_to(path: str) -> socket.socket | None:
    """A connection to the socket at ``path``, None where nobody listens: a killed server leaves its socket behind."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def start(folder: str, kind: str, parent: str) -> bool:
    """Start a server in its own session, so that it gets no signals of this process. Returns whether it listens."""
    ready, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.set_inheritable(theirs, True)
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            server = [sys.executable, "-m", "foundad.warm.server", folder, kind, parent, str(theirs)]
            os.execve(sys.executable, server, os.environ | threads | {"OPENBLAS_THREAD_TIMEOUT": "4"})
        os._exit(0)
    os.wait()
    os.close(theirs)
    listens = bool(os.read(ready, 1))  # empty if the server died
    os.close(ready)
    return listens


def hand_over(connection: socket.socket, arguments: list[str]) -> None:
    """Send the job, pass signals on to it, and end with its status."""
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}
    job = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "limits": limits}
    umask = os.umask(0)
    os.umask(umask)
    text = json.dumps(job | {"umask": umask}).encode("utf-8", "surrogateescape")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # blocked until it is known which process must get them
    try:
        socket.send_fds(connection, [len(text).to_bytes(8, "little")], [0, 1, 2])
        connection.sendall(text)
        worker = int(_line(connection))
    except (OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        cold(arguments)
        return
    for number in SIGNALS:
        signal.signal(number, lambda sent, _: os.kill(worker, sent))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        status = int(_line(connection))
    except (OSError, ValueError):  # the server was killed, and its jobs died with it
        status = int(signal.SIGKILL)
    if os.WIFSIGNALED(status):
        fatal = os.WTERMSIG(status)
        if fatal != signal.SIGKILL:
            signal.signal(fatal, signal.SIG_DFL)
        os.kill(os.getpid(), fatal)
    sys.exit(os.waitstatus_to_exitcode(status))


def _line(connection: socket.socket) -> bytes:
    """The next line from the server, with its newline."""
    said = b""
    while not said.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise ValueError("the server closed the connection")
        said += part
    return said


if __name__ == "__main__":
    main()
