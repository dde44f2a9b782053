#!/usr/bin/python3
"""iperf3 as client and as server on ustcp, both directions, one stream and four."""

import json

import harness
from harness import HOST4, HOST6

PORT = 5201


class Iperf3(harness.TestCase):
    def measure(self, run, address):
        for words in ([], ['-R'], ['-P', 4], ['-P', 4, '-R']):
            with self.subTest(address=address, words=words):
                output = run('iperf3', '-c', address, '-p', PORT, '-t', 1, '-J', *words, timeout=30)
                result = json.loads(output)
                self.assertNotIn('error', result)
                sent, received = (result['end'][end]['bytes'] for end in ('sum_sent', 'sum_received'))
                self.assertGreater(received, 10 << 20)
                # What is on its way when the time is over is not counted as received.
                self.assertGreater(received, 0.5 * sent)
                self.assertLessEqual(received, sent)

    def test_server(self):
        server = self.net.start_ustcp('iperf3', '-s', '-p', PORT, '--forceflush')
        harness.wait_until(lambda: 'listening' in server.log() or not server.running(), 10, 'iperf3 listens')
        for address in (HOST4, HOST6):
            self.measure(self.net.kernel, address)

    def test_client(self):
        server = self.net.start_kernel('iperf3', '-s', '-p', PORT, '--forceflush')
        harness.wait_until(lambda: 'listening' in server.log() or not server.running(), 10, 'iperf3 listens')
        for address in (self.net.peer4, self.net.peer6):
            self.measure(self.net.ustcp, address)


if __name__ == '__main__':
    harness.main()
