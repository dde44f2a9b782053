#!/usr/bin/python3
"""A program of an ordinary user on an interface that `ustcp net up --owner` gave to that user; other users stay out."""

import os
import pathlib

import harness
from harness import HOST4, HOST6, make_file, sha256, url
from netns import as_user
from nginx import CONFIGURATION, Nginx

PYTHON = '/usr/bin/python3'
# Numbers, which need no entry in /etc/passwd.
OWNER, STRANGER = 64321, 64322

# Says the errno of a first TCP socket.
OPEN_SOCKET = '''
import errno, socket
try:
    socket.socket()
    print("socket")
except OSError as error:
    print(errno.errorcode[error.errno])
'''
# Says how many descriptors of the processes named, among them the arena, can be opened.
OPEN_DESCRIPTORS = '''
import os, sys
opened = 0
for pid in sys.argv[1:]:
    for fd in range(0, 2048):
        try:
            os.close(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK))
            opened += 1
        except OSError:
            pass
print(opened)
'''
# Binds and listens, at a port that an ordinary user may not have and at one that it may.
BIND_PORTS = '''
import errno, socket
for port in (80, 1023, 1024):
    try:
        socket.create_server(("0.0.0.0", port))
        print("bound")
    except OSError as error:
        print(errno.errorcode[error.errno])
'''


class Users(harness.TestCase):
    OWNER = OWNER

    def setUp(self):
        super().setUp()
        self.products = self.net.product('ustcp').parent

    def user_environment(self, uid, run_of=None):
        """Variables for a user's programs; the keepers' sockets are in a directory of `run_of`'s."""
        run = self.net.dir / f'run-{run_of if run_of is not None else uid}'
        if not run.exists():
            run.mkdir(mode=0o700)
            os.chown(run, uid, uid)
        ours = [word for word in self.net.environment()
                if word.partition('=')[0] not in ('LD_PRELOAD', 'USTCP_KEEPER', 'USTCP_RUNTIME_DIR')]
        return [f'LD_PRELOAD={self.products}/libustcp.so', f'USTCP_RUNTIME_DIR={run}', *ours]

    def command(self, uid, *words, run_of=None):
        return self.net.host.command(*as_user(uid, 'env', *self.user_environment(uid, run_of), *words))

    def user(self, uid, *words, run_of=None, check=True, timeout=60):
        return self.net.complete(self.command(uid, *words, run_of=run_of), timeout, check)

    def start_user(self, uid, *words):
        return self.net.start(self.command(uid, *words), words)

    def test_client(self):
        site = Nginx(self.net, self.net.start_kernel, port=8080, big_bytes=8 << 20)
        site.start()
        self.net.wait_kernel_port(8080, site.process)
        copy = self.net.dir / 'copies'
        copy.mkdir()
        os.chown(copy, OWNER, OWNER)
        for address in (self.net.peer4, self.net.peer6):
            with self.subTest(address=address):
                _, output, errors = self.user(OWNER, 'curl', '-sS', '--max-time', '30', '-w', '%{local_ip}', '-o',
                                              copy / 'big', url(address, 8080, 'big'), check=False)
                self.assertEqual((output, errors), (HOST6 if ':' in address else HOST4, ''))
                self.assertEqual(sha256(copy / 'big'), site.big_sha256)

    def test_server(self):
        www = self.net.dir / 'www'
        www.mkdir()
        digest = make_file(www / 'file', 4 << 20)
        server = self.start_user(OWNER, PYTHON, '-u', '-m', 'http.server', '8000', '--bind', '::', '--directory', www)
        self.net.wait_ustcp_port(8000, server)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                copy = self.net.dir / 'copy'
                self.net.kernel('curl', '-sS', '--max-time', '30', '-o', copy, url(address, 8000, 'file'))
                self.assertEqual(sha256(copy), digest)
        # The tool works for the owner too, and shows whose socket it is.
        listing = self.user(OWNER, self.products / 'ustcp', 'ss', '-ltep')
        self.assertIn(f'uid:{OWNER}', listing)
        self.assertIn(f'pid={server.pid}', listing)

    def test_nginx(self):
        """Master and workers of one ordinary user."""
        folder = self.net.dir / 'nginx'
        folder.mkdir()
        www = self.net.dir / 'www'
        www.mkdir()
        (www / 'small').write_text('a small page\n')
        text = CONFIGURATION.format(dir=folder, www=www, port=8080, workers=2).replace('user www-data;\n', '')
        (folder / 'nginx.conf').write_text(text)
        os.chown(folder, OWNER, OWNER)
        server = self.start_user(OWNER, 'nginx', '-p', folder, '-e', folder / 'error.log', '-c', folder / 'nginx.conf',
                                 '-g', 'daemon off;')
        self.net.wait_ustcp_port(8080, server)
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                output = self.net.kernel('curl', '-sS', '--max-time', '30', '-Z',
                                         *[url(address, 8080, 'small')] * 50)
                self.assertEqual(output, 'a small page\n' * 50)

    def test_privileged_ports(self):
        """As with the kernel: EACCES below net.ipv4.ip_unprivileged_port_start."""
        self.net.host.sysctl('net.ipv4.ip_unprivileged_port_start', 1024)
        native = self.net.complete(self.net.peer.command(*as_user(OWNER, PYTHON, '-c', BIND_PORTS)))
        self.assertEqual(native.split(), ['EACCES', 'EACCES', 'bound'])
        self.assertEqual(self.user(OWNER, PYTHON, '-c', BIND_PORTS), native)

    def refused(self, uid, run_of=None):
        """The one line that a user's first socket makes; checks that the call fails with EACCES."""
        status, output, errors = self.user(uid, PYTHON, '-c', OPEN_SOCKET, run_of=run_of, check=False)
        self.assertEqual((status, output), (0, 'EACCES\n'), errors)
        self.assertEqual(len(errors.splitlines()), 1, errors)
        return errors.strip()

    def test_stranger_may_not_use_the_interface(self):
        self.assertEqual(self.refused(STRANGER),
                         'ustcp: no permission to use ustcp0: run as root, or let root run `ustcp net up --owner USER`')

    def test_stranger_may_not_join(self):
        """Neither a host of another user nor one of root's; its processes keep the arena to themselves."""
        server = self.start_user(OWNER, PYTHON, '-u', '-m', 'http.server', '8000', '--bind', '::')
        self.net.wait_ustcp_port(8000, server)
        line = self.refused(STRANGER, run_of=OWNER)
        self.assertIn('USTCP_RUNTIME_DIR', line)
        # Even where the directory lets everybody in, the keeper does not.
        (self.net.dir / f'run-{OWNER}').chmod(0o755)
        os.chown(self.net.dir / f'run-{OWNER}', 0, 0)
        line = self.refused(STRANGER, run_of=OWNER)
        self.assertRegex(line, f'(belongs to user {OWNER}, user {STRANGER} may not join; add the user to `allow`'
                               '|no right to use the keeper\'s socket|is process \\d+ of user)')
        self.check_arena_is_closed()

    def test_stranger_and_a_host_of_root(self):
        server = self.net.start_ustcp(PYTHON, '-u', '-m', 'http.server', '8000', '--bind', '::')
        self.net.wait_ustcp_port(8000, server)
        status, output, errors = self.net.complete(self.net.host.command(
            *as_user(STRANGER, 'env', *self.user_environment(STRANGER),
                     f'USTCP_RUNTIME_DIR={self.net.dir}/run', PYTHON, '-c', OPEN_SOCKET)), check=False)
        self.assertEqual((status, output), (0, 'EACCES\n'), errors)
        self.assertEqual(errors.strip().splitlines(),
                         [f"ustcp: host '{self.net.prefix}' belongs to user {OWNER}, user {STRANGER} may not join; add the "
                          'user to `allow` or choose another USTCP_HOST'])
        self.check_arena_is_closed()
        # Others who are nobody in particular are strangers all the same.
        self.check_arena_is_closed(65534)

    def check_arena_is_closed(self, uid=STRANGER):
        members = [int(name) for name in os.listdir('/proc') if name.isdigit() and self.maps_arena(int(name))]
        self.assertGreaterEqual(len(members), 2, 'a program and the keeper')
        opened = self.net.complete(as_user(uid, PYTHON, '-c', OPEN_DESCRIPTORS, *map(str, members)))
        self.assertEqual(opened.strip(), '0')
        # The look itself can find what there is: root sees it.
        self.assertGreater(int(self.net.complete([PYTHON, '-c', OPEN_DESCRIPTORS, *map(str, members)])), 0)

    def maps_arena(self, pid):
        """Whether a process in the test's namespace maps an arena."""
        try:
            inside = os.stat(f'/proc/{pid}/ns/net').st_ino == os.stat(f'/run/netns/{self.net.host.name}').st_ino
            return inside and '/memfd:ustcp-' in pathlib.Path(f'/proc/{pid}/maps').read_text()
        except OSError:
            return False


if __name__ == '__main__':
    harness.main()
