#!/usr/bin/python3
"""What becomes of a socket that leaves the library: to a static program by exec, spawn, system and popen, and to system calls
that the library does not see. Each finds an empty socket, never a byte of the host's memory; and accepting stays cheap."""

import os
import pathlib
import re
import shutil
import stat
import unittest

import harness
from harness import HOST4

PYTHON = '/usr/bin/python3'
SERVER = '''
import socket, time
l = socket.create_server(("", 7000))
f = socket.socket()
for _ in range(2):  # the first one only asked whether somebody listens
    c, _ = l.accept()
print("accepted", l.fileno(), f.fileno(), c.fileno(), flush=True)
time.sleep(60)
'''
# What taker.cc sees of a socket that holds nothing and that nobody can connect.
EMPTY = ('socket read=ENOTCONN recv=ENOTCONN write=ENOTCONN pread=ESPIPE lseek=ESPIPE mmap=ENODEV sendfile=EINVAL copy=EINVAL '
         'splice=ENOTCONN open=ENXIO poll=0x14 bind=EINVAL bind6=EINVAL listen=EINVAL accept=EINVAL connect=EINVAL '
         'connect6=EINVAL')
# A socket and its copy are one file; other sockets are others.
ALL = [f'first: {EMPTY}', f'same: {EMPTY}', *[f'another: {EMPTY}'] * 5, 'closed']


@unittest.skipIf(harness.OPTIONS.native, 'about the library')
class Outside(harness.TestCase):
    def program(self, name):
        return harness.OPTIONS.build / 'tests' / 'integration' / 'outside' / f'outside_{name}'

    def give(self, way, expected):
        output = self.net.ustcp(self.program('giver'), way, HOST4, self.program('taker'))
        self.assertEqual(output.splitlines(), expected)

    def test_exec(self):
        self.give('exec', ALL)

    def test_fork_and_exec(self):
        self.give('direct', [*ALL, 'still there: 111'])

    def test_vfork_and_exec(self):
        self.give('vfork', [*ALL, 'still there: 111'])

    def test_system(self):
        self.give('system', [*ALL, 'still there: 111'])

    def test_popen(self):
        self.give('popen', [*ALL, 'still there: 111'])

    def test_posix_spawn(self):
        self.give('spawn', [*[f'first: {EMPTY}', f'another: {EMPTY}'] * 2, 'still there: 111'])

    def test_calls_that_are_not_seen(self):
        each = ['read: ENOTCONN', 'write: ENOTCONN', 'connect: EINVAL', 'bind: EINVAL', 'listen: EINVAL',
                'aio_read: ENOTCONN', 'bytes: -1']
        self.give('past', [*each * 5, 'still there: 111'])

    def test_own_descriptors_closed_unseen(self):
        self.give('lost', ['close_range: ok', 'still there: 111'])

    def test_seen_from_outside(self):
        server = self.net.start_ustcp(PYTHON, '-c', SERVER)
        self.net.wait_ustcp_port(7000, server)
        with self.net.peer.connect(HOST4, 7000, 5.0):
            harness.wait_until(lambda: 'accepted' in server.log(), 10, 'the server accepts')
            folder = pathlib.Path(f'/proc/{server.pid}/fd')
            numbers = [int(n) for n in re.findall(r'\d+', server.log())]
            self.assertEqual(len(numbers), 3)
            for number in numbers:
                self.assertRegex(os.readlink(folder / str(number)), r'^socket:\[\d+\]$')
                self.assertTrue(stat.S_ISSOCK(os.stat(folder / str(number)).st_mode))
                with self.assertRaises(OSError):
                    open(folder / str(number), 'rb')

    def test_messages_to_other_processes(self):
        each = ['sendmsg: EOPNOTSUPP'] * 5
        each += ['through syscall(): EOPNOTSUPP', 'others: 1', 'an epoll set: 1', 'sendmmsg: 2',
                 'sendmmsg of the rest: EOPNOTSUPP', 'sendmmsg of none: 0', 'a bad pointer: EFAULT']
        status, output, errors = self.net.ustcp(self.program('giver'), 'rights', HOST4, 'none', check=False)
        self.assertEqual((status, output.splitlines()), (0, [*each * 2, 'still there: 111']))
        self.assertEqual(errors, 'ustcp: a TCP socket cannot be sent to another process (SCM_RIGHTS): sendmsg fails with '
                         'EOPNOTSUPP\n')

    @unittest.skipIf(shutil.which('strace') is None, 'needs strace')
    def test_accepting_is_one_system_call(self):
        trace = self.net.dir / 'trace'
        command = self.net.host.command('strace', '-o', trace, 'env', *self.net.environment(), self.program('giver'),
                                        'accepts', HOST4, 'none')
        self.net.complete(command)
        between = trace.read_text().split('getpgid(')[1].splitlines()[1:]
        calls = [re.match(r'\w+', line).group() for line in between]
        self.assertEqual(calls, ['fcntl'] * 19, between)


if __name__ == '__main__':
    harness.main()
