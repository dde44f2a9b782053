#!/usr/bin/python3
"""The keeper in the place of programs that do not come by, and programs without their keeper (T14)."""

import os
import re
import signal
import socket
import time

import harness
from harness import HOST4, HOST6, INTERFACE
from nginx import Nginx, check_keep_alive

# Accepts, reads what comes, and computes without a call of ours whenever told "compute".
SERVER = '''
import socket, sys, time
listener = socket.create_server(('::', 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print('up', flush=True)
connection, _ = listener.accept()
total = 0
while True:
    data = connection.recv(65536)
    if data.endswith(b'compute'):
        print('computing', flush=True)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            pass
        print('done', flush=True)
    elif not data:
        break
    total += len(data)
print('total', total, flush=True)
connection.sendall(b'%d' % total)
'''


class Keeper(harness.TestCase):
    def start(self):
        server = self.net.start_ustcp('python3', '-c', SERVER)
        harness.wait_until(lambda: 'up' in server.log() or not server.running(), 10, 'the server is up')
        return server

    def keeper(self):
        """(broker, driver), process numbers, once a keeper is there."""
        pattern = r'broker (\d+), driver (\d+)'
        harness.wait_until(lambda: re.search(pattern, self.net.query('hosts')), 5, 'a keeper')
        return tuple(int(word) for word in re.search(pattern, self.net.query('hosts')).groups())

    def unacknowledged(self, connection):
        """Bytes of a kernel connection that the host has not acknowledged."""
        port = connection.getsockname()[1]
        line = self.net.peer.run('ss', '-Htan', f'sport = :{port}')
        return int(line.split()[2])

    def resolves(self, address, seconds):
        """The kernel finds the host's MAC address and gets a connection, in that many seconds."""
        self.net.peer.ip('neigh', 'flush', 'dev', INTERFACE)
        before = time.monotonic()
        self.net.peer.connect(address, 7000, seconds).close()
        self.assertLess(time.monotonic() - before, seconds)

    def test_program_computes(self):
        server = self.start()
        connection = self.net.peer.connect(HOST4, 7000)
        connection.sendall(b'compute')
        harness.wait_until(lambda: 'computing' in server.log(), 5, 'the server computes')
        for address in (HOST4, HOST6, HOST4, HOST6):
            self.resolves(address, 0.9)
        connection.sendall(b'x' * 100000)
        harness.wait_until(lambda: self.unacknowledged(connection) == 0, 0.5, 'what was sent is acknowledged')
        self.assertNotIn('done', server.log())
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        self.assertEqual(connection.recv(100), b'100007')
        connection.close()

    def test_program_is_stopped(self):
        server = self.start()
        connection = self.net.peer.connect(HOST4, 7000)
        connection.sendall(b'x' * 1000)
        time.sleep(0.2)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            connection.sendall(b'x' * 100000)
            harness.wait_until(lambda: self.unacknowledged(connection) == 0, 2, 'what was sent is acknowledged')
            # Once it is found out, the keeper is there at once.
            for _ in range(5):
                connection.sendall(b'x' * 100)
                harness.wait_until(lambda: self.unacknowledged(connection) == 0, 0.2, 'and this too')
            for address in (HOST4, HOST6):
                self.resolves(address, 0.9)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        self.assertEqual(connection.recv(100), b'101500')
        connection.close()

    def test_keeper_is_killed_while_traffic_flows(self):
        size = 64 << 20
        receiver = self.net.start_ustcp('python3', '-c', SERVER)
        harness.wait_until(lambda: 'up' in receiver.log(), 10, 'the server is up')
        connection = self.net.peer.connect(HOST6, 7000)
        connection.settimeout(10)
        block, sent, kills = b'x' * (1 << 16), 0, 0
        while sent < size:
            connection.sendall(block)
            sent += len(block)
            if sent % (size // 8) == 0:
                broker, driver = self.keeper()
                for pid in (broker, driver)[kills % 2:]:
                    os.kill(pid, signal.SIGKILL)
                kills += 1
        connection.shutdown(socket.SHUT_WR)
        self.assertEqual(connection.recv(100), b'%d' % size)
        self.assertEqual(kills, 8)
        # And the one that is there now does its work.
        pid = receiver.pid
        receiver.stop(signal.SIGKILL)
        harness.wait_until(lambda: f'pid={pid},' not in self.net.query('ss', '-tanp'), 2, 'the process was cleaned up')
        connection.close()

    def test_parent_replaces_the_keeper_of_workers_without_rights(self):
        site = Nginx(self.net, self.net.start_ustcp, big_bytes=1 << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        for pid in self.keeper():
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        # No worker (www-data) may start one; but when it dies, its master (root) forks another.
        connections = [self.net.peer.connect(HOST4, 80) for _ in range(16)]
        for connection in connections:
            connection.sendall(b'GET /small HTTP/1.1\r\nHost: test\r\n\r\n')
            connection.settimeout(2)
            while b'a small page' not in connection.recv(4096):
                pass
        for worker in site.workers():
            os.kill(worker, signal.SIGKILL)
        for connection in connections:
            try:
                self.assertEqual(connection.recv(1), b'')
            except ConnectionResetError:
                pass
            connection.close()
        self.keeper()
        check_keep_alive(self, self.net.kernel, site, HOST6, 20)
        # The new workers know it, and cost nothing while they look for the one before.
        harness.wait_until(lambda: int(re.search(r'(\d+) connections', self.net.query('hosts')).group(1)) >= 3, 3,
                           'master and workers know the keeper')

    def test_idle_program_costs_little(self):
        """One that wakes ten times a second keeps the keeper from sleeping for a tick or two each time, not for good."""
        program = ('import select, socket\nlistener = socket.create_server(("0.0.0.0", 7000))\nprint("up", flush=True)\n'
                   'while True: select.select([listener], [], [], 0.1)')
        process = self.net.start_ustcp('python3', '-c', program)
        harness.wait_until(lambda: 'up' in process.log(), 10, 'the program is up')
        _, driver = self.keeper()

        def sleeps():
            found = 0
            for task in os.listdir(f'/proc/{driver}/task'):
                with open(f'/proc/{driver}/task/{task}/status', encoding='ascii') as status:
                    found += int(re.search(r'\nvoluntary_ctxt_switches:\s+(\d+)', status.read()).group(1))
            return found

        time.sleep(0.5)
        before = sleeps()
        time.sleep(3)
        self.assertLess((sleeps() - before) / 3, 100)

    def test_host_announces_its_addresses(self):
        with self.net.capture(self.net.app, INTERFACE) as capture:
            self.start()
            time.sleep(0.5)
        seen = self.net.app.run('tcpdump', '-n', '-r', capture)
        self.assertRegex(seen, rf'Request who-has {HOST4} .*tell {HOST4}')
        self.assertRegex(seen, rf'{HOST6} > ff02::1: ICMP6, neighbor advertisement')


if __name__ == '__main__':
    harness.main()
