#!/usr/bin/python3
"""io_uring of the program's own: where its set-up is refused, and what it finds on ustcp sockets."""

import harness
from harness import HOST4, HOST6

UNCONNECTED = ('recv: ENOTCONN', 'read: ENOTCONN', 'send: ENOTCONN', 'accept: EINVAL', 'connect: EINVAL', 'poll: HUP',
               'epoll_ctl: 0', 'epoll_wait: 1 HUP of 7')
SOCKETS = ('-- accepted', *UNCONNECTED, '-- connected', *UNCONNECTED, '-- listening', *UNCONNECTED,
           '-- plain calls', 'recv: 4', 'send: 1', 'recv: 1', 'read of a file: 8')
LINE = 'ustcp: the program uses io_uring'
MADE = ['liburing: made', 'syscall: descriptor']
REFUSED = ['liburing: ENOSYS', 'syscall: ENOSYS']


@harness.unittest.skipIf(harness.OPTIONS.native, 'about the library')
class ProgramUring(harness.TestCase):
    def run_program(self, *words, **variables):
        program = harness.OPTIONS.build / 'tests' / 'integration' / 'syscalls' / 'syscalls_uring'
        settings = [f'{name}={value}' for name, value in variables.items()]
        status, output, errors = self.net.ustcp('env', *settings, program, *words, check=False)
        self.assertEqual(status, 0, output + errors)
        return output.splitlines(), errors

    def test_sockets(self):
        """Its operations get what an unconnected socket gives, epoll's at once; one line tells."""
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                output, errors = self.run_program('sockets', address)
                self.assertEqual(output, list(SOCKETS), errors)
                self.assertEqual(errors.count(LINE), 1, errors)

    def test_settings(self):
        """auto refuses where a libuv that batches epoll_ctl is found."""
        for setting, version, expected in (('auto', '', MADE), ('auto', '12c02', MADE), ('auto', '12d00', REFUSED),
                                           ('auto', '13200', REFUSED), ('on', '12d00', MADE), ('off', '', REFUSED),
                                           ('off', '12c02', REFUSED)):
            with self.subTest(setting=setting, version=version):
                output, errors = self.run_program('setup', USTCP_PROGRAM_URING=setting, UV_VERSION=version)
                self.assertEqual(output, expected, errors)
                # Without a socket there is nothing to tell.
                self.assertNotIn(LINE, errors)


if __name__ == '__main__':
    harness.main()
