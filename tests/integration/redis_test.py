#!/usr/bin/python3
"""redis-server, redis-cli and redis-benchmark: each on ustcp, the other side on the kernel."""

import hashlib
import re

import harness
from harness import HOST4, HOST6

PORT = 6379


class Redis(harness.TestCase):
    def start(self, start, *addresses):
        return start('redis-server', '--port', PORT, '--bind', *addresses, '--protected-mode', 'no', '--save', '',
                     '--dir', self.net.dir, '--daemonize', 'no')

    def use(self, run, address):
        def cli(*words, **more):
            return run('redis-cli', '-h', address, '-p', PORT, *words, **more).strip()

        self.assertEqual(cli('ping'), 'PONG')
        self.assertEqual(cli('set', 'key', 'value'), 'OK')
        self.assertEqual(cli('get', 'key'), 'value')
        # One big value, then a thousand commands down a pipe.
        big = hashlib.shake_256(b'redis').hexdigest(1 << 20)
        self.assertEqual(cli('-x', 'set', 'big', stdin=big), 'OK')
        self.assertEqual(cli('get', 'big'), big)
        cli('del', 'counter')
        answers = cli(stdin='incr counter\n' * 1000).split()
        self.assertEqual(answers, [str(number) for number in range(1, 1001)])

    def benchmark(self, run, address):
        output = run('redis-benchmark', '-h', address, '-p', PORT, '-n', 20000, '-c', 50, '-P', 4, '-d', 100, '-q',
                     '-t', 'ping,set,get,lpush,mset', timeout=120)
        rates = re.findall(r'([\d.]+) requests per second', output)
        self.assertEqual(len(rates), 6, output)
        self.assertNotIn('rror', output)

    def test_server(self):
        server = self.start(self.net.start_ustcp, '0.0.0.0', '::')
        self.net.wait_ustcp_port(PORT, server)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                self.use(self.net.kernel, address)
                self.benchmark(self.net.kernel, address)
        self.net.kernel('redis-cli', '-h', HOST4, 'shutdown', 'nosave', check=False)
        self.assertEqual(server.wait(10), 0)

    def test_client(self):
        server = self.start(self.net.start_kernel, self.net.peer4, self.net.peer6)
        self.net.wait_kernel_port(PORT, server)
        for address in (self.net.peer4, self.net.peer6):
            with self.subTest(address=address):
                self.use(self.net.ustcp, address)
                self.benchmark(self.net.ustcp, address)


if __name__ == '__main__':
    harness.main()
