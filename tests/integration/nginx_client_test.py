#!/usr/bin/python3
"""curl and wget on ustcp, fetching from the kernel's nginx."""

import harness
from nginx import Nginx, check_connections, check_keep_alive, check_pages


class NginxClient(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.site = Nginx(self.net, self.net.start_kernel, port=8080)
        self.site.start()
        self.net.wait_kernel_port(8080, self.site.process)
        self.addresses = (self.net.peer4, self.net.peer6)

    def test_pages(self):
        for address in self.addresses:
            with self.subTest(address=address):
                check_pages(self, self.net.ustcp, self.site, address)

    def test_keep_alive(self):
        for address in self.addresses:
            with self.subTest(address=address):
                check_keep_alive(self, self.net.ustcp, self.site, address)

    def test_connection_close(self):
        for address in self.addresses:
            with self.subTest(address=address):
                check_connections(self, self.net.ustcp, self.site, address)

    def test_refused(self):
        """A port without a listener is refused at once, by both families (E12)."""
        for address in self.addresses:
            with self.subTest(address=address):
                status, _, errors = self.net.ustcp('curl', '-sS', '--max-time', '5', harness.url(address, 9), check=False)
                self.assertEqual(status, 7, errors)
                self.assertRegex(errors, 'refused|Couldn.t connect')


if __name__ == '__main__':
    harness.main()
