#!/usr/bin/python3
"""Threads of one process that take turns at reading its queue: no frame stays with one that has gone to other work.

A frame that did would be sent again by its sender after 200 ms (D2), on a link that loses none.
"""

import socket
import time

import harness
from harness import HOST4, HOST6

SERVER = '''
import socket, threading
def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(4096):
        connection.sendall(data)
listener = socket.create_server(('::', 7000), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
print('up', flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
'''


class Threads(harness.TestCase):
    def exchange(self, connections, rounds):
        """A burst on all connections at once, then the answers; how long each round took."""
        times = []
        for number in range(rounds):
            began = time.monotonic()
            message = b'%08d' % number * 8
            for connection in connections:
                connection.sendall(message)
            for connection in connections:
                got = b''
                while len(got) < len(message):
                    got += connection.recv(4096)
                self.assertEqual(got, message)
            times.append(time.monotonic() - began)
        return times

    def retransmissions(self):
        for line in self.net.query('nstat', '-a').splitlines():
            if line.startswith('TcpRetransSegs'):
                return int(line.split()[1])
        return 0

    def test_thread_for_each_connection(self):
        server = self.net.start_ustcp('/usr/bin/python3', '-c', SERVER)
        harness.wait_until(lambda: 'up' in server.log() or not server.running(), 10, 'the server is up')
        connections = [self.net.peer.connect(address, 7000) for address in (HOST4, HOST6) * 8]
        for connection in connections:
            self.addCleanup(connection.close)
            connection.settimeout(10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = self.exchange(connections, 500)
        # A machine with too much to do may make the kernel probe early; sending again regularly is something else.
        self.assertLess(self.retransmissions(), 20)
        self.assertLess(sum(duration > 0.15 for duration in times), 20)


if __name__ == '__main__':
    harness.main()
