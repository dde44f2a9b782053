#!/usr/bin/python3
"""Sockets that a program inherits, as servers in use pass them on: inetd's two ways, socket activation, a shell between,
a process for each connection. The programs that inherit know nothing of it: cat, tr, Python."""

import hashlib
import socket

import harness
from harness import HOST4, HOST6

PYTHON = '/usr/bin/python3'
LISTEN = '''
import os, signal, socket, subprocess, sys
l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
'''
# A program for each connection, which is its standard input and output.
NOWAIT = LISTEN + '''
while True:
    c, _ = l.accept()
    subprocess.Popen(sys.argv[1:], stdin=c, stdout=c)
    c.close()
'''
# One program, which inherits the listener as its standard input and accepts by itself.
WAIT = LISTEN + '''
subprocess.run(sys.argv[1:], stdin=l)
'''
# As NOWAIT, for another user: what it starts may join by nothing but being the same process.
OTHER_USER = LISTEN + '''
while True:
    c, _ = l.accept()
    if os.fork() == 0:
        os.dup2(c.fileno(), 0)
        os.dup2(c.fileno(), 1)
        os.setgroups([])
        os.setgid(64341)
        os.setuid(64341)
        os.execvp(sys.argv[1], sys.argv[1:])
    c.close()
    os.waitpid(-1, os.WNOHANG)
'''
# Socket activation: descriptor 3 and LISTEN_FDS.
ACTIVATE = LISTEN + '''
os.dup2(l.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
'''
ACCEPT_AND_ECHO = '''
import socket, sys
l = socket.socket(fileno=int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    c, _ = l.accept()
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
'''
FORKING = '''
import socket, socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ForkingTCPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
    allow_reuse_address = True
with Server(("::", 7000), Echo) as server:
    print("ready", flush=True)
    server.serve_forever()
'''


class Inherit(harness.TestCase):
    def start(self, *words):
        server = self.net.start_ustcp(*words)
        harness.wait_until(lambda: 'ready' in server.log() or not server.running(), 10, 'the server listens')
        self.assertTrue(server.running(), server.log())
        return server

    def exchange(self, address, data, expected=None, port=7000):
        """Sends lines, ends its side, and wants the answer and the end."""
        connection = self.net.peer.connect(address, port, 10)
        with connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received = bytearray()
            while piece := connection.recv(65536):
                received += piece
        self.assertEqual(bytes(received), data if expected is None else expected)

    def both(self, data, expected=None, times=5):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                for _ in range(times):
                    self.exchange(address, data, expected)

    def test_inetd_nowait(self):
        self.start(PYTHON, '-u', '-c', NOWAIT, 'cat')
        self.both(b'a line\n')
        self.both(hashlib.shake_256(b'inetd').digest(1 << 20), times=2)

    def test_inetd_nowait_through_a_shell(self):
        """The shell starts its commands with the socket as their input and output."""
        self.start(PYTHON, '-u', '-c', NOWAIT, 'sh', '-c', 'echo first; tr a-z A-Z; echo last')
        self.both(b'a line\n', b'first\nA LINE\nlast\n')

    def test_inetd_for_another_user(self):
        server = self.start(PYTHON, '-u', '-c', OTHER_USER, 'sh', '-c', 'id -u; tr a-z A-Z')
        self.both(b'a line\n', b'64341\nA LINE\n')
        self.assertEqual(server.log(), 'ready\n')

    def test_inetd_wait(self):
        self.start(PYTHON, '-u', '-c', WAIT, PYTHON, '-c', ACCEPT_AND_ECHO, '0', '10')
        self.both(b'a line\n')

    def test_socket_activation(self):
        self.start(PYTHON, '-u', '-c', ACTIVATE, PYTHON, '-c', ACCEPT_AND_ECHO, '3', '10')
        self.both(b'a line\n')

    def test_forking_server(self):
        self.start(PYTHON, '-u', '-c', FORKING)
        self.both(b'one\ntwo\n', times=20)

    def test_ncat_exec(self):
        server = self.net.start_ustcp('ncat', '-v', '-l', '-k', '7000', '--sh-exec', 'head -n 1 | tr a-z A-Z')
        harness.wait_until(lambda: 'Listening' in server.log() or not server.running(), 10, 'ncat listens')
        for address in (HOST4, HOST6):
            with self.subTest(address=address), self.net.peer.connect(address, 7000, 10) as connection:
                # Its end stays open: ncat would take a half-closed connection for the end of all.
                connection.sendall(b'a line\n')
                self.assertEqual(connection.makefile('rb').read(), b'A LINE\n')

    def test_nothing_stays(self):
        """When all is over, no socket is left but the listener: every program's references have gone with it."""
        self.start(PYTHON, '-u', '-c', NOWAIT, 'cat')
        self.both(b'a line\n', times=20)

        def rows():
            text = self.net.host.run('ss', '-tanH') if harness.OPTIONS.native else self.net.query('ss', '-tanH')
            return [line.split()[0] for line in text.splitlines() if line.strip()]
        harness.wait_until(lambda: set(rows()) <= {'LISTEN', 'TIME-WAIT'}, 5, 'the connections are gone')
        self.assertEqual(rows().count('LISTEN'), 1)


if __name__ == '__main__':
    harness.main()
