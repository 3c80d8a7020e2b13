"""A stdio upstream's process: it passes lines on to a server of the test process, and starts at once.

``python -I -S child.py PORT``. Standard library only.
"""

import os
import socket
import sys
import threading


def copy_answers(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    os._exit(0)


def main(port: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    copying = threading.Thread(target=copy_answers, args=(connection,))
    copying.start()
    for line in sys.stdin.buffer:
        connection.sendall(line)
    connection.shutdown(socket.SHUT_WR)
    copying.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
