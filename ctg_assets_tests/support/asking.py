"""A program that has `forking.py` run another: `asking.py SOCKET PROGRAM ARGUMENT…`. Only quick imports here.

It hands on its streams, environment and folder, later the signals that a person sends, and ends as the other ends.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Ask, wait, and end in the same way."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(sys.argv[1])
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    asked = {"arguments": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109 - pathlib is slow to import
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    process = int(server.recv(100))
    # Nothing stays open for writing but in the process itself.
    for stream in (0, 1, 2):
        os.close(stream)
    for number in signals:
        signal.signal(number, lambda number, _: os.killpg(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    code = int(server.recv(100))
    if code < 0:
        if -code in signals:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
