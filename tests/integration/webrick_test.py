#!/usr/bin/python3
"""Ruby's WEBrick on ustcp serving files, which it copies with IO.copy_stream (copy_file_range, sendfile or neither)."""

import harness
import programs
from harness import HOST4, HOST6, make_file, sha256, url

PORT = 8080
# The port may come from a name lookup, the address never does.
SERVER = '''
require "webrick"
quiet = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
server = WEBrick::HTTPServer.new(BindAddress: ARGV[0], Port: ARGV[1].to_i, DocumentRoot: ARGV[2], Logger: quiet,
                                 AccessLog: [], MaxClients: 200, DoNotReverseLookup: true)
trap("TERM") { server.shutdown }
server.start
'''


class Webrick(programs.TestCase):
    NEEDED = {'/usr/bin/ruby': 'ruby', '/usr/share/rubygems-integration/all/gems/webrick-*/lib/webrick.rb': 'ruby-webrick'}

    def setUp(self):
        super().setUp()
        self.www = self.net.dir / 'www'
        self.www.mkdir()
        self.files = [self.www / name for name in ('empty', 'small', 'middle', 'large')]
        for file, size in zip(self.files, (0, 100, 50_000, 3 << 20)):
            make_file(file, size, seed=size)

    def serve(self, address):
        server = self.start_server('ruby', '-e', SERVER, address, PORT, self.www)
        harness.wait_until(lambda: self.answers(address) or not server.running(), 20, 'server listens')
        return server

    def answers(self, address):
        return self.net.complete(self.net.peer.command('curl', '-s', '-o', '/dev/null', url(address, PORT)), 20, False)[0] != 7

    def serve_all(self, address):
        server = self.serve(address)
        copy = self.net.dir / 'copy'
        for file in self.files:
            self.net.kernel('curl', '-sSf', '-o', copy, url(address, PORT, file.name))
            self.assertEqual(sha256(copy), sha256(file), file)
        # A part, as browsers ask for it.
        part = self.net.kernel('curl', '-sSf', '-r', '1000-1099', url(address, PORT, 'middle'), '-o', copy, '-w', '%{http_code}')
        self.assertEqual((part, copy.read_bytes()), ('206', self.files[2].read_bytes()[1000:1100]))
        self.load(url(address, PORT), self.files, '--connections', 200, '--at-a-time', 20)
        self.load(url(address, PORT), self.files, '--connections', 20, '--at-a-time', 20, '--requests', 20)
        server.stop()
        self.assertEqual(server.wait(10), 0, server.log())
        self.assertEqual(server.log(), '')

    def test_ipv4(self):
        self.serve_all(HOST4)

    def test_ipv6(self):
        self.serve_all(HOST6)


if __name__ == '__main__':
    harness.main()
