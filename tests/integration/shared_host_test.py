#!/usr/bin/python3
"""Unrelated processes on one host share its addresses and ports, as processes of one machine do.

Each case runs on the kernel first, with both processes on the peer's side: the outputs must be the same.
"""

import re
import signal

import harness
from harness import HOST4, HOST6, make_file, sha256, url
from nginx import Nginx, wrk_result

PYTHON = '/usr/bin/python3'
FAMILY = 'import socket, sys, time; F = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET\n'
# Holds a port until it is told to end.
HOLD = FAMILY + '''
s = socket.socket(F)
for option in sys.argv[4:]:
    s.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
s.bind((sys.argv[1], int(sys.argv[2])))
if sys.argv[3] == "listen":
    s.listen()
print("held", flush=True)
time.sleep(60)
'''
# Says what bind, listen and a connect to the port come to.
TRY = FAMILY + '''
import errno
def show(what, call, *arguments):
    try:
        call(*arguments)
        print(what, "done")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
s = socket.socket(F)
for option in sys.argv[4:]:
    s.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
show("bind", s.bind, (sys.argv[1], int(sys.argv[2])))
if sys.argv[3] == "listen":
    show("listen", s.listen)
c = socket.socket(F)
c.settimeout(5)
show("connect", c.connect, (sys.argv[1], int(sys.argv[2])))
'''
# Sends what it is sent back, until the end.
ECHO = FAMILY + '''
l = socket.create_server((sys.argv[1], int(sys.argv[2])), family=F)
print("held", flush=True)
while True:
    c, peer = l.accept()
    print("from", peer[0], flush=True)
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
'''
# 8 MiB there and back, both directions at once; then the end in order, and who it talked to.
TALK = FAMILY + '''
import hashlib, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
print("names", s.getsockname()[0], s.getpeername()[0], s.getpeername()[1] == int(sys.argv[2]))
data = hashlib.shake_256(b"x").digest(8 << 20)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send)
t.start()
got = bytearray()
while piece := s.recv(65536):
    got += piece
t.join()
print("same", bytes(got) == data)
'''
# Keeps a connection and says how it ends.
END = FAMILY + '''
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
s.sendall(b"x")
print(s.recv(1), flush=True)
if len(sys.argv) > 3:
    s.sendall(b"unread" * 1000)
    print("sent", flush=True)
try:
    print("end", s.recv(1))
except OSError as error:
    print("end", type(error).__name__)
'''
# Accepts one connection, answers one byte, and waits to be killed.
ANSWER_ONE = FAMILY + '''
l = socket.create_server((sys.argv[1], int(sys.argv[2])), family=F)
print("held", flush=True)
c, _ = l.accept()
c.sendall(c.recv(1))
time.sleep(60)
'''


class SharedHost(harness.TestCase):
    def sides(self):
        """(name, start, run, IPv4 address, IPv6 address) of the kernel's TCP and of ustcp."""
        return (('kernel', self.net.start_kernel, self.net.kernel, self.net.peer4, self.net.peer6),
                ('ustcp', self.net.start_ustcp, self.net.ustcp, HOST4, HOST6))

    def hold(self, start, program, *words):
        process = start(PYTHON, '-u', '-c', program, *words)
        harness.wait_until(lambda: 'held' in process.log() or not process.running(), 10, 'the port is held')
        self.assertTrue(process.running(), process.log())
        return process

    def both(self, case):
        """Runs case(start, run, address) on the kernel and on ustcp; the results must be equal, and are returned."""
        results = {}
        for name, start, run, *addresses in self.sides():
            results[name] = [case(start, run, address) for address in addresses]
        self.assertEqual(results['ustcp'], results['kernel'])
        return results['ustcp']

    def test_ports(self):
        """E13 across processes: what one holds, another cannot have, unless both say that it may."""
        for held_by, tried_with in (([], []), (['SO_REUSEADDR'], ['SO_REUSEADDR']), (['SO_REUSEPORT'], ['SO_REUSEPORT']),
                                    (['SO_REUSEPORT'], []), ([], ['SO_REUSEPORT'])):
            for state in ('bound', 'listen'):
                with self.subTest(held_by=held_by, tried_with=tried_with, state=state):
                    def case(start, run, address):
                        holder = self.hold(start, HOLD, address, 7000, state, *held_by)
                        try:
                            return run(PYTHON, '-c', TRY, address, 7000, state, *tried_with)
                        finally:
                            holder.stop(signal.SIGKILL)
                    result = self.both(case)
                    if not held_by or not tried_with:
                        self.assertIn('bind EADDRINUSE', result[0])

    def test_wildcards_and_families(self):
        """A dual-stack wildcard takes the port in both families, for every process."""
        for held, tried in (('::', HOST4), ('0.0.0.0', HOST4), ('0.0.0.0', '::'), ('::', '0.0.0.0'), (HOST4, '::'),
                            (HOST4, HOST6), (HOST6, '0.0.0.0')):
            with self.subTest(held=held, tried=tried):
                def case(start, run, address):
                    own = {HOST4: self.net.peer4, HOST6: self.net.peer6} if run == self.net.kernel else {}
                    holder = self.hold(start, HOLD, own.get(held, held), 7000, 'listen')
                    try:
                        return run(PYTHON, '-c', TRY, own.get(tried, tried), 7000, 'listen')
                    finally:
                        holder.stop(signal.SIGKILL)
                self.both(case)

    def test_ports_are_free_again(self):
        """After a holder was killed, at once."""
        def case(start, run, address):
            holder = self.hold(start, HOLD, address, 7000, 'listen')
            holder.stop(signal.SIGKILL)
            return run(PYTHON, '-c', TRY, address, 7000, 'listen')
        self.both(case)

    def test_connections_between_processes(self):
        def case(start, run, address):
            server = self.hold(start, ECHO, address, 7000)
            output = run(PYTHON, '-c', TALK, address, 7000)
            harness.wait_until(lambda: 'from' in server.log(), 10, 'the server tells its peer')
            peer = re.search('from (.*)', server.log()).group(1)
            server.stop(signal.SIGKILL)
            return [text.replace(address, 'ADDRESS') for text in (output, peer)]
        self.assertEqual(self.both(case)[0], ['names ADDRESS ADDRESS True\nsame True\n', 'ADDRESS'])

    def test_both_in_one_process(self):
        """A program that connects to itself."""
        program = FAMILY + '''
l = socket.create_server((sys.argv[1], 7000), family=F)
c = socket.create_connection((sys.argv[1], 7000), timeout=10)
s, peer = l.accept()
print(peer[0] == sys.argv[1], s.getpeername() == c.getsockname(), c.getpeername() == s.getsockname())
c.sendall(b"ping"); print(s.recv(4)); s.close(); print(c.recv(4))
'''
        self.both(lambda start, run, address: run(PYTHON, '-c', program, address))

    def test_self_connect(self):
        """A connect to the very port it is bound to: a simultaneous open with oneself (E10)."""
        program = FAMILY + '''
s = socket.socket(F); s.settimeout(5)
s.bind((sys.argv[1], 7000)); s.connect((sys.argv[1], 7000))
s.sendall(b"me"); print(s.recv(2), s.getpeername() == s.getsockname())
'''
        self.both(lambda start, run, address: run(PYTHON, '-c', program, address))

    def test_killed_peer(self):
        """kill -9 of one end: the other, a process of the same host, sees the end; a reset when data was left unread."""
        for unread in ([], ['unread']):
            with self.subTest(unread=unread):
                def case(start, run, address):
                    server = self.hold(start, ANSWER_ONE, address, 7000)
                    client = start(PYTHON, '-u', '-c', END, address, 7000, *unread)
                    wanted = 'sent' if unread else "b'x'"
                    harness.wait_until(lambda: wanted in client.log() or not client.running(), 10, 'they talk')
                    server.stop(signal.SIGKILL)
                    self.assertEqual(client.wait(10), 0)
                    return client.log()
                self.both(case)

    def test_nginx_and_clients_on_one_host(self):
        """nginx with two workers, and curl and wrk, all of them on the host: nothing of it goes over the TAP."""
        site = Nginx(self.net, self.net.start_ustcp, big_bytes=32 << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        copy = self.net.dir / 'copy'
        before = self.packets()
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                self.net.ustcp('curl', '-sS', '--max-time', '60', '-o', copy, url(address, 80, 'big'))
                self.assertEqual(sha256(copy), site.big_sha256)
                requests, errors = wrk_result(self.net.ustcp('wrk', '-t', 1, '-c', 16, '-d', '2s', '--timeout', '5s',
                                                             url(address, 80, '1k')))
                self.assertEqual(errors, [])
                self.assertGreater(requests, 100)
        self.assertLess(self.packets() - before, 1000)
        self.assertEqual(site.complaints(), [])

    def packets(self):
        """Packets that the TAP has carried, both ways."""
        rows = self.net.app.run('cat', '/proc/net/dev').splitlines()
        words = next(row for row in rows if row.strip().startswith(harness.INTERFACE + ':')).split(':')[1].split()
        return int(words[1]) + int(words[9])

    def test_files_both_ways(self):
        """ncat to ncat."""
        file, copy = self.net.dir / 'file', self.net.dir / 'copy'
        digest = make_file(file, 16 << 20)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                family = '-6' if ':' in address else '-4'
                server = self.net.start_ustcp('sh', '-c', f'exec ncat -v {family} -l 7000 --recv-only >{copy}')
                harness.wait_until(lambda: 'Listening' in server.log() or not server.running(), 10, 'ncat listens')
                self.net.ustcp('sh', '-c', f'exec ncat --send-only {address} 7000 <{file}')
                self.assertEqual(server.wait(20), 0)
                self.assertEqual(sha256(copy), digest)


if __name__ == '__main__':
    harness.main()
