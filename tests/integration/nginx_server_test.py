#!/usr/bin/python3
"""nginx on ustcp, a master with two workers; curl, wget and wrk on the kernel. Rows E1, E14, T1, T3 by way of it."""

import harness
from harness import HOST4, HOST6
from nginx import Nginx, check_connections, check_keep_alive, check_pages, wrk_result


class NginxServer(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.site = Nginx(self.net, self.net.start_ustcp)
        self.site.start()
        self.net.wait_ustcp_port(80, self.site.process)

    def tearDown(self):
        self.assertEqual(self.site.complaints(), [])

    def test_pages(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                check_pages(self, self.net.kernel, self.site, address)

    def test_keep_alive(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                check_keep_alive(self, self.net.kernel, self.site, address)

    def test_connection_close(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                check_connections(self, self.net.kernel, self.site, address)

    def test_wrk_100000_requests(self):
        """64 connections, at least 100,000 requests, no error."""
        total = 0
        for round_number in range(30):
            address = (HOST4, HOST6)[round_number % 2]
            requests, errors = wrk_result(self.net.kernel('wrk', '-t', 1, '-c', 64, '-d', '4s', '--timeout', '5s',
                                                          harness.url(address, 80, '1k')))
            self.assertEqual(errors, [])
            self.assertGreater(requests, 0)
            total += requests
            if total >= 100_000 and round_number >= 1:
                return
        self.fail(f'only {total} requests')

    def test_parallel_downloads(self):
        """Eight big files at once from two workers."""
        copies = [self.net.dir / f'copy{number}' for number in range(8)]
        words = ['curl', '-sS', '--max-time', '80', '-Z', '--parallel-immediate']
        for copy in copies:
            words += ['-o', copy, harness.url(HOST4, 80, 'big')]
        self.net.kernel(*words, timeout=90)
        self.assertEqual({harness.sha256(copy) for copy in copies}, {self.site.big_sha256})


if __name__ == '__main__':
    harness.main()
