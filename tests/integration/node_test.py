#!/usr/bin/python3
"""Node on ustcp, as server and as client, http and https: many short connections beside the reading of files.

libuv closes sockets with syscall(), and a number that is free again is soon a file's: a close that is not seen would send
the file's bytes to the network, which the hashes on both sides would show."""

import harness
import programs
from harness import HOST4, HOST6, OPTIONS, make_file, url

PORT = 8443
SERVER, CLIENT = (programs.LOAD.with_name(name) for name in ('node_server.js', 'node_client.js'))
AT_A_TIME = 50


class Node(programs.TestCase):
    NEEDED = {'/usr/bin/node': 'nodejs'}

    def setUp(self):
        super().setUp()
        self.connections, self.patience = (10_000, 900) if OPTIONS.long else (1000, 200)
        self.www = self.net.dir / 'www'
        self.www.mkdir()
        self.files = [self.www / name for name in ('small', 'middle', 'large')]
        for file, size in zip(self.files, (100, 10_000, 100_000)):
            make_file(file, size, seed=size)
        make_file(self.www / 'beside', 200_000, seed=5)
        self.scripts = [self.net.dir / script.name for script in (SERVER, CLIENT)]
        for copy, script in zip(self.scripts, (SERVER, CLIENT)):
            copy.write_bytes(script.read_bytes())
        self.key, self.certificate = self.net.dir / 'key.pem', self.net.dir / 'certificate.pem'
        self.net.kernel('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                        '-subj', '/CN=test', '-days', '2', '-keyout', self.key, '-out', self.certificate)

    def start(self, start, address, tls, *variables):
        server = start('env', *variables, 'node', self.scripts[0], address, PORT, self.www, *([self.key, self.certificate] if tls else []))
        harness.wait_until(lambda: 'ready' in server.log() or not server.running(), 20, 'server listens')
        return server

    def url(self, address, tls):
        return url(address, PORT).replace('http:', 'https:' if tls else 'http:')

    def end(self, server):
        self.assertTrue(server.running(), server.log())
        server.stop(patience=20)
        self.assertEqual((server.wait(1), server.log()), (0, 'ready\nreads beside: many\n'))

    def serve(self, address, tls, *variables):
        server = self.start(self.start_server, address, tls, *variables)
        self.load(self.url(address, tls), self.files, '--connections', self.connections, '--at-a-time', AT_A_TIME,
                  timeout=self.patience)
        self.load(self.url(address, tls), self.files, '--connections', AT_A_TIME, '--at-a-time', AT_A_TIME, '--requests', 20)
        self.end(server)

    def fetch(self, address, tls):
        server = self.start(self.start_kernel_server, address, tls)
        answer = self.client('node', self.scripts[1], self.url(address, tls), self.connections, AT_A_TIME, *self.files,
                             timeout=self.patience)
        self.assertEqual(answer, f'{self.connections} right\n')
        self.end(server)

    def test_http_server(self):
        self.serve(HOST4, False)

    def test_http_server_ipv6(self):
        self.serve(HOST6, False)

    def test_https_server(self):
        self.serve(HOST4, True)

    def test_http_server_told_to_use_a_ring(self):
        """ustcp refuses it: epoll_ctl and the files go the other way."""
        self.serve(HOST4, False, 'UV_USE_IO_URING=1')

    def test_http_client(self):
        self.fetch(self.net.peer4, False)

    def test_https_client(self):
        self.fetch(self.net.peer6, True)


if __name__ == '__main__':
    harness.main()
