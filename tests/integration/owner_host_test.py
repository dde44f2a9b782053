#!/usr/bin/python3
"""A host that root started for an ordinary user, who may not open /dev/net/tun: `ustcp net up --owner USER`."""

import os
import pathlib
import shutil
import time

import harness
import netns
from harness import HOST4, HOST6, INTERFACE, make_file, sha256, url
from nginx import CONFIGURATION

PYTHON = '/usr/bin/python3'
OWNER, STRANGER = 64331, 64332
OPEN_SOCKET = '''
import errno, socket
try:
    socket.socket()
    print("socket")
except OSError as error:
    print(errno.errorcode[error.errno])
'''
CLOSES_FIRST = 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()'
# The command sees a /dev/net/tun that is root's alone, whatever the machine's is.
PRIVATE = ('mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 600 /dev/net/tun c 10 200 && exec "$@"')


class OwnerHost(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.products = self.net.dir / 'products'
        self.products.mkdir(mode=0o755)
        for name in ('libustcp.so', 'ustcp-keeper', 'ustcp'):
            shutil.copy(self.net.product(name), self.products)
        # Made anew, for the user.
        self.root('net', 'down')
        self.addCleanup(self.root, 'net', 'down')
        self.root('net', 'up', '--owner', OWNER)

    def environment(self):
        return [word for word in self.net.host_environment() if not word.startswith('USTCP_KEEPER=')]

    def private(self, *words):
        return self.net.host.command('unshare', '--mount', 'sh', '-c', PRIVATE, 'sh', *words)

    def root(self, *words):
        """The tool, run by root; both streams."""
        status, output, errors = self.net.complete(
            self.private('env', *self.environment(), self.products / 'ustcp', *words), check=False)
        self.assertEqual(status, 0, errors)
        return output + errors

    def as_user(self, uid, *words):
        return self.private('setpriv', f'--reuid={uid}', f'--regid={uid}', '--clear-groups', 'env',
                            f'LD_PRELOAD={self.products}/libustcp.so', *self.environment(), *words)

    def user(self, uid, *words):
        return self.net.complete(self.as_user(uid, *words))

    def start_user(self, uid, *words):
        return self.net.start(self.as_user(uid, *words), words)

    def keeper(self):
        """(broker, driver)."""
        words = self.root('hosts').replace(',', '').split()
        return int(words[words.index('broker') + 1]), int(words[words.index('driver') + 1])

    def user_of(self, pid):
        line = [line for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines() if line.startswith('Uid')]
        return int(line[0].split()[1])

    def test_halves_and_owner(self):
        broker, driver = self.keeper()
        self.assertEqual((self.user_of(broker), self.user_of(driver)), (0, OWNER))
        self.assertIn(f'owner {OWNER}', self.root('net', 'show'))

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
        self.assertIn(f'uid:{OWNER}', self.user(OWNER, self.products / 'ustcp', 'ss', '-ltep'))

    def test_nginx(self):
        folder, www = self.net.dir / 'nginx', self.net.dir / 'www'
        folder.mkdir()
        www.mkdir()
        (www / 'small').write_text('a small page\n')
        text = CONFIGURATION.format(dir=folder, www=www, port=8080, workers=2).replace('user www-data;\n', '')
        (folder / 'nginx.conf').write_text(text)
        os.chown(folder, OWNER, OWNER)
        server = self.start_user(OWNER, 'nginx', '-p', folder, '-e', folder / 'error.log', '-c', folder / 'nginx.conf',
                                 '-g', 'daemon off;')
        self.net.wait_ustcp_port(8080, server)
        self.assertEqual(self.net.kernel('curl', '-sS', '--max-time', '30', '-Z', *[url(HOST4, 8080, 'small')] * 50),
                         'a small page\n' * 50)

    def test_client(self):
        www = self.net.dir / 'www'
        www.mkdir()
        digest = make_file(www / 'file', 4 << 20)
        server = self.net.start_kernel(PYTHON, '-u', '-m', 'http.server', '8000', '--bind', '::', '--directory', www)
        self.net.wait_kernel_port(8000, server)
        copies = self.net.dir / 'copies'
        copies.mkdir()
        os.chown(copies, OWNER, OWNER)
        self.user(OWNER, 'curl', '-sS', '--max-time', '30', '-o', copies / 'file', url(self.net.peer4, 8000, 'file'))
        self.assertEqual(sha256(copies / 'file'), digest)

    def test_strangers_stay_out(self):
        status, output, errors = self.net.complete(self.as_user(STRANGER, PYTHON, '-c', OPEN_SOCKET), check=False)
        self.assertEqual((status, output), (0, 'EACCES\n'), errors)
        self.assertEqual(errors.splitlines(),
                         [f"ustcp: host '{self.net.prefix}' belongs to user {OWNER}, user {STRANGER} may not join; "
                          'add the user to `allow` or choose another USTCP_HOST'])

    def test_keeper_stays_until_net_down(self):
        broker, _ = self.keeper()
        self.user(OWNER, PYTHON, '-c', OPEN_SOCKET)
        time.sleep(1.5)  # longer than a keeper stays that nobody uses
        self.assertEqual(self.keeper()[0], broker)
        self.root('net', 'down')
        # It may be waited for by nobody yet.
        harness.wait_until(lambda: not netns.alive(broker), 5, 'the keeper has ended')

    def test_made_anew_after_connections(self):
        """What is left of connections, TIME_WAIT among it, does not outlive the interface."""
        self.net.start_kernel(PYTHON, '-m', 'http.server', '8000', '--bind', '::')
        self.net.wait_kernel_port(8000)
        for _ in range(2):
            self.user(OWNER, PYTHON, '-c', CLOSES_FIRST, self.net.peer4, '8000')
            self.root('net', 'down')
            self.root('net', 'up', '--owner', OWNER)
        self.user(OWNER, PYTHON, '-c', CLOSES_FIRST, self.net.peer4, '8000')

    def test_made_anew_under_a_server(self):
        """The program that ran stays, and the next keeper takes its host over."""
        server = self.start_user(OWNER, PYTHON, '-u', '-m', 'http.server', '8000', '--bind', '::')
        self.net.wait_ustcp_port(8000, server)
        for _ in range(2):
            self.root('net', 'down')
            self.root('net', 'up', '--owner', OWNER)
            harness.wait_until(lambda: self.net.complete(
                self.net.peer.command('curl', '-s', '--max-time', '2', '-o', '/dev/null', url(HOST4, 8000)),
                check=False)[0] == 0, 20, 'the server answers again')

    def test_what_the_user_cannot_use_is_named(self):
        self.root('net', 'down')
        self.products.joinpath('libustcp.so').chmod(0o600)
        line = self.root('net', 'up', '--owner', OWNER).strip()
        self.assertEqual(line, f'ustcp: user {OWNER} cannot use {self.products}/libustcp.so (Permission denied); '
                               'install it where every user can read it')


class Interface(harness.TestCase):
    """An interface without an owner is its maker's, and no longer everybody's."""

    def test_made_anew_after_connections(self):
        """The host is made anew with it, so that what was known of the link is forgotten."""
        self.net.start_kernel(PYTHON, '-m', 'http.server', '8000', '--bind', '::')
        self.net.wait_kernel_port(8000)
        for _ in range(2):
            self.net.ustcp(PYTHON, '-c', CLOSES_FIRST, self.net.peer4, '8000')
            for command in ('down', 'up'):
                self.net.complete(self.net.host.command('env', *self.net.host_environment(), self.net.tool(), 'net', command))
        self.net.ustcp(PYTHON, '-c', CLOSES_FIRST, self.net.peer4, '8000')

    def test_stranger_does_not_get_it(self):
        attach = ('import fcntl, os, struct\n'
                  'fd = os.open("/dev/net/tun", os.O_RDWR)\n'
                  'try:\n'
                  f'    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"{INTERFACE}", 0x5102))\n'
                  '    print("attached")\n'
                  'except OSError as error:\n'
                  '    print(error.errno)\n')
        output = self.net.complete(self.net.host.command(*netns.as_user(STRANGER, PYTHON, '-c', attach)))
        self.assertEqual(output.strip(), '1')

    def test_one_that_anybody_may_use_is_told_of(self):
        self.net.host.run(self.net.tool(), 'net', 'down')
        self.net.host.ip('tuntap', 'add', 'dev', INTERFACE, 'mode', 'tap', 'multi_queue', 'vnet_hdr')
        status, _, errors = self.net.complete(self.net.host.command(self.net.tool(), 'net', 'up'), check=False)
        self.assertEqual(status, 0)
        self.assertIn(f'anybody may use {INTERFACE}', errors)
        self.assertIn('anybody may use it', self.net.host.run(self.net.tool(), 'net', 'show'))
        _, _, errors = self.net.ustcp(PYTHON, '-c', OPEN_SOCKET, check=False)
        self.assertIn(f'ustcp: anybody may use the interface {INTERFACE}', errors)


if __name__ == '__main__':
    harness.main()
