#!/usr/bin/python3
"""ncat on ustcp and on the kernel: a file each way, and a half-closed connection."""

import harness
from harness import HOST4, HOST6, make_file, sha256

BYTES = 8 << 20


PYTHON = '/usr/bin/python3'
# Reads to the end of what one client sends; answers with as many digits as it was sent bytes, beginning with their
# number; then leaves.
COUNT_AND_ANSWER = '''
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])),
                                family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening")
connection, _ = listener.accept()
total = 0
while piece := connection.recv(65536):
    total += len(piece)
connection.sendall(b"%020d" % total + b"0" * (total - 20))
connection.close()
'''


class Ncat(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.file = self.net.dir / 'file'
        self.digest = make_file(self.file, BYTES)
        self.copy = self.net.dir / 'copy'

    def shell(self, run, script, **more):
        return run('sh', '-c', script, **more)

    def transfer(self, start, run, address, port):
        """Listener receives, then listener sends."""
        family = '-6' if ':' in address else '-4'
        listener = start('sh', '-c', f'exec ncat -v {family} -l {port} --recv-only >{self.copy}')
        harness.wait_until(lambda: 'Listening' in listener.log() or not listener.running(), 10, 'ncat listens')
        self.shell(run, f'exec ncat --send-only {address} {port} <{self.file}')
        self.assertEqual(listener.wait(20), 0)
        self.assertEqual(sha256(self.copy), self.digest)
        self.copy.unlink()
        listener = start('sh', '-c', f'exec ncat -v {family} -l {port} --send-only <{self.file}')
        harness.wait_until(lambda: 'Listening' in listener.log() or not listener.running(), 10, 'ncat listens')
        self.shell(run, f'exec ncat --recv-only {address} {port} >{self.copy}')
        self.assertEqual(listener.wait(20), 0)
        self.assertEqual(sha256(self.copy), self.digest)
        self.copy.unlink()

    def test_server(self):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                self.transfer(self.net.start_ustcp, self.net.kernel, address, 7000)

    def test_client(self):
        for address in (self.net.peer4, self.net.peer6):
            with self.subTest(address=address):
                self.transfer(self.net.start_kernel, self.net.ustcp, address, 7000)

    def test_half_close(self):
        """The client shuts its sending side down and still gets the whole answer (T1)."""
        for start, run, addresses in ((self.net.start_ustcp, self.net.kernel, (HOST4, HOST6)),
                                      (self.net.start_kernel, self.net.ustcp, (self.net.peer4, self.net.peer6))):
            for address in addresses:
                with self.subTest(address=address):
                    server = start(PYTHON, '-u', '-c', COUNT_AND_ANSWER, address, 7001)
                    harness.wait_until(lambda: 'listening' in server.log() or not server.running(), 10, 'it listens')
                    digits = self.shell(run, f'exec ncat {address} 7001 <{self.file}', timeout=30)
                    self.assertEqual(len(digits), BYTES)
                    self.assertEqual(int(digits[:20]), BYTES)
                    self.assertEqual(server.wait(10), 0)


if __name__ == '__main__':
    harness.main()
