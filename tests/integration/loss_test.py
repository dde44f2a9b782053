#!/usr/bin/python3
"""Bulk transfer through random loss, both ways (D1 to D4): bytes intact, and no malformed frame in a capture.

A middle namespace drops 1 % of the TCP packets that it forwards, in both directions. USTCP_LOSS_MIB sets the size of
each transfer; the long run uses 2048.
"""

import os

import harness
from harness import HOST4, HOST6, capture_faults, make_file, sha256, url
from nginx import Nginx

MIB = int(os.environ.get('USTCP_LOSS_MIB', '32'))
# Far below what any working recovery reaches with 1 % loss and a round trip below a millisecond.
SLOWEST_MIB_PER_SECOND = 1


class Loss(harness.TestCase):
    TOPOLOGY, LOSS_PERCENT = 'routed', 1.0
    TIMEOUT = 30 + MIB // SLOWEST_MIB_PER_SECOND

    def check_capture(self, path):
        good, faults = capture_faults(path)
        self.assertEqual(faults, [])
        self.assertGreater(good, 500)

    def download(self, run, address, port, digest):
        copy = self.net.dir / 'copy'
        before = self.net.dropped()
        run('curl', '-sS', '--max-time', self.TIMEOUT, '-o', copy, url(address, port, 'big'), timeout=self.TIMEOUT + 10)
        self.assertEqual(sha256(copy), digest)
        self.assertGreater(self.net.dropped(), before, 'the middle dropped nothing: no test of recovery')
        copy.unlink()

    def test_from_ustcp(self):
        site = Nginx(self.net, self.net.start_ustcp, big_bytes=MIB << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                with self.net.capture(self.net.peer, 'to-middle') as path:
                    self.download(self.net.kernel, address, 80, site.big_sha256)
                self.check_capture(path)

    def test_to_ustcp(self):
        site = Nginx(self.net, self.net.start_kernel, port=8080, big_bytes=MIB << 20)
        site.start()
        self.net.wait_kernel_port(8080, site.process)
        for address in (self.net.peer4, self.net.peer6):
            with self.subTest(address=address):
                with self.net.capture(self.net.peer, 'to-middle') as path:
                    self.download(self.net.ustcp, address, 8080, site.big_sha256)
                self.check_capture(path)

    def test_upload_both_at_once(self):
        """One connection, both directions at once."""
        size = min(MIB, 64) << 20
        near, far = self.net.dir / 'near', self.net.dir / 'far'
        digests = make_file(near, size, seed=2), make_file(far, size, seed=3)
        got = self.net.dir / 'got'
        server = self.net.start_ustcp('sh', '-c', f'exec ncat -v -l 7000 <{near} >{got}-ustcp')
        harness.wait_until(lambda: 'Listening' in server.log() or not server.running(), 10, 'ncat listens')
        self.net.kernel('sh', '-c', f'exec ncat {HOST4} 7000 <{far} >{got}-kernel', timeout=self.TIMEOUT)
        self.assertEqual(server.wait(self.TIMEOUT), 0)
        self.assertEqual(sha256(f'{got}-kernel'), digests[0])
        self.assertEqual(sha256(f'{got}-ustcp'), digests[1])


if __name__ == '__main__':
    harness.main()
