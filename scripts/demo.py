"""The demonstration that scripts/demo runs once everything is built: nginx and curl on ustcp, over a real TAP.

Built from the parts of the integration tests (tests/integration); what it adds is that it says what it does. With
--native it does the same with the kernel's TCP on both sides.
"""

import argparse
import collections
import pathlib
import re
import shlex
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests' / 'integration'))

import harness  # noqa: E402
import nginx  # noqa: E402

KEEP_ALIVE_REQUESTS = 200
CONNECTIONS = 2000


class Demo:
    def __init__(self, net):
        self.net = net
        self.passed, self.failed = 0, []

    def title(self, text):
        print(f'\n== {text}', flush=True)

    def check(self, what, condition, detail=''):
        if condition:
            self.passed += 1
        else:
            self.failed.append(what)
        print(f'   {"ok    " if condition else "FAILED"} {what}{f": {detail}" if detail else ""}', flush=True)

    def fetch(self, run, what, *words):
        """Runs curl; (output or None, seconds)."""
        begun = time.monotonic()
        try:
            return run(*words, timeout=120), time.monotonic() - begun
        except AssertionError as error:
            print(f'   {what}: {error}', flush=True)
            return None, time.monotonic() - begun

    def requests(self, run, what, *words):
        """Runs curl for many requests; {(status, connections made): requests} and seconds."""
        output, seconds = self.fetch(run, what, 'curl', '-sS', '--max-time', 100, '-o', '/dev/null', '-w',
                                     r'%{http_code} %{num_connects}\n', *words)
        return collections.Counter(re.findall(r'^(\d{3}) (\d+)$', output or '', re.MULTILINE)), seconds

    def visit(self, run, site, address, size):
        """Everything that one client asks of one server."""
        family = 'IPv6' if ':' in address else 'IPv4'
        page, seconds = self.fetch(run, 'small page', 'curl', '-sS', '--max-time', 20,
                                   harness.url(address, site.port, 'small'))
        self.check(f'{family} small page', page == nginx.SMALL, f'{seconds * 1000:.0f} ms with the start of curl')

        url = shlex.quote(harness.url(address, site.port, 'big'))
        digest, seconds = self.fetch(run, 'big file', 'sh', '-c', f'curl -sS --max-time 110 {url} | sha256sum')
        self.check(f'{family} {size >> 20} MiB file, SHA-256 compared', digest == f'{site.big_sha256}  -\n',
                   f'{size / seconds / 1e6:.0f} MB/s, hashing included')

        count, seconds = self.requests(run, 'keep-alive',
                                       harness.url(address, site.port, f'small?n=[1-{KEEP_ALIVE_REQUESTS}]'))
        self.check(f'{family} {KEEP_ALIVE_REQUESTS} requests on one connection',
                   count == {('200', '1'): 1, ('200', '0'): KEEP_ALIVE_REQUESTS - 1}, f'{seconds:.2f} s')

        count, seconds = self.requests(run, 'Connection: close', '-H', 'Connection: close',
                                       harness.url(address, site.port, f'small?n=[1-{CONNECTIONS}]'))
        self.check(f'{family} {CONNECTIONS} connections, each closed after one request',
                   count == {('200', '1'): CONNECTIONS}, f'{seconds:.2f} s')

    def show_sockets(self):
        self.title('The sockets of the host, after the programs: ustcp ss')
        if harness.OPTIONS.native:
            text = '\n'.join(self.net.host.run('ss', '-tan').splitlines())
        else:
            text = self.net.query('ss', '-tan')
        lines = text.splitlines()
        for line in lines[:12]:
            print(f'   {line}')
        if len(lines) > 12:
            print(f'   ... and {len(lines) - 12} more')
        states = collections.Counter(line.split()[0] for line in lines[1:] if line.strip())
        print('   ' + ', '.join(f'{number} {state}' for state, number in states.most_common()))
        # nginx closes first, so the host keeps the TIME_WAIT sockets of the connections that were closed one by one.
        self.check('TIME_WAIT sockets of both families are left', states['TIME-WAIT'] >= 2 * CONNECTIONS,
                   str(states['TIME-WAIT']))
        if not harness.OPTIONS.native:
            self.title('Who moved the frames: ustcp ss --engine')
            for line in self.net.query('ss', '--engine').splitlines():
                print(f'   {line}')

    def run(self, size):
        net = self.net
        self.title(f'nginx on ustcp (a master, two workers); curl on the kernel; {size >> 20} MiB file')
        site = nginx.Nginx(net, net.start_ustcp, port=80, big_bytes=size, name='nginx-ustcp')
        if not harness.OPTIONS.native:
            print('   LD_PRELOAD=libustcp.so nginx', flush=True)
        site.start()
        net.wait_ustcp_port(80, site.process)
        for address in (harness.HOST4, harness.HOST6):
            self.visit(net.kernel, site, address, size)
        self.check('nginx logged no error', not site.complaints(), '; '.join(site.complaints()))

        self.title('nginx on the kernel; curl on ustcp')
        if not harness.OPTIONS.native:
            print('   LD_PRELOAD=libustcp.so curl', flush=True)
        kernel_site = nginx.Nginx(net, net.start_kernel, port=8080, name='nginx-kernel')
        kernel_site.start()
        net.wait_kernel_port(8080, kernel_site.process)
        for address in (net.peer4, net.peer6):
            self.visit(net.ustcp, kernel_site, address, size)

        self.show_sockets()
        site.process.stop(signal.SIGQUIT)
        self.check('nginx ended when it was told to', site.process.popen.returncode == 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--build', type=pathlib.Path)
    parser.add_argument('--engine', choices=['auto', 'uring', 'plain'], default='auto')
    parser.add_argument('--native', action='store_true')
    parser.add_argument('--mib', type=int, default=1024, help='size of the big file')
    options = parser.parse_args(namespace=harness.OPTIONS)
    if options.build is not None:
        options.build = options.build.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with harness.Net() as net:
        demo = Demo(net)
        demo.run(options.mib << 20)
    verdict = f'{demo.passed} checks held' + (f', {len(demo.failed)} FAILED: {"; ".join(demo.failed)}'
                                              if demo.failed else ', none failed')
    print(f'\n== Verdict: {verdict}')
    sys.exit(1 if demo.failed else 0)


main()
