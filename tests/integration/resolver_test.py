#!/usr/bin/python3
"""Name resolution over TCP. The C library's resolver makes its sockets by calls of its own that nothing can take the place
of, so its queries leave by the kernel, as those over UDP do; servers and clients that a program writes itself are ustcp's."""

import pathlib

import harness
from harness import HOST4

PYTHON = '/usr/bin/python3'
NAME, ANSWER = 'service.test', '192.0.2.77'

SERVER = r'''
import socket, socketserver, struct, sys
address, answer = sys.argv[1:]

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            size = self.rfile.read(2)
            if len(size) < 2:
                return
            query = self.rfile.read(struct.unpack('!H', size)[0])
            end = query.index(b'\0', 12) + 5
            kind = struct.unpack('!H', query[end - 4:end - 2])[0]
            records = b'\xc0\x0c' + struct.pack('!HHIH', 1, 1, 60, 4) + socket.inet_aton(answer) if kind == 1 else b''
            reply = query[:2] + struct.pack('!HHHHH', 0x8180, 1, 1 if records else 0, 0, 0) + query[12:end] + records
            print('query from', self.client_address[0], flush=True)
            self.wfile.write(struct.pack('!H', len(reply)) + reply)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

with Server((address, 53), Handler) as server:
    print('ready', flush=True)
    server.serve_forever()
'''

CLIENT = r'''
import socket, sys
address, name = sys.argv[1:]
before = socket.create_connection((address, 53))
found = sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)})
after = socket.create_connection((address, 53))
print(before.getsockname()[0], *found, after.getsockname()[0])
'''


class Resolver(harness.TestCase):
    def serve(self, start, address):
        server = start(PYTHON, '-c', SERVER, address, ANSWER)
        harness.wait_until(lambda: 'ready' in server.log() or not server.running(), 10, 'server listens')
        return server

    def resolve(self, command, address):
        """Runs the client where /etc/resolv.conf names the server, and TCP."""
        files = {'resolv.conf': f'nameserver {address}\noptions use-vc timeout:5 attempts:1\n',
                 'nsswitch.conf': 'hosts: dns\n'}
        mounts = []
        for name, text in files.items():
            path = pathlib.Path(self.net.dir / name)
            path.write_text(text)
            mounts.append(f'mount --bind {path} /etc/{name}')
        script = ' && '.join([*mounts, 'exec "$@"'])
        words = command(PYTHON, '-c', CLIENT, address, NAME)
        return self.net.complete(['unshare', '-m', 'sh', '-c', script, 'sh', *words]).split()

    def queries(self, server):
        return {line.split()[-1] for line in server.log().splitlines() if line.startswith('query')}

    def test_server_on_the_kernel(self):
        """The program's own connections are ustcp's, the resolver's are the kernel's."""
        server = self.serve(self.net.start_kernel, self.net.peer4)
        self.assertEqual(self.resolve(self.net.ustcp_command, self.net.peer4), [HOST4, ANSWER, HOST4])
        self.assertEqual(self.queries(server), {HOST4 if harness.OPTIONS.native else self.net.peer4})

    def test_server_on_ustcp(self):
        """Reached from the kernel's side, by its resolver and by that of a program on the same host."""
        server = self.serve(self.net.start_ustcp, HOST4)
        self.assertEqual(self.resolve(self.net.peer.command, HOST4), [self.net.peer4, ANSWER, self.net.peer4])
        self.assertEqual(self.resolve(self.net.ustcp_command, HOST4), [HOST4, ANSWER, HOST4])
        own = {HOST4} if harness.OPTIONS.native else set()
        self.assertEqual(self.queries(server), {self.net.peer4} | own)


if __name__ == '__main__':
    harness.main()
