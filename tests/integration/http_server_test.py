#!/usr/bin/python3
"""python3 -m http.server on ustcp with curl on the kernel, and the other way round."""

import harness
from harness import HOST4, HOST6, make_file, sha256, url

PYTHON = '/usr/bin/python3'
BYTES = 16 << 20


class HttpServer(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.www = self.net.dir / 'www'
        self.www.mkdir()
        self.digest = make_file(self.www / 'file', BYTES)

    def serve(self, start, address, port):
        return start(PYTHON, '-u', '-m', 'http.server', port, '--bind', address, '--directory', self.www)

    def fetch(self, run, address, port):
        copy = self.net.dir / 'copy'
        run('curl', '-sS', '--max-time', '30', '-o', copy, url(address, port, 'file'))
        self.assertEqual(sha256(copy), self.digest)
        listing = run('curl', '-sS', '--max-time', '30', '-Z', *[url(address, port)] * 20)
        self.assertEqual(listing.count('<a href="file">'), 20)
        status, _, errors = run('curl', '-sSf', '--max-time', '30', url(address, port, 'none'), check=False)
        self.assertEqual(status, 22, errors)

    def test_server(self):
        for port, bound, address in ((8000, '0.0.0.0', HOST4), (8001, '::', HOST6), (8002, HOST4, HOST4),
                                     (8003, HOST6, HOST6)):
            with self.subTest(bound=bound):
                server = self.serve(self.net.start_ustcp, bound, port)
                harness.wait_until(lambda: 'Serving HTTP' in server.log() or not server.running(), 10, 'server listens')
                self.fetch(self.net.kernel, address, port)

    def test_dual_stack(self):
        """Bound to [::] the server clears IPV6_V6ONLY and answers IPv4 clients too (E13)."""
        server = self.serve(self.net.start_ustcp, '::', 8000)
        self.net.wait_ustcp_port(8000, server)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                self.fetch(self.net.kernel, address, 8000)

    def test_client(self):
        for port, address in ((8000, self.net.peer4), (8001, self.net.peer6)):
            with self.subTest(address=address):
                server = self.serve(self.net.start_kernel, address, port)
                harness.wait_until(lambda: 'Serving HTTP' in server.log() or not server.running(), 10, 'server listens')
                self.fetch(self.net.ustcp, address, port)

    def test_urllib(self):
        """Python's own client on ustcp."""
        server = self.serve(self.net.start_kernel, self.net.peer4, 8000)
        self.net.wait_kernel_port(8000, server)
        program = ('import hashlib, sys, urllib.request; '
                   'print(hashlib.sha256(urllib.request.urlopen(sys.argv[1], timeout=20).read()).hexdigest())')
        self.assertEqual(self.net.ustcp(PYTHON, '-c', program, url(self.net.peer4, 8000, 'file')).strip(), self.digest)


if __name__ == '__main__':
    harness.main()
