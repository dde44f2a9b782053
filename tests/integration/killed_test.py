#!/usr/bin/python3
"""kill -9 of one of two processes that accept on a listener: each of its peers sees FIN or RST at once, the other's do not.

Row T14. RST where data was left unread, as with the kernel.
"""

import os
import select
import signal
import time

import harness
from harness import HOST4, HOST6

# Two processes that accept, send their number and keep the connection.
SERVER = '''
import os, socket, sys
listener = socket.create_server(('::', 7000), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        kept = []
        while True:
            connection, _ = listener.accept()
            kept.append(connection)
            connection.sendall(b'%d' % os.getpid())
    children.append(child)
print(*children, flush=True)
for _ in children:
    os.wait()
'''


class Killed(harness.TestCase):
    def start(self, address, unread):
        """(victim, {process: its connections}), with unread bytes in every one of them if asked for."""
        server = self.net.start_ustcp('python3', '-c', SERVER)
        harness.wait_until(lambda: len(server.log().split()) == 2 or not server.running(), 10, 'the server is up')
        by_process = {int(word): [] for word in server.log().split()}
        for _ in range(10):
            # Bursts, so that one process is still busy when the other is woken.
            burst = [self.net.peer.connect(address, 7000) for _ in range(8)]
            for connection in burst:
                self.addCleanup(connection.close)
                connection.settimeout(5)
                by_process[int(connection.recv(100))].append(connection)
                if unread:
                    connection.sendall(b'nobody reads this')
            if all(by_process.values()):
                break
        self.assertTrue(all(by_process.values()), 'one process got all connections')
        time.sleep(0.3)  # what was sent has been acknowledged
        return server, by_process

    def ends(self, connections):
        """How each connection ended within a second."""
        deadline, left, ends = time.monotonic() + 1.0, list(connections), []
        while left and time.monotonic() < deadline:
            for connection in select.select(left, [], [], 0.05)[0]:
                try:
                    ends.append('FIN' if connection.recv(1) == b'' else 'data')
                except ConnectionResetError:
                    ends.append('RST')
                left.remove(connection)
        return ends + ['nothing'] * len(left)

    def test_peers_hear_of_it(self):
        for address in (HOST4, HOST6):
            for unread, end in ((False, 'FIN'), (True, 'RST')):
                with self.subTest(address=address, unread=unread):
                    server, by_process = self.start(address, unread)
                    victim, survivor = by_process
                    os.kill(victim, signal.SIGKILL)
                    self.assertEqual(set(self.ends(by_process[victim])), {end})
                    self.assertEqual(select.select(by_process[survivor], [], [], 0.1)[0], [])
                    server.stop(signal.SIGKILL)
                    self.assertEqual(set(self.ends(by_process[survivor])), {end})


if __name__ == '__main__':
    harness.main()
