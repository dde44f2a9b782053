#!/usr/bin/python3
"""Who moves the frames: io_uring where it is permitted, plain calls where it is not or where they are asked for.

`ustcp ss --engine` tells; the loads are such that a ring has batches to carry. Ratios only, no times.
"""

import ctypes
import json
import os
import socket
import unittest

import harness
from harness import HOST4, HOST6
from nginx import Nginx, wrk_result

PYTHON = '/usr/bin/python3'
NR_IO_URING_SETUP = 425

# Runs its arguments where io_uring_setup is answered with EPERM, as container profiles and kernel.io_uring_disabled do.
FORBID_IO_URING = f'''
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
rules = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, {NR_IO_URING_SETUP}), (RETURN, 0, 0, 0x00050001), (RETURN, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program)):
    sys.exit(f"seccomp: {{os.strerror(ctypes.get_errno())}}")
os.execvp(sys.argv[1], sys.argv[1:])
'''
FORBIDDEN = [PYTHON, '-c', FORBID_IO_URING]


def io_uring_works():
    """Whether this machine lets anybody use io_uring."""
    parameters = ctypes.create_string_buffer(120)
    fd = ctypes.CDLL(None).syscall(NR_IO_URING_SETUP, 4, parameters)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


class Engine(harness.TestCase):
    def serve_wrk(self, engine):
        """nginx under wrk with 64 connections, on a host with this engine; sums over its shards."""
        site = Nginx(self.net, lambda *words: self.net.start_ustcp('env', f'USTCP_ENGINE={engine}', *words))
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        for address in (HOST4, HOST6):
            requests, errors = wrk_result(self.net.kernel('wrk', '-t', 1, '-c', 64, '-d', '2s', '--timeout', '5s',
                                                          harness.url(address, 80, '1k')))
            self.assertEqual(errors, [])
            self.assertGreater(requests, 1000)
        shards = json.loads(self.net.query('ss', '--engine', '--json'))
        self.assertEqual(site.complaints(), [])
        return {key: sum(shard[key] for shard in shards)
                for key in ('frames_in', 'frames_out', 'ring_frames_in', 'ring_frames_out', 'ring_enters',
                            'plain_reads', 'plain_writes')}

    def check_ring(self, engine):
        sums = self.serve_wrk(engine)
        frames = sums['frames_in'] + sums['frames_out']
        ring_frames = sums['ring_frames_in'] + sums['ring_frames_out']
        self.assertGreater(sums['ring_frames_in'], 0, sums)
        self.assertGreater(sums['ring_frames_out'], 0, sums)
        self.assertGreater(ring_frames, frames / 2, sums)
        self.assertGreater(ring_frames, sums['ring_enters'], sums)

    @unittest.skipUnless(io_uring_works(), 'io_uring is not permitted on this machine')
    def test_auto_uses_the_ring(self):
        self.check_ring('auto')

    @unittest.skipUnless(io_uring_works(), 'io_uring is not permitted on this machine')
    def test_uring_uses_the_ring(self):
        self.check_ring('uring')

    def test_plain_has_no_ring(self):
        sums = self.serve_wrk('plain')
        for key in ('ring_frames_in', 'ring_frames_out', 'ring_enters'):
            self.assertEqual(sums[key], 0, sums)
        self.assertGreater(min(sums['frames_in'], sums['frames_out'], sums['plain_reads'], sums['plain_writes']), 0)

    def fetch_forbidden(self, address, engine):
        """A client on ustcp where io_uring is forbidden: (exit status, output, lines on standard error)."""
        command = self.net.host.command(*FORBIDDEN, 'env', *self.net.environment(), f'USTCP_ENGINE={engine}', 'curl',
                                        '-sS', '--max-time', 20, harness.url(address, 8080, 'small'))
        status, output, errors = self.net.complete(command, check=False)
        return status, output, errors.splitlines()

    def test_forbidden_falls_back_and_says_so(self):
        site = Nginx(self.net, self.net.start_kernel, port=8080, big_bytes=1 << 10)
        site.start()
        self.net.wait_kernel_port(8080, site.process)
        for address in (self.net.peer4, self.net.peer6):
            with self.subTest(address=address):
                status, output, lines = self.fetch_forbidden(address, 'auto')
                self.assertEqual((status, output), (0, 'a small page\n'), lines)
                self.assertEqual(lines, ['ustcp: io_uring is not permitted here (kernel.io_uring_disabled, or a '
                                         'sandbox) (EPERM); using plain reads and writes'])

    def test_forbidden_and_demanded_is_an_error(self):
        """engine = uring never means plain."""
        listener = self.net.peer.call(socket.create_server, (self.net.peer4, 8080))
        self.addCleanup(listener.close)
        listener.settimeout(0.2)
        status, _, lines = self.fetch_forbidden(self.net.peer4, 'uring')
        self.assertNotEqual(status, 0)
        reports = [line for line in lines if line.startswith('ustcp: ')]
        self.assertEqual(len(reports), 1, lines)
        self.assertIn('io_uring is not permitted', reports[0])
        self.assertIn('USTCP_ENGINE', reports[0])
        self.assertRaises(TimeoutError, listener.accept)


if __name__ == '__main__':
    harness.main()
