#!/usr/bin/python3
"""nginx on ustcp under load: reload loses no request, and a killed worker leaves no peer hanging (T14)."""

import os
import select
import signal
import time

import harness
from harness import HOST4, HOST6
from nginx import Nginx, wrk_result

REQUEST = b'GET /small HTTP/1.1\r\nHost: test\r\n\r\n'


def ask(connection):
    """One request on an open connection; the number of the worker that answered."""
    connection.sendall(REQUEST)
    answer = b''
    while b'a small page' not in answer:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionResetError('closed in place of an answer')
        answer += piece
    for line in answer.split(b'\r\n'):
        if line.startswith(b'X-Worker: '):
            return int(line.split()[1])
    raise AssertionError(f'no X-Worker in {answer!r}')


class NginxReload(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.site = Nginx(self.net, self.net.start_ustcp, big_bytes=1 << 20)
        self.site.start()
        self.net.wait_ustcp_port(80, self.site.process)

    def reload(self):
        """Reloads, and waits until no worker of before is left."""
        before = set(self.site.workers())
        self.net.ustcp(*self.site.words('-s', 'reload'))
        harness.wait_until(lambda: len(self.site.workers()) == 2 and not before & set(self.site.workers()), 20,
                           'new workers have replaced the old ones')

    def test_reload_under_load(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                load = self.net.start_kernel('wrk', '-t', 1, '-c', 32, '-d', '6s', '--timeout', '5s',
                                             '-H', 'Connection: close', harness.url(address, 80, 'small'))
                reloads = 0
                while load.running() and reloads < 5:
                    time.sleep(0.8)
                    self.reload()
                    reloads += 1
                self.assertEqual(load.wait(30), 0)
                requests, errors = wrk_result(load.log())
                self.assertEqual(errors, [])
                self.assertGreater(requests, 500)
                self.assertGreater(reloads, 1)
        self.assertEqual(self.site.complaints(), [])

    def connections_by_worker(self, address):
        """Idle keep-alive connections of the kernel's, by the worker that serves them; both workers have some."""
        by_worker = {}
        for _ in range(20):
            # A burst, so that one worker is still busy when the other is woken.
            burst = [self.net.peer.connect(address, 80) for _ in range(16)]
            for connection in burst:
                self.addCleanup(connection.close)
                connection.sendall(REQUEST)
            for connection in burst:
                answer = b''
                while b'a small page' not in answer:
                    piece = connection.recv(4096)
                    self.assertNotEqual(piece, b'')
                    answer += piece
                worker = int(answer.split(b'X-Worker: ')[1].split(b'\r\n')[0])
                by_worker.setdefault(worker, []).append(connection)
            if len(by_worker) == 2:
                return by_worker
        self.fail(f'all connections went to one worker: {list(by_worker)}')

    def test_killed_worker(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                by_worker = self.connections_by_worker(address)
                victim, survivor = sorted(by_worker)
                os.kill(victim, signal.SIGKILL)
                deadline = time.monotonic() + 1.0
                open_still = list(by_worker[victim])
                while open_still and time.monotonic() < deadline:
                    for connection in select.select(open_still, [], [], 0.05)[0]:
                        try:
                            self.assertEqual(connection.recv(100), b'')
                        except ConnectionResetError:
                            pass
                        open_still.remove(connection)
                self.assertEqual(len(open_still), 0, 'connections of the killed worker that saw neither FIN nor RST')
                self.assertEqual({ask(connection) for connection in by_worker[survivor]}, {survivor})
                # The master puts a new worker in its place, and new connections are served all along.
                harness.wait_until(lambda: len(self.site.workers()) == 2, 10, 'the master starts another worker')
                for _ in range(50):
                    with self.net.peer.connect(address, 80) as connection:
                        self.assertIn(ask(connection), self.site.workers())


if __name__ == '__main__':
    harness.main()
