#!/usr/bin/python3
"""`ustcp sysctl` takes what /proc/sys/net takes and refuses what it refuses: every row that the kernel has in a network
namespace, at its bounds and around them, garbage, too few and too many numbers, rules that join two sysctls. And what was
taken, however odd, is survived by connections as the kernel's survive it."""

import contextlib
import os
import pathlib
import socket

import harness
from harness import HOST4

PYTHON = '/usr/bin/python3'
KEEP = 'import socket, sys, time; s = socket.create_server(("0.0.0.0", 8090)); print("up", flush=True); time.sleep(600)'
NUMBERS = (-2147483649, -2147483648, -8589935, -8589934, -1, 0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 47, 48, 49, 127, 128, 255, 256,
           300, 301, 999, 1000, 1023, 1024, 32767, 32768, 32769, 60000, 60001, 65535, 65536, 120000, 120001, 8589934, 8589935,
           2147483647, 2147483648, 4294967295, 4294967296)
TEXTS = ('\n', ' ', 'x', '1x', '1 x', '0x10', '0X10', '010', '09', '0x', '+1', '-0', '- 1', ' 1', '1 ', '\t1\n', '1,2', '1.5', '1e3',
         '1\r', '1\n2', '0000000000000000000001', '000000000000000000001', '99999999999999999999999', 'reno', 'vegas',
         '1 2', '1 2 3', '1 2 3 4', '5000 6000 7000 8000', '4096 x 7', '1000 2000', '1023 2000', '1024 1024',
         '6000 5000', '60000 50000', '9000 8000 7000', '0 0 0', '0x7fffffff', '-0x1')
# Kept in ticks by the kernel, and so rounded; and beyond 32 bits it takes numbers by accident.
IN_TICKS = ('tcp_invalid_ratelimit', 'icmp_ratelimit')
# Bounded by another one: by what the batch wrote there a moment ago.
JOINED = ('ip_unprivileged_port_start', 'tcp_reordering')


class Sysctls(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.keep = self.net.start_ustcp(PYTHON, '-c', KEEP)
        harness.wait_until(lambda: 'up' in self.keep.log(), 10, 'the host runs')
        self.rows = {}  # name: (path in /proc/sys, how many numbers)
        for line in self.net.query('sysctl', '-a').splitlines():
            name, value = line.split(' = ')
            path = '/proc/sys/' + name.replace('.', '/')
            if name.endswith('hop_limit'):
                path = '/proc/sys/net/ipv6/conf/default/hop_limit'
            self.rows[name] = (path, len(value.split()))

    def ours(self, words):
        """name: the value after it was written, for the words that were taken. Lines say why of the others."""
        status, output, errors = self.net.complete(
            self.net.app.command('env', *self.net.host_environment(), self.net.tool(), 'sysctl', '-w', *words),
            check=False)
        taken = dict(line.split(' = ', 1) for line in output.splitlines())
        lines = errors.splitlines()
        self.assertEqual((len(lines), status), (len(words) - len(taken), 0 if len(taken) == len(words) else 1), errors)
        for line in lines:
            self.assertRegex(line, r'^ustcp: .* does not fit [\w.]+: ', line)
        return taken

    def kernels(self, path, text):
        """The value after it was written, or None. What was there before is put back."""
        def attempt():
            file = pathlib.Path(path)
            before = file.read_text()
            fd = os.open(path, os.O_WRONLY)
            try:
                os.write(fd, text.encode())
                result = file.read_text().rstrip('\n')
            except OSError:
                result = None
            os.close(fd)
            file.write_text(before)
            return result
        return self.net.app.call(attempt)

    def test_takes_what_the_kernel_takes(self):
        """Each text to each row, here and there."""
        def writable(path):
            return os.path.exists(path) and os.stat(path).st_mode & 0o200 != 0
        known = {name: row for name, row in self.rows.items() if self.net.app.call(lambda p=row[0]: writable(p))}
        self.assertGreater(len(known), 55)
        for name in known:  # both begin with the kernel's values
            if not name.endswith('congestion_control'):
                self.ours([f'{name}={self.net.app.call(pathlib.Path(known[name][0]).read_text)}'])
        before = [f'{name}={self.net.query("sysctl", "-n", name).strip()}' for name in known]
        compared = 0
        for text in (*NUMBERS, *TEXTS):
            full = {name: ' '.join([str(text)] * count) if isinstance(text, int) else text
                    for name, (_, count) in known.items()}
            taken = {}
            for joined in (False, True):  # not in one go with the one that a rule joins them to
                taken |= self.ours([f'{name}={value}' for name, value in full.items() if name.endswith(JOINED) == joined])
                self.ours(before)
            for name, value in full.items():
                theirs = self.kernels(known[name][0], value)
                ours = taken.get(name)
                short = name.split('.')[-1]
                if short in IN_TICKS or (short == 'tcp_comp_sack_delay_ns' and value == '4294967296'):
                    if isinstance(text, int) and 0 <= text < 2**31:
                        self.assertIsNotNone(ours, f'{name}={value}')
                    continue
                self.assertEqual(ours, theirs, f'{name}={value!r}: (ours, the kernel\'s)')
                compared += 1
        self.assertGreater(compared, 4000)

    def test_rules_that_join_two(self):
        """Each in a state that the other one makes."""
        port, start = 'net.ipv4.ip_local_port_range', 'net.ipv4.ip_unprivileged_port_start'
        for words, taken in (([f'{port}=60000 50000'], []), ([f'{start}=40000'], []),
                             ([f'{port}=40000 50000', f'{start}=40000'], [port, start]),
                             ([f'{port}=39999 50000'], []), ([f'{start}=0', f'{port}=1 65535'], [start, port]),
                             (['net.ipv4.tcp_reordering=301'], []),
                             (['net.ipv4.tcp_max_reordering=400', 'net.ipv4.tcp_reordering=301'],
                              ['net.ipv4.tcp_max_reordering', 'net.ipv4.tcp_reordering'])):
            self.assertEqual(list(self.ours(words)), taken)

    def test_connections_survive(self):
        """Odd values that the kernel takes, too. With a receive buffer of one byte the kernel's connections stand still,
        and without retransmissions one late ACK ends them."""
        server = self.net.start_ustcp(PYTHON, '-c', '''
import contextlib, socket, threading
def count(c):  # connections that stand still keep nobody from the others
    with c, contextlib.suppress(OSError):
        n = 0
        while piece := c.recv(4096): n += len(piece)
        c.sendall(b"%d" % n)
s = socket.create_server(("0.0.0.0", 8091))
while True:
    threading.Thread(target=count, args=(s.accept()[0],), daemon=True).start()
''')
        self.net.wait_ustcp_port(8091, server)
        def transfer(timeout):
            with self.net.peer.connect(HOST4, 8091, timeout) as connection:
                connection.sendall(bytes(20000))
                connection.shutdown(socket.SHUT_WR)
                return b''.join(iter(lambda: connection.recv(100), b''))
        for words, works in (('net.ipv4.tcp_wmem=1 1 1', True), ('net.ipv4.tcp_rmem=1 1 1', False),
                             ('net.ipv4.tcp_rmem=2147483647 1 4096', False), ('net.ipv4.tcp_retries2=0', False),
                             ('net.ipv4.tcp_keepalive_time=-1', True), ('net.ipv4.tcp_congestion_control=reno', True),
                             ('net.ipv4.tcp_fin_timeout=-1', True), ('net.ipv4.tcp_timestamps=200', True)):
            name = words.split('=')[0]
            before = self.net.query('sysctl', '-n', name).strip()
            self.assertEqual(len(self.ours([words])), 1)
            if works:
                self.assertEqual(transfer(10.0), b'20000', words)
            else:
                with contextlib.suppress(OSError):
                    transfer(1.0)
            self.ours([f'{name}={before}'])
        self.assertEqual(transfer(10.0), b'20000')
        self.assertTrue(server.running() and self.keep.running())


if __name__ == '__main__':
    harness.main()
