#!/usr/bin/python3
"""uvicorn with uvloop on ustcp: many short connections while the same loop's threads read files for the answers.

uvloop closes descriptors with syscall(), as libuv does."""

import harness
import programs
from harness import HOST4, HOST6, make_file, url

PORT = 8080
# /f/NAME: the file's bytes, read by a thread; anything else: what was posted.
APPLICATION = '''
import asyncio, pathlib, sys
import uvicorn

FOLDER = pathlib.Path(sys.argv[3])

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"].startswith("/f/"):
        body = await asyncio.to_thread((FOLDER / scope["path"][3:]).read_bytes)
    else:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(application, host=sys.argv[1], port=int(sys.argv[2]), loop="uvloop", http=sys.argv[4], log_level="warning")
'''


class Uvicorn(programs.TestCase):
    NEEDED = {'/usr/lib/python3/dist-packages/uvicorn': 'uvicorn', '/usr/lib/python3/dist-packages/uvloop': 'python3-uvloop'}

    def setUp(self):
        super().setUp()
        self.folder = self.net.dir / 'f'
        self.folder.mkdir()
        self.files = [self.folder / name for name in ('empty', 'small', 'middle', 'large')]
        for file, size in zip(self.files, (0, 100, 20_000, 1 << 20)):
            make_file(file, size, seed=size)

    def serve_all(self, address, parser):
        server = self.start_server(programs.PYTHON, '-c', APPLICATION, address, PORT, self.folder, parser)
        if address == HOST4:
            self.net.wait_ustcp_port(PORT, server, 20)
        else:
            harness.wait_until(lambda: self.reached(address) or not server.running(), 20, 'server listens')
        self.load(url(address, PORT, 'f/'), self.files[:3], '--connections', 2500)
        self.load(url(address, PORT, 'f/'), self.files, '--connections', 100, '--requests', 10)
        echo = self.net.kernel('curl', '-sSf', '-H', 'Expect:', '--data-binary', f'@{self.files[3]}', '-o', self.net.dir / 'copy',
                               '-w', '%{http_code}', url(address, PORT))
        self.assertEqual((echo, (self.net.dir / 'copy').read_bytes()), ('200', self.files[3].read_bytes()))
        self.assertTrue(server.running(), server.log())
        server.stop()
        self.assertIn(server.wait(10), (0, -15), server.log())
        self.assertEqual(server.log(), '')

    def reached(self, address):
        return self.net.complete(self.net.peer.command('curl', '-s', '-o', '/dev/null', url(address, PORT)), 20, False)[0] != 7

    def test_ipv4_httptools(self):
        self.serve_all(HOST4, 'httptools')

    def test_ipv6_h11(self):
        self.serve_all(HOST6, 'h11')


if __name__ == '__main__':
    harness.main()
