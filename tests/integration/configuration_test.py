#!/usr/bin/python3
"""Configuration by file and environment, sysctls from the file and from the kernel, destinations that stay with the
kernel, captures. What a setting does is looked at where it shows: on the wire, in `ustcp sysctl`, in a file."""

import os
import pathlib
import socket
import subprocess

import harness
from harness import GATEWAY4, GATEWAY6, HOST4, HOST6, INTERFACE

PYTHON = '/usr/bin/python3'

# Connects, says by which address, and waits for the end of its input.
CLIENT = '''
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
print(s.getsockname()[0], flush=True)
sys.stdin.read()
'''
# A socket for every line of the input, each of them connected.
CONNECT_ON_DEMAND = '''
import socket, sys
print("ready", flush=True)
for line in sys.stdin:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    print("connected", flush=True)
    s.close()
'''
# What the kernel's side of a connection was offered on the SYN, by the connection's TCP_INFO.
TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE = 1, 4
TCP_INFO = 11


class Configuration(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.server = self.net.peer.call(lambda: socket.create_server(('::', 8080), family=socket.AF_INET6,
                                                                      dualstack_ipv6=True))
        self.server.settimeout(10)
        self.addCleanup(self.server.close)

    def file(self, text, name='host.conf'):
        path = self.net.dir / name
        path.write_text(text)
        return path

    def everything(self, **more):
        """A file that says all that the test's variables say."""
        settings = {'interface': INTERFACE, 'addresses': f'{HOST4}/24, {HOST6}/64',
                    'gateways': f'{GATEWAY4}, {GATEWAY6}', 'runtime_dir': self.net.dir / 'run',
                    'keeper': self.net.product('ustcp-keeper'), 'engine': harness.OPTIONS.engine, **more}
        # TIME_WAIT would keep the host, and the interface with it, for a minute.
        return ''.join(f'{key} = {value}\n' for key, value in settings.items()) + 'sysctl.ustcp.tcp_timewait_len = 0\n'

    def environment(self, *more, preload=True):
        """Only what is named: the file has the rest."""
        words = ['-i', f'PATH={os.environ["PATH"]}', *more]
        return ['env', *words, f'LD_PRELOAD={self.net.product("libustcp.so")}'] if preload else ['env', *words]

    def connect(self, *variables, address=GATEWAY4, command=()):
        """A connection of a preloaded client: (its own address, the options of its SYN, lines on standard error)."""
        words = [*self.environment(*variables), *command, PYTHON, '-c', CLIENT, address, '8080']
        process = subprocess.Popen(self.net.host.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            own = process.stdout.readline().strip()
            if own == '':
                self.fail(process.communicate()[1])
            connection, _ = self.server.accept()
            with connection:
                options = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 100)[5]
            _, errors = process.communicate('', 10)
        finally:
            process.kill()
            process.wait()
        return own, options, errors

    def tool(self, *words, variables=()):
        return self.net.complete(self.net.app.command(*self.environment(*variables, preload=False), self.net.tool(),
                                                      *words))

    # -- file and environment

    def test_file_alone(self):
        """Everything from the file that USTCP_CONFIG names, and the host's name as well."""
        path = self.file(self.everything(host=self.net.prefix))
        for address, own in ((GATEWAY4, HOST4), (GATEWAY6, HOST6)):
            self.assertEqual(self.connect(f'USTCP_CONFIG={path}', address=address)[::2], (own, ''))
        self.assertRegex(self.tool('hosts', variables=[f'USTCP_CONFIG={path}']), rf'^{self.net.prefix} +broker')

    def test_file_of_the_host_s_name(self):
        """/etc/ustcp/NAME.conf is read without being named."""
        name = self.net.prefix
        folder = pathlib.Path('/etc/ustcp')
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        path = folder / f'{name}.conf'
        self.addCleanup(lambda: folder.rmdir() if made and not any(folder.iterdir()) else None)
        self.addCleanup(path.unlink)
        path.write_text(self.everything(addresses='10.117.0.7/24', gateways=GATEWAY4))
        self.assertEqual(self.connect(f'USTCP_HOST={name}')[::2], ('10.117.0.7', ''))

    def test_environment_over_file_over_default(self):
        path = self.file(self.everything(addresses='10.117.0.7/24', gateways=GATEWAY4, tick_us=3000))
        own, _, errors = self.connect(f'USTCP_CONFIG={path}', 'USTCP_ADDR=10.117.0.8/24', f'USTCP_HOST={self.net.prefix}')
        self.assertEqual((own, errors), ('10.117.0.8', ''))
        # An empty variable is as good as none.
        other = f'USTCP_HOST={self.net.prefix}-2'
        self.wait_for_end(f'USTCP_CONFIG={path}', f'USTCP_HOST={self.net.prefix}')
        own, _, errors = self.connect(f'USTCP_CONFIG={path}', 'USTCP_ADDR=', other)
        self.assertEqual((own, errors), ('10.117.0.7', ''))

    def wait_for_end(self, *variables):
        """The interface is free again once the host's keeper has ended."""
        harness.wait_until(lambda: 'broker' not in self.tool('hosts', variables=variables), 10, 'the keeper ends')

    # -- sysctls

    def sysctl(self, name, *variables):
        return self.tool('sysctl', '-n', name, variables=variables).split()

    def test_sysctls_of_the_file(self):
        """On the wire, in `ustcp sysctl`, and where the default would be another."""
        text = self.everything() + 'sysctl.net.ipv4.tcp_sack = 0\nsysctl.net.ipv4.tcp_timestamps = 0 # off\n' \
            'sysctl.net/ipv4/tcp_rmem = 4096 65536 1048576\nsysctl.net.ipv4.ip_local_port_range = 40000 40000\n'
        variables = [f'USTCP_CONFIG={self.file(text)}', f'USTCP_HOST={self.net.prefix}']
        _, options, errors = self.connect(*variables)
        self.assertEqual((options & 7, errors), (TCPI_OPT_WSCALE, ''))
        self.assertEqual(self.sysctl('net.ipv4.tcp_rmem', *variables), ['4096', '65536', '1048576'])
        self.assertEqual(self.sysctl('net.ipv4.tcp_sack', *variables), ['0'])
        self.assertEqual(self.sysctl('net.ipv4.tcp_dsack', *variables), ['1'])

    def test_sysctls_while_it_runs(self):
        """`ustcp sysctl` changes what the next connection does."""
        path = self.file(self.everything())
        variables = [f'USTCP_CONFIG={path}', f'USTCP_HOST={self.net.prefix}']
        client = self.on_demand(*variables)
        self.assertEqual(self.next_options(client) & 7, 7)
        self.tool('sysctl', 'net.ipv4.tcp_sack=0', variables=variables)
        self.assertEqual(self.next_options(client) & 7, TCPI_OPT_TIMESTAMPS | TCPI_OPT_WSCALE)

    def on_demand(self, *variables):
        words = [*self.environment(*variables), PYTHON, '-c', CONNECT_ON_DEMAND, GATEWAY4, '8080']
        process = subprocess.Popen(self.net.host.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def end():
            process.stdin.close()
            process.stdout.close()
            process.wait(10)
        self.addCleanup(end)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        return process

    def next_options(self, process):
        """The options of the SYN of one more connection."""
        process.stdin.write('\n')
        process.stdin.flush()
        connection, _ = self.server.accept()
        with connection:
            options = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 100)[5]
        self.assertEqual(process.stdout.readline(), 'connected\n')
        return options

    def kernel_sysctls(self):
        """Values of the namespace that are nobody's defaults."""
        for name, value in (('tcp_fin_timeout', 17), ('tcp_keepalive_time', 1234), ('tcp_retries2', 9),
                            ('tcp_syn_retries', 3), ('ip_local_port_range', '41000 41999'),
                            ('tcp_rmem', '4096 98304 3145728')):
            self.net.app.sysctl(f'net.ipv4.{name}', value)

    def test_sysctls_of_the_kernel(self):
        """`sysctls = kernel`: when the host is created, and not again; lines of the file win."""
        self.kernel_sysctls()
        text = self.everything(sysctls='kernel') + 'sysctl.net.ipv4.tcp_retries2 = 7\n'
        variables = [f'USTCP_CONFIG={self.file(text)}', f'USTCP_HOST={self.net.prefix}']
        client = self.on_demand(*variables)
        self.assertEqual(self.next_options(client) & 7, 7)
        for name, value in (('tcp_fin_timeout', '17'), ('tcp_keepalive_time', '1234'), ('tcp_retries2', '7'),
                            ('tcp_syn_retries', '3'), ('ip_local_port_range', '41000 41999'),
                            ('tcp_rmem', '4096 98304 3145728')):
            with self.subTest(name=name):
                self.assertEqual(' '.join(self.sysctl(f'net.ipv4.{name}', *variables)), value)
        self.net.app.sysctl('net.ipv4.tcp_fin_timeout', 18)
        self.next_options(client)
        self.assertEqual(self.sysctl('net.ipv4.tcp_fin_timeout', *variables), ['17'])

    def test_sysctls_of_the_kernel_for_each_socket(self):
        """`sysctls = kernel-each-socket`: kernel and ustcp are compared under one setting."""
        text = self.everything(sysctls='kernel-each-socket') + 'sysctl.net.ipv4.tcp_retries2 = 7\n'
        variables = [f'USTCP_CONFIG={self.file(text)}', f'USTCP_HOST={self.net.prefix}']
        client = self.on_demand(*variables)
        self.next_options(client)
        self.assertEqual(self.sysctl('net.ipv4.tcp_fin_timeout', *variables), ['60'])
        self.kernel_sysctls()
        self.next_options(client)
        self.assertEqual(self.sysctl('net.ipv4.tcp_fin_timeout', *variables), ['17'])
        self.assertEqual(self.sysctl('net.ipv4.tcp_retries2', *variables), ['7'])
        # It shows on the wire too.
        with self.net.capture(self.net.app, INTERFACE) as path:
            for value in (1, 0):
                self.net.app.sysctl('net.ipv4.tcp_sack', value)
                self.next_options(client)
            rows = self.syns(path, 2, 'tcp.options.sack_perm')
        self.assertEqual([row != [''] for row in rows], [True, False])

    def syns(self, path, count, field):
        """A field of the first `count` SYNs of a capture that goes on: tcpdump may be behind."""
        rows = []

        def there():
            rows[:] = self.fields(path, 'tcp.flags.syn==1 && tcp.flags.ack==0', field)
            return len(rows) >= count
        harness.wait_until(there, 20, f'{count} SYNs in the capture')
        return rows[:count]

    @staticmethod
    def fields(path, display_filter, *names):
        words = ['tshark', '-r', str(path), '-n', '-Y', display_filter, '-T', 'fields']
        for name in names:
            words += ['-e', name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if done.returncode not in (0, 2):
            raise RuntimeError(done.stderr)
        return [line.split('\t') for line in done.stdout.splitlines()]

    # -- routing

    def test_destinations_of_the_kernel(self):
        """Connections there are the kernel's from the start; others are not."""
        text = self.everything(kernel_destinations='10.120.0.0/24, fd75:7374:6374::/64')
        variables = [f'USTCP_CONFIG={self.file(text)}', f'USTCP_HOST={self.net.prefix}']
        self.net.app.ip('link', 'add', 'extra', 'type', 'veth', 'peer', 'name', 'extra-peer')
        self.net.app.ip('link', 'set', 'extra', 'up')
        self.net.app.ip('addr', 'add', '10.120.0.1/24', 'dev', 'extra')
        self.net.app.ip('addr', 'add', 'fd75:7374:6374::1/64', 'dev', 'extra')
        for address in ('10.120.0.1', 'fd75:7374:6374::1'):
            with self.subTest(address=address):
                self.assertEqual(self.connect(*variables, address=address)[::2], (address, ''))
        for address, own in ((GATEWAY4, HOST4), (GATEWAY6, HOST6)):
            with self.subTest(address=address):
                self.assertEqual(self.connect(*variables, address=address)[::2], (own, ''))

    def test_loopback(self):
        """The kernel's by default, the host's own with `loopback = host`."""
        both_ends = ('import socket; a = socket.create_server(("127.0.0.1", 0)); '
                     'b = socket.create_connection(a.getsockname(), timeout=5); c, _ = a.accept(); '
                     'c.sendall(b"x"); print(b.recv(1), open("/proc/net/tcp").read().count(":%04X " % a.getsockname()[1]))')
        for loopback, of_kernel in (('kernel', True), ('host', False)):
            with self.subTest(loopback=loopback):
                path = self.file(self.everything(loopback=loopback))
                variables = [f'USTCP_CONFIG={path}', f'USTCP_HOST={self.net.prefix}-{loopback}']
                output = self.net.complete(self.net.host.command(*self.environment(*variables), PYTHON, '-c', both_ends))
                received, entries = output.split()
                self.assertEqual(received, "b'x'")
                self.assertEqual(int(entries) > 0, of_kernel, output)
                self.wait_for_end(*variables)

    # -- capture

    def test_capture(self):
        """The frames of a run, in a file that tshark reads without complaint."""
        capture = self.net.dir / 'frames.pcap'
        # The keeper shall not take frames over that a loaded machine leaves waiting.
        text = self.everything(capture=capture, tick_us=100000)
        variables = [f'USTCP_CONFIG={self.file(text)}', f'USTCP_HOST={self.net.prefix}']
        for address in (GATEWAY4, GATEWAY6):
            self.connect(*variables, address=address)
        files = sorted(self.net.dir.glob('frames.pcap.*'))
        self.assertEqual(len(files), 2, 'one for each process')
        flags = set()
        for path in files:
            self.assertRegex(path.name, r'^frames\.pcap\.\d+$')
            good, faults = harness.capture_faults(path)
            self.assertEqual(faults, [])
            self.assertGreaterEqual(good, 4)
            rows = self.fields(path, 'tcp.port==8080', 'ip.src', 'ipv6.src', 'tcp.flags.syn', 'tcp.flags.fin')
            flags |= {(row[0] or row[1], row[2], row[3]) for row in rows}
        for address in (HOST4, HOST6, GATEWAY4, GATEWAY6):
            self.assertTrue({(address, 'True', 'False'), (address, '1', '0')} & flags, (address, flags))
        # Who closes first sends the first FIN: the server's end was closed by the test.
        self.assertTrue(any(fin in ('True', '1') for _, _, fin in flags))

    def test_mtu(self):
        """A smaller MTU than the interface's shows in the MSS of the SYN."""
        variables = [f'USTCP_CONFIG={self.file(self.everything(mtu=1400))}', f'USTCP_HOST={self.net.prefix}']
        with self.net.capture(self.net.app, INTERFACE) as path:
            for address in (GATEWAY4, GATEWAY6):
                self.connect(*variables, address=address)
            rows = self.syns(path, 2, 'tcp.options.mss_val')
        self.assertEqual(rows, [['1360'], ['1340']])

    def test_mac(self):
        variables = [f'USTCP_CONFIG={self.file(self.everything(mac="02:00:00:00:12:34"))}',
                     f'USTCP_HOST={self.net.prefix}']
        self.next_options(self.on_demand(*variables))
        self.assertRegex(self.net.app.ip('neigh', 'show', HOST4), 'lladdr 02:00:00:00:12:34')


if __name__ == '__main__':
    harness.main()
