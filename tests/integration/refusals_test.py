#!/usr/bin/python3
"""What cannot work is told in one line that names the remedy, the socket call fails, and the kernel gets nothing.

The client tries to reach a listener of the kernel's, which must not hear of it.
"""

import array
import os
import re
import socket
import struct
import threading

import harness
from harness import HOST4, HOST6, INTERFACE

PYTHON = '/usr/bin/python3'
PORT = 8080

# Three attempts: each shows the errno, all of them together one line.
CLIENT = '''
import errno, socket, sys
for _ in range(3):
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
        print("connected")
    except OSError as error:
        print(errno.errorcode.get(error.errno, error))
'''
SERVER = '''
import errno, socket, sys, time
try:
    socket.create_server(("0.0.0.0", int(sys.argv[1])))
    print("listening", flush=True)
    time.sleep(10)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
'''


class Refusals(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.listeners = []
        for address, family in ((self.net.peer4, socket.AF_INET), (self.net.peer6, socket.AF_INET6)):
            listener = self.net.peer.call(lambda a=address, f=family: socket.create_server((a, PORT), family=f))
            listener.setblocking(False)
            self.addCleanup(listener.close)
            self.listeners.append(listener)

    def command(self, variables, *words):
        """The words preloaded, with the variables (None: unset) over the test's own."""
        ours = dict(word.split('=', 1) for word in self.net.environment())
        ours.update(variables)
        unset = [word for name, value in ours.items() if value is None for word in ('-u', name)]
        return self.net.host.command('env', *unset, *[f'{n}={v}' for n, v in ours.items() if v is not None], *words)

    def refuse(self, expected_errno, pattern, **variables):
        """Checks errno and line, and that nothing reached the kernel's TCP."""
        for address in (self.net.peer4, self.net.peer6):
            status, output, errors = self.net.complete(self.command(variables, PYTHON, '-c', CLIENT, address, PORT),
                                                       check=False)
            self.assertEqual((status, output.split()), (0, [expected_errno] * 3), errors)
            lines = errors.splitlines()
            self.assertEqual(len(lines), 1, errors)
            self.assertRegex(lines[0], '^ustcp: ' + pattern)
            self.assertLess(len(lines[0]), 240, 'cut short?')
        for listener in self.listeners:
            self.assertRaises(BlockingIOError, listener.accept)
        status, output, errors = self.net.complete(self.command(variables, PYTHON, '-c', SERVER, '8081'), check=False)
        self.assertEqual(output.strip(), expected_errno, errors)
        self.assertNotIn(':8081', self.net.host.run('ss', '-tlnH'))

    def file(self, text, name='host.conf'):
        path = self.net.dir / name
        path.write_text(text)
        return path

    # -- what the issue names

    def test_missing_tap(self):
        self.net.app.run(self.net.tool(), 'net', 'down', '--interface', INTERFACE)
        # The listeners' addresses have gone with it; the line must be the same all the same.
        self.refuse('ENETDOWN', re.escape(f'there is no interface {INTERFACE}: run `ustcp net up` as root') + '$')

    def test_interface_that_is_down(self):
        self.net.app.ip('link', 'set', INTERFACE, 'down')
        self.refuse('ENETDOWN', f'interface {INTERFACE} is down; run `ustcp net up --interface {INTERFACE}`$')

    def test_interface_that_is_no_tap(self):
        self.net.app.ip('link', 'add', 'other0', 'type', 'veth', 'peer', 'name', 'other1')
        self.net.app.ip('link', 'set', 'other0', 'up')
        self.refuse('ENETDOWN', 'other0 is not a TAP interface: ', USTCP_INTERFACE='other0')

    def test_address_of_the_kernel(self):
        self.net.app.ip('link', 'add', 'other0', 'type', 'veth', 'peer', 'name', 'other1')
        for address, length in ((HOST4, 24), (HOST6, 64)):
            with self.subTest(address=address):
                self.net.app.ip('addr', 'add', f'{address}/{length}', 'dev', 'other0')
                self.refuse('EINVAL', re.escape(f"the kernel has the host's address {address} (on other0); choose "
                                                'another in addresses (USTCP_ADDR)') + '$')
                self.net.app.ip('addr', 'del', f'{address}/{length}', 'dev', 'other0')

    def test_address_of_another_host(self):
        """Two hosts on two interfaces of one machine claim an address."""
        server = self.net.start_ustcp(PYTHON, '-c', SERVER, '8000')
        harness.wait_until(lambda: 'listening' in server.log(), 10, 'the first host runs')
        self.net.app.run(self.net.tool(), 'net', 'up', '--interface', 'ustcp1', '--kernel-address', '10.120.0.1/24')
        for addresses, clash in ((f'10.120.0.2/24,{HOST4}/24', HOST4), (f'10.120.0.2/24,{HOST6}/64', HOST6)):
            with self.subTest(addresses=addresses):
                self.refuse('EINVAL', rf'another host has the address {clash} \(keeper \d+ of user 0\); choose another '
                                      r'in addresses \(USTCP_ADDR\)$',
                            USTCP_HOST='second', USTCP_INTERFACE='ustcp1', USTCP_ADDR=addresses, USTCP_GATEWAY=None)
        # Without the clash it runs beside the first.
        status, output, errors = self.net.complete(self.command(
            {'USTCP_HOST': 'second', 'USTCP_INTERFACE': 'ustcp1', 'USTCP_ADDR': '10.120.0.2/24', 'USTCP_GATEWAY': None},
            PYTHON, '-c', CLIENT, '10.120.0.1', PORT + 1), check=False)
        self.assertEqual((status, output.split(), errors), (0, ['ECONNREFUSED'] * 3, ''))

    def test_interface_of_another_host(self):
        server = self.net.start_ustcp(PYTHON, '-c', SERVER, '8000')
        harness.wait_until(lambda: 'listening' in server.log(), 10, 'the first host runs')
        self.refuse('ENETDOWN', rf'another host uses the interface {INTERFACE} \(keeper \d+ of user 0\); ',
                    USTCP_HOST='second', USTCP_ADDR='10.117.0.9/24', USTCP_GATEWAY=None)

    def test_other_settings_than_the_host_runs_with(self):
        server = self.net.start_ustcp(PYTHON, '-c', SERVER, '8000')
        harness.wait_until(lambda: 'listening' in server.log(), 10, 'the host runs')
        self.refuse('EINVAL', 'the host runs without the address 10.117.0.9; correct USTCP_ADDR or use another USTCP_HOST$',
                    USTCP_ADDR='10.117.0.9/24', USTCP_GATEWAY=None)
        self.refuse('EINVAL', f'the host runs on another interface: {INTERFACE}; correct USTCP_INTERFACE or use another '
                              'USTCP_HOST$', USTCP_INTERFACE='other0')

    def test_malformed_variables(self):
        for name, value, line in (
                ('USTCP_ADDR', '10.117.0/24', "USTCP_ADDR: '10.117.0/24' is not address/length; write 10.117.0.2/24"),
                ('USTCP_ADDR', '127.0.0.1/8', "USTCP_ADDR: '127.0.0.1/8' cannot be a host's address; choose a unicast "
                                              'address'),
                ('USTCP_GATEWAY', 'here', "USTCP_GATEWAY: 'here' is not a gateway's address; write 10.117.0.1"),
                ('USTCP_GATEWAY', '192.0.2.1', "gateways (USTCP_GATEWAY): '192.0.2.1' is not on a link of the host; name "
                                               'one within addresses'),
                ('USTCP_ENGINE', 'fast', "USTCP_ENGINE: 'fast' is not one of auto|uring|plain"),
                ('USTCP_MTU', '70000', "USTCP_MTU: '70000' is not a number in 576..65535"),
                ('USTCP_HOST', '../x', "USTCP_HOST: '../x' is no host name; use at most 63 letters, digits, '-', '_' or "
                                       "'.'"),
                ('USTCP_ARENA_SIZE', '16Q', "USTCP_ARENA_SIZE: '16Q' is not a number in 256M..8T"),
                ('USTCP_CONFIG', '/nowhere/x.conf', '/nowhere/x.conf: cannot be opened (no such file or directory); correct or unset '
                                                    'USTCP_CONFIG'),
                ('USTCP_RUNTIME_DIR', '/tmp/' + 'x' * 120, "path of the keeper's socket is too long: /tmp/" + 'x' * 120 +
                                                           '; set USTCP_RUNTIME_DIR to a shorter one')):
            with self.subTest(name=name, value=value):
                self.refuse('EINVAL', re.escape(line) + '$', **{name: value})

    def test_malformed_files(self):
        for text, line in (
                ('engine plain\n', ":1: 'engine plain' has no '='; write key = value"),
                ('# fine\n\nadress = 10.0.0.1/24\n', ":3: 'adress' is no setting; `ustcp settings` lists them"),
                ('addres = 10.0.0.1/24\n', ":1: 'addres' is no setting; did you mean addresses?"),
                ('tick_us = soon\n', ":1: 'soon' is not a number in 200..100000"),
                ('sysctl.net.ipv4.tcp_speed = 1\n', ":1: 'sysctl.net.ipv4.tcp_speed' is no sysctl of a host; `ustcp "
                                                    'sysctl -a` lists them'),
                ('sysctl.net.ipv4.tcp_tw_reuse = 7\n', ":1: '7' does not fit net.ipv4.tcp_tw_reuse: write 1 number(s) in 0..2"),
                ('x' * 2000, ':1: is too long; lines have at most 1023 characters, files 1 MiB')):
            with self.subTest(text=text[:40]):
                path = self.file(text)
                self.refuse('EINVAL', re.escape(f'{path}{line}') + '$', USTCP_CONFIG=path)

    def test_words_that_the_tool_does_not_know(self):
        for words, line in ((('bogus',), "'bogus' is not known here; see `ustcp --help`"),
                            (('net', 'bogus'), "'bogus' is not known here; see `ustcp net --help`"),
                            (('ss', '--bogus'), "'--bogus' is not known here; see `ustcp ss --help`"),
                            (('run',), 'run needs a program; write ustcp run PROGRAM ARGUMENTS')):
            with self.subTest(words=words):
                result = self.net.complete(self.net.host.command(self.net.tool(), *words), check=False)
                self.assertEqual(result, (2, '', f'ustcp: {line}\n'))

    # -- the keeper

    def test_no_keeper(self):
        self.refuse('ENETDOWN', r'cannot start /nowhere/ustcp-keeper \(no such file or directory, errno 2\); install it or set USTCP_KEEPER$',
                    USTCP_KEEPER='/nowhere/ustcp-keeper')

    def test_keeper_that_ends_at_once(self):
        self.refuse('ENETDOWN', 'the keeper ended while starting: /bin/true; run it by hand with --foreground to see why$',
                    USTCP_KEEPER='/bin/true')

    def test_directory_of_others(self):
        path = self.net.dir / 'open'
        path.mkdir()
        path.chmod(0o777)
        self.refuse('EACCES', f'others can write to directory {path}; chown and chmod it, or set USTCP_RUNTIME_DIR$',
                    USTCP_RUNTIME_DIR=path)

    def test_keeper_of_another_build(self):
        """Another version of the protocol, and the same with another layout of the arena."""
        for version, layout in ((2, 0), (1, 0x1234)):
            with self.subTest(version=version):
                run = self.net.dir / f'run-{version}'
                run.mkdir(mode=0o755)
                server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.addCleanup(server.close)
                server.bind(f'{run}/{self.net.prefix}.sock')
                server.listen(16)
                threading.Thread(target=self.answer, args=(server, version, layout), daemon=True).start()
                self.refuse('ENETDOWN', "program and keeper are of different versions; restart the host's programs, or "
                                        'use another USTCP_HOST$', USTCP_RUNTIME_DIR=run)
                server.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def answer(server, version, layout):
        """A keeper that hands out an empty file as the arena (io/member/keeper_protocol.h)."""
        arena = os.memfd_create('ustcp-other')
        reply = struct.pack('<IHHiiQQ', 0x75736b70, version, 0, 0, os.getpid(), layout, 1 << 30).ljust(296, b'\0')
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                os.close(arena)
                return
            with connection:
                connection.recv(1000)
                connection.sendmsg([reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [arena]))])

    # -- the tool

    def test_tool(self):
        def tool(*words, **variables):
            ours = {**variables, 'LD_PRELOAD': None}
            status, output, errors = self.net.complete(self.command(ours, self.net.tool(), *words), check=False)
            self.assertEqual((status, output), (1, ''), words)
            return errors

        self.assertEqual(tool('ss'), f'ustcp: no keeper runs at {self.net.dir}/run/{self.net.prefix}.sock; start a '
                                     'program on the host or check USTCP_HOST\n')
        self.assertEqual(tool('net', 'up', '--owner', 'no-such-user'),
                         'ustcp: no user no-such-user; give a name or a number\n')
        self.assertEqual(tool('run', 'true', USTCP_ENGINE='fast'),
                         "ustcp: USTCP_ENGINE: 'fast' is not one of auto|uring|plain\n")
        self.net.app.ip('link', 'add', 'other0', 'type', 'veth', 'peer', 'name', 'other1')
        self.assertEqual(tool('net', 'up', '--interface', 'other0', USTCP_INTERFACE=None),
                         'ustcp: other0 is there and no TAP; choose another with --interface\n')


if __name__ == '__main__':
    harness.main()
