#!/usr/bin/python3
"""wrk on ustcp as the client of the kernel's nginx."""

import harness
from nginx import Nginx, wrk_result


class Wrk(harness.TestCase):
    def test_wrk(self):
        site = Nginx(self.net, self.net.start_kernel, port=8080, big_bytes=1 << 20)
        site.start()
        self.net.wait_kernel_port(8080, site.process)
        for address in (self.net.peer4, self.net.peer6):
            for threads, header in ((1, 'X-Test: keep-alive'), (2, 'X-Test: keep-alive'), (2, 'Connection: close')):
                with self.subTest(address=address, threads=threads, header=header):
                    output = self.net.ustcp('wrk', '-t', threads, '-c', 32, '-d', '2s', '--timeout', '5s',
                                            '-H', header, harness.url(address, 8080, '1k'))
                    requests, errors = wrk_result(output)
                    self.assertEqual(errors, [])
                    self.assertGreater(requests, 200)


if __name__ == '__main__':
    harness.main()
