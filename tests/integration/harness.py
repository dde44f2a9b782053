"""What the integration tests share: a small network with a ustcp host in it, and stock programs run on either side.

Two topologies, each with the same two ends. The programs of the *ustcp side* run with the library preloaded and own
10.117.0.2 and fd75:7374:6370::2; the programs of the *kernel side* use the kernel's TCP.

    direct   one namespace: the TAP's kernel end, 10.117.0.1, is the kernel side
    routed   app (TAP) - veth - middle (drops packets it forwards) - veth - far, which is the kernel side

With --native there is no TAP and nothing is preloaded: the ustcp side is a namespace of its own behind a veth. That is
how the tests themselves are tested, and how to see what the kernel does.
"""

import argparse
import atexit
import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import netns

HOST4, HOST6 = '10.117.0.2', 'fd75:7374:6370::2'
GATEWAY4, GATEWAY6 = '10.117.0.1', 'fd75:7374:6370::1'
FAR4, FAR6 = '10.119.0.2', 'fd75:7374:6372::2'
INTERFACE = 'ustcp0'

OPTIONS = argparse.Namespace(build=None, engine='auto', native=False, root=None, long=False)


class Process:
    """A program in the background; its output is in a file."""

    def __init__(self, command, log, env=None, **popen):
        self.command = command
        self.log_path = log
        with open(log, 'wb') as output:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                          env=env, start_new_session=True, **popen)

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors='replace')

    def running(self):
        return self.popen.poll() is None

    def wait(self, timeout):
        """Exit status; raises when the program takes longer."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f'{" ".join(self.command)}: still running after {timeout} s\n{self.log()}') from None

    def stop(self, number=signal.SIGTERM, patience=5.0):
        """Ends the program and what it started in its session."""
        for attempt in (number, signal.SIGKILL):
            if not self.running():
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, attempt)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(patience)


@functools.cache
def _products():
    """The build's products side by side, in a directory of this run's."""
    directory = netns.make_directory(netns.unique_prefix())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for folder, name in (('preload', 'libustcp.so'), ('preload/keeper', 'ustcp-keeper'), ('tools', 'ustcp')):
        path = OPTIONS.build / folder / name
        if not path.exists():
            raise RuntimeError(f'{OPTIONS.build}: no {name}; build it first')
        shutil.copy(path, directory)
        (directory / name).chmod(0o755)
    return directory


class Net:
    """The network of one test. A context manager: leaves nothing behind."""

    def __init__(self, topology='direct', loss_percent=0.0, owner=None):
        if os.geteuid() != 0:
            raise RuntimeError('needs root: network namespaces and a TAP')
        self.stack = contextlib.ExitStack()
        self.topology, self.loss_percent, self.owner = topology, loss_percent, owner
        self.prefix = netns.unique_prefix()
        self.count = 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.stack = stack
            netns.remove_leftovers()
            self.dir = netns.make_directory(self.prefix)
            stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
            self.app = self._namespace('app')
            self.host = self.app
            if OPTIONS.native:
                self._native_host()
            else:
                self._tap_host()
            self.peer = self.app
            self.peer4, self.peer6 = GATEWAY4, GATEWAY6
            if self.topology == 'routed':
                self._route()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    # -- set-up

    def _namespace(self, role):
        name = f'{self.prefix}-{role}'
        self.stack.callback(netns.remove, name)
        return netns.Namespace(name)

    def _native_host(self):
        self.host = self._namespace('host')
        netns.veth(self.app, INTERFACE, self.host, 'eth0')
        for namespace, interface, addresses in ((self.app, INTERFACE, (GATEWAY4, GATEWAY6)),
                                                (self.host, 'eth0', (HOST4, HOST6))):
            for address, length in zip(addresses, (24, 64)):
                namespace.ip('addr', 'add', f'{address}/{length}', 'dev', interface)
        # To the far side of the routed topology only: name servers are to be unreachable at once, as in `app`.
        self.host.ip('route', 'add', '10.119.0.0/24', 'via', GATEWAY4)
        self.host.ip('-6', 'route', 'add', 'fd75:7374:6372::/64', 'via', GATEWAY6)

    def _tap_host(self):
        owner = ['--owner', self.owner, '--no-keeper'] if self.owner is not None else []
        self.app.run(self.tool(), 'net', 'up', '--interface', INTERFACE, *owner, timeout=20)
        self.stack.callback(self._quietly, self.app.command(self.tool(), 'net', 'down', '--interface', INTERFACE))

    def _route(self):
        """app - middle - far, the middle dropping packets it forwards, in both directions."""
        middle, far = self._namespace('middle'), self._namespace('far')
        self.middle, self.peer, self.peer4, self.peer6 = middle, far, FAR4, FAR6
        netns.veth(self.app, 'to-middle', middle, 'to-app')
        netns.veth(middle, 'to-far', far, 'to-middle')
        for namespace, interface, v4, v6 in ((self.app, 'to-middle', '10.118.0.1', 'fd75:7374:6371::1'),
                                             (middle, 'to-app', '10.118.0.2', 'fd75:7374:6371::2'),
                                             (middle, 'to-far', '10.119.0.1', 'fd75:7374:6372::1'),
                                             (far, 'to-middle', FAR4, FAR6)):
            namespace.ip('addr', 'add', f'{v4}/24', 'dev', interface)
            namespace.ip('addr', 'add', f'{v6}/64', 'dev', interface)
            # Real segments on these links: what is dropped is one, and every checksum in a capture is complete.
            namespace.run('ethtool', '-K', interface, 'tso', 'off', 'gso', 'off', 'gro', 'off', 'tx', 'off')
        for namespace in (self.app, middle):
            namespace.sysctl('net.ipv4.ip_forward', 1)
            namespace.sysctl('net.ipv6.conf.all.forwarding', 1)
        self.app.ip('route', 'add', '10.119.0.0/24', 'via', '10.118.0.2')
        self.app.ip('-6', 'route', 'add', 'fd75:7374:6372::/64', 'via', 'fd75:7374:6371::2')
        middle.ip('route', 'add', '10.117.0.0/24', 'via', '10.118.0.1')
        middle.ip('-6', 'route', 'add', 'fd75:7374:6370::/64', 'via', 'fd75:7374:6371::1')
        far.ip('route', 'add', 'default', 'via', '10.119.0.1')
        far.ip('-6', 'route', 'add', 'default', 'via', 'fd75:7374:6372::1')
        if self.loss_percent > 0:
            threshold = round(self.loss_percent * 100)
            # Only TCP: losing neighbour discovery would test something else.
            middle.run('nft', 'add table inet loss; add chain inet loss drops { type filter hook forward priority 0; }; '
                       f'add rule inet loss drops meta l4proto tcp numgen random mod 10000 lt {threshold} counter drop')

    def dropped(self):
        """Packets that the middle has dropped so far."""
        words = self.middle.run('nft', 'list', 'chain', 'inet', 'loss', 'drops').split()
        return int(words[words.index('packets') + 1])

    # -- programs

    @staticmethod
    def product(name):
        """A product of the build, where every user can reach it: the tree may be in root's own folder."""
        return _products() / name

    def tool(self):
        return self.product('ustcp')

    def environment(self):
        """Variables of a preloaded program, as `env` takes them."""
        if OPTIONS.native:
            return []
        return [f'LD_PRELOAD={self.product("libustcp.so")}', *self.host_environment()]

    def host_environment(self):
        """Variables that name the host: for `ustcp ss` and the like too."""
        if OPTIONS.native:
            return []
        return [f'USTCP_HOST={self.prefix}', f'USTCP_INTERFACE={INTERFACE}', f'USTCP_ADDR={HOST4}/24,{HOST6}/64',
                f'USTCP_GATEWAY={GATEWAY4},{GATEWAY6}', f'USTCP_KEEPER={self.product("ustcp-keeper")}',
                f'USTCP_RUNTIME_DIR={self.dir}/run', f'USTCP_ENGINE={OPTIONS.engine}']

    def ustcp_command(self, *words):
        return self.host.command('env', *self.environment(), *words)

    def kernel(self, *words, timeout=60, check=True, stdin=None):
        """Runs a program on the kernel side; returns its output."""
        return self.complete(self.peer.command(*words), timeout, check, stdin)

    def ustcp(self, *words, timeout=60, check=True, stdin=None):
        """Runs a program on the ustcp side; returns its output."""
        return self.complete(self.ustcp_command(*words), timeout, check, stdin)

    def query(self, *words, timeout=20):
        """Runs the tool against this host: query('ss', '-t')."""
        return self.complete(self.app.command('env', *self.host_environment(), self.tool(), *words), timeout, True,
                              None)

    def start_kernel(self, *words, **popen):
        return self.start(self.peer.command(*words), words, **popen)

    def start_ustcp(self, *words, **popen):
        return self.start(self.ustcp_command(*words), words, **popen)

    def start(self, command, words, **popen):
        """Starts a command in the background; `words` are the program's own, for the name of its log."""
        self.count += 1
        log = self.dir / f'{self.count}-{pathlib.Path(str(words[0])).name}.log'
        process = Process(command, log, **popen)
        self.stack.callback(process.stop)
        return process

    @staticmethod
    def complete(command, timeout=60, check=True, stdin=None):
        """Runs a command to its end: its output, or (exit status, output, errors) when nobody wants it checked."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            output, errors = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise AssertionError(f'{" ".join(command)}: still running after {timeout} s\n{output}{errors}') from None
        if check and process.returncode != 0:
            raise AssertionError(f'{" ".join(command)}: exit status {process.returncode}\n{output}{errors}')
        return output if check else (process.returncode, output, errors)

    @staticmethod
    def _quietly(command):
        subprocess.run(command, capture_output=True, timeout=20)

    # -- waiting

    def wait_ustcp_port(self, port, process=None, timeout=10.0):
        """Waits until the ustcp side accepts connections from the kernel side."""
        self._wait_port(HOST4, port, process, timeout)

    def wait_kernel_port(self, port, process=None, timeout=10.0):
        self._wait_port(self.peer4, port, process, timeout)

    def _wait_port(self, address, port, process, timeout):
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.peer.connect(address, port, 1.0).close()
                return
            except OSError as error:
                if process is not None and not process.running():
                    raise AssertionError(f'{" ".join(process.command)}: ended\n{process.log()}') from None
                if time.monotonic() > deadline:
                    log = process.log() if process is not None else ''
                    raise AssertionError(f'{address} port {port}: {error} after {timeout} s\n{log}') from None
                time.sleep(0.05)

    # -- captures

    @contextlib.contextmanager
    def capture(self, namespace, interface, packets=20000):
        """Captures in the background; yields the path of the file, complete when the block is left."""
        path = self.dir / f'{interface}.pcap'
        process = self.start(namespace.command('tcpdump', '-Z', 'root', '-U', '--immediate-mode', '-n', '-i', interface, '-s', '0',
                                               '-B', '16384', '-c', packets, '-w', path), ['tcpdump'])
        wait_until(lambda: 'listening on' in process.log(), 10, 'tcpdump listens')
        yield path
        process.stop(signal.SIGINT)


def capture_faults(path):
    """(packets with a good TCP checksum, lines for malformed packets and bad checksums) of a capture."""
    fields = ('frame.number', 'tcp.checksum.status', 'ip.checksum.status', 'icmp.checksum.status',
              'icmpv6.checksum.status', 'tcp.checksum', 'tcp.checksum_calculated', '_ws.malformed',
              '_ws.expert.severity')
    command = ['tshark', '-r', str(path), '-n', '-o', 'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE',
               '-T', 'fields']
    for field in fields:
        command += ['-e', field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    # A capture cut off in the middle of a packet is how tcpdump may leave it, and no fault.
    if done.returncode not in (0, 2):
        raise RuntimeError(f'tshark: {done.stderr}')
    good, faults = 0, []
    for line in done.stdout.splitlines():
        row = dict(zip(fields, line.split('\t')))
        # Both are zero in ones' complement. The kernel sends 0xffff in place of 0 for every protocol, not for UDP only;
        # tshark computes the other one.
        if (row.get('tcp.checksum'), row.get('tcp.checksum_calculated')) == ('0xffff', '0x0000'):
            row['tcp.checksum.status'] = '1'
        good += row['tcp.checksum.status'] == '1'
        bad = [field for field in fields[1:5] if '0' in row.get(field, '').split(',')]
        if '8388608' in row.get('_ws.expert.severity', '').split(','):
            bad.append('what tshark calls an error, such as impossible header lengths')
        if row.get('_ws.malformed'):
            bad.append('malformed')
        if bad:
            faults.append(f'packet {row["frame.number"]}: {", ".join(bad)}')
    return good, faults


def wait_until(condition, timeout, what):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {timeout} s: {what}')
        time.sleep(0.02)


def url(address, port, path=''):
    return f'http://[{address}]:{port}/{path}' if ':' in address else f'http://{address}:{port}/{path}'


def make_file(path, size, seed=1):
    """Writes `size` bytes that no compression or repetition hides; returns their SHA-256."""
    digest = hashlib.sha256()
    block = b''
    with open(path, 'wb') as file:
        left, number = size, 0
        while left > 0:
            if number % 64 == 0:
                block = hashlib.shake_256(f'{seed}/{number}'.encode()).digest(1 << 16)
            piece = (number.to_bytes(8, 'big') + block)[:min(left, 1 << 16)]
            file.write(piece)
            digest.update(piece)
            left, number = left - len(piece), number + 1
    return digest.hexdigest()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class TestCase(unittest.TestCase):
    """Brings the network up for every test, and shows the programs' output when a test fails."""
    TOPOLOGY, LOSS_PERCENT, OWNER = 'direct', 0.0, None

    def setUp(self):
        self.net = Net(self.TOPOLOGY, self.LOSS_PERCENT, self.OWNER)
        self.net.__enter__()
        self.addCleanup(self.net.__exit__)
        self.addCleanup(self._show_logs)

    def _show_logs(self):
        result = self._outcome.result
        if not any(test is self or getattr(test, 'test_case', None) is self
                   for test, _ in result.failures + result.errors):
            return
        for log in sorted(self.net.dir.rglob('*.log')):
            text = log.read_text(errors='replace').strip()
            if text:
                print(f'--- {log.name}\n{text[-3000:]}', file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--build', type=pathlib.Path, help='build directory with libustcp.so')
    parser.add_argument('--engine', choices=['auto', 'uring', 'plain'], default='auto')
    parser.add_argument('--native', action='store_true', help="the kernel's TCP on both sides")
    parser.add_argument('--root', type=pathlib.Path, help="another root's programs, for the tests of programs.py")
    parser.add_argument('--long', action='store_true', help='more connections, where a test can make more')
    options, rest = parser.parse_known_args(namespace=OPTIONS)
    if options.build is None and not options.native:
        parser.error('--build or --native is needed')
    if options.build is not None:
        options.build = options.build.resolve()
    # Leaving through an exception runs the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
