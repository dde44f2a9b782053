"""The rows of scripts/bench: what each measures, on the kernel or on ustcp, in a network of its own.

Each measurement is a network of its own (tests/integration/harness.py): for ustcp a namespace with the TAP, whose kernel
end is the client; for the kernel two namespaces joined by a veth pair. The server is pinned to core 0 and the client to
core 1 unless the row says otherwise. Both sides use CUBIC: what paces a flow would measure the pacing.

The programs that measure are those of OPTIONS.programs, whichever build they measure.
"""

import json
import os
import pathlib
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'integration'))

import harness  # noqa: E402
from harness import HOST4, OPTIONS, url  # noqa: E402
from nginx import Nginx, wrk_result  # noqa: E402

CORES = {'server': 0, 'client': 1}
MIB = 1 << 20
IDLE_BYTES = 'arena bytes for an idle connection'
# So many that spans, which come whole, do not show.
IDLE_CONNECTIONS = 10_000
# Figures of which less is better; of all others it is more.
COSTS = {IDLE_BYTES}


def use_cubic(namespace, interface, address):
    """By the route: the sysctl may be refused in a namespace, where a module counts as restricted."""
    namespace.ip('route', 'replace', '10.117.0.0/24', 'dev', interface, 'proto', 'kernel', 'scope', 'link', 'src',
                 address, 'congctl', 'cubic')


class Run:
    """One measurement: a network with CUBIC on both ends, and programs on their cores."""

    def __init__(self, net, seconds):
        self.net, self.seconds = net, seconds
        use_cubic(net.app, harness.INTERFACE, harness.GATEWAY4)
        if OPTIONS.native:
            use_cubic(net.host, 'eth0', HOST4)

    def start_server(self, *words, core=CORES['server'], env=()):
        return self.net.start_ustcp('env', *env, 'taskset', '-c', core, *words)

    def start_site(self, **arguments):
        """nginx with one worker, pinned."""
        site = Nginx(self.net, self.start_server, workers=1, big_bytes=MIB, **arguments)
        site.start()
        self.net.wait_ustcp_port(site.port, site.process)
        return site

    def client(self, *words, core=CORES['client']):
        return self.net.kernel('taskset', '-c', core, *words, timeout=3 * self.seconds + 30)

    def engine(self):
        """How frames were moved, from the counters of the shard that moved most; {} on the kernel."""
        if OPTIONS.native:
            return {}
        shards = json.loads(self.net.query('ss', '--engine', '--json'))
        busiest = max(shards, key=lambda shard: shard['frames_in'] + shard['frames_out'])
        # Frames that leave by themselves are written without the ring, but each took a system call too.
        calls = busiest['ring_enters'] + busiest['plain_reads'] + busiest['plain_writes']
        frames = busiest['frames_in'] + busiest['frames_out']
        busiest['frames_per_call'] = frames / calls if calls else 0.0
        return busiest


def cpu_seconds(pids):
    """CPU time that processes have used so far, by the scheduler's clock: ticks are too coarse for a second's run."""
    return sum(int(task.read_text(encoding='ascii').split()[0]) / 1e9
               for pid in pids for task in pathlib.Path(f'/proc/{pid}/task').glob('*/schedstat'))


def arena_bytes(pid):
    """What the arena's memory file takes, from the mapping of a member: its largest one of a memory file."""
    largest = None
    for line in pathlib.Path(f'/proc/{pid}/maps').read_text(encoding='utf-8').splitlines():
        words = line.split()
        if len(words) < 6 or not words[5].startswith('/memfd:'):
            continue
        begin, end = (int(word, 16) for word in words[0].split('-'))
        if largest is None or end - begin > largest[0]:
            largest = end - begin, f'/proc/{pid}/map_files/{words[0]}'
    if largest is None:
        raise AssertionError(f'process {pid} has no arena')
    return os.stat(largest[1]).st_blocks * 512


# -- rows. Each returns {figure: value} and {note: value}; a figure's name is what the table shows.

def wrk(run, path, connections, headers=()):
    site = run.start_site()
    words = [word for header in headers for word in ('-H', header)]
    # The first requests fault in memory, on both sides.
    run.client('wrk', '-t1', '-c', connections, '-d', '1s', *words, url(HOST4, site.port, path))
    workers = site.workers()
    used, begun = cpu_seconds(workers), time.monotonic()
    output = run.client('wrk', '-t1', '-c', connections, '-d', f'{run.seconds}s', '--latency', '--timeout', '5s',
                        *words, url(HOST4, site.port, path))
    elapsed = time.monotonic() - begun
    used = cpu_seconds(workers) - used
    requests, errors = wrk_result(output)
    if errors:
        raise AssertionError(f'wrk: {"; ".join(errors)}')
    rate = float(re.search(r'Requests/sec:\s+([\d.]+)', output).group(1))
    notes = {'p99_us': microseconds(re.search(r'99%\s+([\d.]+)(us|ms|s)', output).groups()),
             'server_us': 1e6 * used / max(requests, 1), 'server_load': used / elapsed,
             **{f'engine_{key}': value for key, value in run.engine().items()}}
    return rate, notes


def microseconds(number_and_unit):
    number, unit = number_and_unit
    return float(number) * {'us': 1, 'ms': 1e3, 's': 1e6}[unit]


def row_requests(run):
    rate, notes = wrk(run, '1k', 64)
    return {'nginx 1 KB, requests/s': rate}, notes


def row_connections(run):
    rate, notes = wrk(run, '1k', 64, ['Connection: close'])
    return {'nginx 1 KB, new connections/s': rate}, notes


def row_objects(run):
    rate, notes = wrk(run, 'big', 8)
    return {'out, nginx 1 MiB objects, Gbit/s': rate * MIB * 8 / 1e9}, notes


def iperf3(run, *words):
    server = run.start_server('iperf3', '-s', '-p', 5201, '--forceflush')
    harness.wait_until(lambda: 'listening' in server.log() or not server.running(), 10, 'iperf3 listens')
    output = run.client('iperf3', '-c', HOST4, '-p', 5201, '-t', run.seconds, '-O', 1, '-J', *words)
    end = json.loads(output)['end']
    notes = {'retransmits': end['sum_sent'].get('retransmits'), **{f'engine_{k}': v for k, v in run.engine().items()}}
    return end['sum_received']['bits_per_second'] / 1e9, notes


def row_bulk_out(run):
    rate, notes = iperf3(run, '-R')
    return {'out, iperf3 -R, Gbit/s': rate}, notes


def row_bulk_in(run):
    rate, notes = iperf3(run)
    return {'in, iperf3, Gbit/s': rate}, notes


def pingpong(run, figure, client_core, env=()):
    program = OPTIONS.programs / 'ustcp_pingpong'
    server = run.start_server(program, 'serve', 7000, env=env)
    run.net.wait_ustcp_port(7000, server)
    output = run.client(program, 'ask', HOST4, 7000, 64, run.seconds, core=client_core)
    rate, median, p99 = map(float, output.split())
    return {figure: rate}, {'p50_us': median, 'p99_us': p99}


def row_trips(run):
    return pingpong(run, '64 B round trips/s, one core', CORES['server'])


def row_trips_cores(run):
    return pingpong(run, '64 B round trips/s, two cores', CORES['client'])


def row_trips_busy(run):
    return pingpong(run, '64 B round trips/s, two cores, polling', CORES['client'], ['USTCP_BUSY_POLL_US=100'])


def redis(run, pipeline):
    server = run.start_server('redis-server', '--port', 6379, '--bind', '0.0.0.0', '--protected-mode', 'no', '--save',
                              '', '--dir', run.net.dir, '--daemonize', 'no')
    run.net.wait_ustcp_port(6379, server)
    figures, notes = {}, {}
    for operation in ('set', 'get'):
        # redis-benchmark counts requests, not seconds: about the time asked for at the rates seen here.
        count = round(run.seconds * (60_000 if pipeline == 1 else 400_000) / 2)
        output = run.client('redis-benchmark', '-h', HOST4, '-p', 6379, '-n', count, '-c', 50, '-P', pipeline,
                            '-t', operation, '--csv')
        header, values = (re.findall(r'"([^"]*)"', line) for line in output.strip().splitlines()[-2:])
        found = dict(zip(header, values))
        figures[f'redis {operation.upper()}/s, P={pipeline}'] = float(found['rps'])
        notes[f'{operation}_p99_us'] = float(found['p99_latency_ms']) * 1e3
    return figures, notes


def row_redis(run):
    return redis(run, 1)


def row_redis_pipelined(run):
    return redis(run, 16)


def row_accepts(run):
    """What a server pays for a connection and nothing else: accept4() and close()."""
    program = OPTIONS.programs / 'ustcp_connections'
    server = run.start_server(program, 'accept', 7000)
    run.net.wait_ustcp_port(7000, server)
    used = cpu_seconds([server.pid])
    rate = float(run.client(program, 'open', HOST4, 7000, run.seconds))
    used = cpu_seconds([server.pid]) - used
    return {'accept4 and close, connections/s': rate}, {'server_us': 1e6 * used / (rate * run.seconds)}


def row_idle(run):
    """Memory that connections take which only lie there; one that was there before paid for what the first one takes."""
    program = OPTIONS.programs / 'ustcp_connections'
    server = run.start_server(program, 'hold', 7000, IDLE_CONNECTIONS + 1)
    run.net.wait_ustcp_port(7000, server)
    before = arena_bytes(server.pid)
    client = run.net.start_kernel(program, 'idle', HOST4, 7000, IDLE_CONNECTIONS)
    harness.wait_until(lambda: 'holding' in server.log() or not client.running() or not server.running(), 60,
                       'all connections are there')
    if 'holding' not in server.log():
        raise AssertionError(server.log() + client.log())
    return {IDLE_BYTES: (arena_bytes(server.pid) - before) / IDLE_CONNECTIONS}, {}


# Of scripts/bench without --against.
ROWS = {'requests': row_requests, 'connections': row_connections, 'accepts': row_accepts, 'bulk-out': row_bulk_out,
        'objects': row_objects, 'bulk-in': row_bulk_in, 'trips': row_trips, 'trips-cores': row_trips_cores,
        'trips-busy': row_trips_busy, 'redis': row_redis, 'redis-16': row_redis_pipelined}
# What two builds are compared by; the kernel has no arena.
AGAINST_ROWS = {**ROWS, 'idle': row_idle}
AGAINST_DEFAULT = [row for row in AGAINST_ROWS if row not in ('trips-busy', 'redis-16')]


def measure(row, seconds, native=False, build=None):
    """One measurement: (figures, notes). With a build, of that one instead of the own."""
    own = OPTIONS.build
    OPTIONS.native, OPTIONS.build = native, build or own
    try:
        with harness.Net() as net:
            return AGAINST_ROWS[row](Run(net, seconds))
    finally:
        OPTIONS.native, OPTIONS.build = False, own


# What a measurement may fail with, without an end to the others.
FAILURES = (AssertionError, RuntimeError, AttributeError, KeyError, ValueError, OSError)
