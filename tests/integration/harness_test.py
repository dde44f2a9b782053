#!/usr/bin/python3
"""The harness itself: it sees what it has to see, and removes what a killed run leaves."""

import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import harness
import netns


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def tcp_frame(flip_tcp=False, flip_ip=False, bogus_length=False, zero_sum=False):
    """An Ethernet frame with one TCP segment, correct unless told otherwise.

    With zero_sum the checksum is 0, written as 0xffff.
    """
    addresses = bytes([10, 117, 0, 1, 10, 117, 0, 2])
    offset = 15 if bogus_length else 5

    window = 1000

    def segment(value):
        return struct.pack('!HHIIBBHHH', 40000, 80, 1, 1, offset << 4, 0x18, window, value, 0) + b'data'

    pseudo = addresses + struct.pack('!BBH', 0, 6, len(segment(0)))
    if zero_sum:
        window += checksum(pseudo + segment(0))
        assert window < 1 << 16 and checksum(pseudo + segment(0)) == 0
    tcp = segment(0xffff if zero_sum else checksum(pseudo + segment(0)) ^ flip_tcp)
    header = struct.pack('!BBHHHBBH8s', 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, addresses)
    header = header[:10] + struct.pack('!H', checksum(header) ^ flip_ip) + header[12:]
    return bytes(12) + b'\x08\x00' + header + tcp


def write_pcap(path, frames):
    with open(path, 'wb') as file:
        file.write(struct.pack('<IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack('<IIII', 0, 0, len(frame), len(frame)) + frame)


class Harness(unittest.TestCase):
    def test_capture_faults(self):
        with tempfile.NamedTemporaryFile(suffix='.pcap') as file:
            write_pcap(file.name, [tcp_frame(), tcp_frame(flip_tcp=True), tcp_frame(), tcp_frame(flip_ip=True),
                                   tcp_frame(bogus_length=True), tcp_frame()[:12] + b'\x08\x06\0\1\x08',
                                   tcp_frame(zero_sum=True)])
            good, faults = harness.capture_faults(file.name)
        self.assertEqual(good, 5)
        self.assertEqual([fault.split(':')[0] for fault in faults], [f'packet {n}' for n in (2, 4, 5, 6)])
        self.assertIn('tcp.checksum', faults[0])
        self.assertIn('ip.checksum', faults[1])
        self.assertIn('malformed', faults[3])

    def test_make_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / 'file'
            digest = harness.make_file(path, 300_001)
            self.assertEqual(path.stat().st_size, 300_001)
            self.assertEqual(harness.sha256(path), digest)
            self.assertNotEqual(harness.make_file(path, 300_001, seed=2), digest)

    def test_leftovers_of_a_killed_run(self):
        """Namespace, directory and background program of a run that got SIGKILL go away; those of a live run stay."""
        program = ('import sys, time; sys.path.insert(0, sys.argv[1]); import harness; harness.OPTIONS.native = True\n'
                   'with harness.Net() as net:\n'
                   '    child = net.start_kernel("sleep", 1000)\n'
                   '    harness.wait_until(lambda: net.app.pids(), 10, "sleep runs")\n'
                   '    print(net.prefix, net.app.pids()[0], flush=True)\n'
                   '    time.sleep(100)\n')
        own = netns.unique_prefix()
        self.addCleanup(netns.remove, f'{own}-app')
        netns.Namespace(f'{own}-app')
        run = subprocess.Popen([sys.executable, '-c', program, str(pathlib.Path(__file__).parent)],
                               stdout=subprocess.PIPE, text=True)
        self.addCleanup(run.stdout.close)
        prefix, sleeper = run.stdout.readline().split()
        run.send_signal(signal.SIGKILL)
        run.wait()
        self.assertIn(f'{prefix}-app', netns.run('ip', 'netns', 'list'))
        netns.remove_leftovers()
        names = netns.run('ip', 'netns', 'list')
        self.assertNotIn(prefix, names)
        self.assertIn(f'{own}-app', names)
        self.assertFalse((pathlib.Path(tempfile.gettempdir()) / prefix).exists())
        deadline = time.monotonic() + 5
        while os.path.exists(f'/proc/{sleeper}') and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(f'/proc/{sleeper}'))


if __name__ == '__main__':
    harness.main()
