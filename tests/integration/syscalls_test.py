#!/usr/bin/python3
"""Each program of syscalls/ makes a fixed sequence of calls on sockets and prints what came back: first on the kernel's
TCP, then on ustcp, both ends in the same program. The outputs must be equal, but for the lines of KNOWN_DIFFERENCES."""

import difflib

import harness
from harness import HOST4, HOST6

# (program, line on the kernel, line on ustcp): with the reason. At most 25 may ever be here.
KNOWN_DIFFERENCES = (
    # Sockets are inherited through fork, vfork and exec; what posix_spawn and system start, by a clone of the C library's
    # own, has none but those it makes.
    ('spawn', 'child: 4', 'child: 12'),
    ('spawn', 'system: 4', 'system: 12'),
    ('spawn', 'from the child: 5', 'from the child: 0'),
    ('spawn', 'from the child: 5', 'from the child: EAGAIN'),
    # The kernel maps what a TCP socket received (TCP_ZEROCOPY_RECEIVE); ours answers as sockets that cannot.
    ('looks', 'mmap to read: 0', 'mmap to read: ENODEV'),
    ('looks', 'mmap to write: EPERM', 'mmap to write: ENODEV'),
    # Cancellation takes effect when the call returns, not while it waits.
    ('threads', 'joined: 1 cancelled: 1', 'joined: 0 cancelled: 0'),
)


class Syscalls(harness.TestCase):
    def compare(self, name, timeout=60):
        program = harness.OPTIONS.build / 'tests' / 'integration' / 'syscalls' / f'syscalls_{name}'
        for kernel_address, address in ((self.net.peer4, HOST4), (self.net.peer6, HOST6)):
            with self.subTest(address=address):
                native = self.net.kernel(program, kernel_address, timeout=timeout)
                status, ours, errors = self.net.ustcp(program, address, timeout=timeout, check=False)
                known = {(k, u) for p, k, u in KNOWN_DIFFERENCES if p == name}
                expected, got = native.splitlines(), ours.splitlines()
                if len(expected) == len(got):
                    expected = [u if (k, u) in known else k for k, u in zip(expected, got)]
                difference = list(difflib.unified_diff(expected, got, 'kernel', 'ustcp', lineterm='', n=2))
                self.assertEqual(status, 0, f'{errors}\n' + '\n'.join(difference))
                self.assertFalse(difference, '\n'.join(difference) + f'\n{errors}')

    def test_errors(self):
        self.compare('errors')

    def test_pointers(self):
        self.compare('pointers')

    def test_pointer_fuzz(self):
        self.compare('pointer_fuzz')

    def test_userfault(self):
        self.compare('userfault')

    def test_faults(self):
        self.compare('faults')

    def test_traffic(self):
        self.compare('traffic')

    def test_readiness(self):
        self.compare('readiness')

    def test_early_sets(self):
        self.compare('early_sets')

    def test_processes(self):
        self.compare('processes')

    def test_signals(self):
        self.compare('signals')

    def test_descriptors(self):
        self.compare('descriptors')

    def test_stdio(self):
        self.compare('stdio')

    def test_raw(self):
        self.compare('raw')

    def test_unseen(self):
        self.compare('unseen')

    def test_given_away(self):
        self.compare('given_away')

    def test_looks(self):
        self.compare('looks')

    def test_limits(self):
        self.compare('limits')

    def test_threads(self):
        self.compare('threads')

    def test_spawn(self):
        self.compare('spawn')


if __name__ == '__main__':
    harness.main()
