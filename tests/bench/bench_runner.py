"""Compares ustcp with the kernel, side by side: what scripts/bench runs once everything is built.

Each measurement is a network of its own (tests/integration/harness.py): for ustcp a namespace with the TAP, whose kernel
end is the client; for the kernel two namespaces joined by a veth pair. The server is pinned to core 0 and the client to
core 1 unless the row says otherwise. Both sides use CUBIC: what paces a flow would measure the pacing.

The two sides of a row alternate, and so does which of them begins; the table shows least, median and greatest of each
side and the ratio of the medians. More is better in every row.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'integration'))

import harness  # noqa: E402
from harness import HOST4, OPTIONS, url  # noqa: E402
from nginx import Nginx, wrk_result  # noqa: E402

CORES = {'server': 0, 'client': 1}
MARK_BELOW = 0.7
MIB = 1 << 20


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
    """CPU time that processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


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
             'worker_us_per_request': 1e6 * used / max(requests, 1), 'worker_load': used / elapsed,
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
    program = OPTIONS.build / 'tests' / 'ustcp_pingpong'
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


ROWS = {'requests': row_requests, 'connections': row_connections, 'bulk-out': row_bulk_out, 'objects': row_objects,
        'bulk-in': row_bulk_in, 'trips': row_trips, 'trips-cores': row_trips_cores, 'trips-busy': row_trips_busy,
        'redis': row_redis, 'redis-16': row_redis_pipelined}


# -- the comparison

def measure(row, native, seconds):
    OPTIONS.native = native
    try:
        with harness.Net() as net:
            return ROWS[row](Run(net, seconds))
    finally:
        OPTIONS.native = False


def compare(row, pairs, seconds):
    """{figure: {'kernel': [..], 'ustcp': [..]}}, {'kernel': [notes], 'ustcp': [notes]}, failures."""
    figures, notes, failures = {}, {'kernel': [], 'ustcp': []}, []
    for pair in range(pairs):
        sides = ('kernel', 'ustcp') if pair % 2 == 0 else ('ustcp', 'kernel')
        for side in sides:
            try:
                found, more = measure(row, side == 'kernel', seconds)
            except (AssertionError, RuntimeError, AttributeError, KeyError, ValueError, OSError) as error:
                failures.append(f'{side}: {type(error).__name__}: {error}')
                continue
            for figure, value in found.items():
                figures.setdefault(figure, {'kernel': [], 'ustcp': []})[side].append(value)
            notes[side].append(more)
    return figures, notes, failures


def summary(values):
    if not values:
        return None
    return {'min': min(values), 'median': statistics.median(values), 'max': max(values), 'values': values}


def medians(notes):
    """Of each note over the runs of a side."""
    keys = {key for note in notes for key, value in note.items() if isinstance(value, (int, float))}
    return {key: statistics.median(note[key] for note in notes if isinstance(note.get(key), (int, float)))
            for key in sorted(keys)}


def show(value):
    if value >= 1e4:
        return f'{value / 1e3:.1f}k'
    return f'{value:.0f}' if value >= 1e3 else f'{value:.2f}'


def print_header():
    print(f'{"":40}{"kernel":^24}  {"ustcp":^24}')
    columns = ''.join(f'{name:>8}' for name in ('min', 'median', 'max'))
    print(f'{"":40}{columns}  {columns}{"ratio":>8}', flush=True)


def print_figure(figure, result):
    line = f'{figure:40}'
    for side in ('kernel', 'ustcp'):
        found = result[side]
        line += ''.join(f'{show(found[key]) if found else "-":>8}' for key in ('min', 'median', 'max'))
        line += '  ' if side == 'kernel' else ''
    ratio = result['ratio']
    line += f'{ratio:8.2f}' if ratio is not None else f'{"-":>8}'
    if ratio is None or ratio < MARK_BELOW:
        line += f'   <<< below {MARK_BELOW}' if ratio is not None else '   <<< not measured'
    print(line, flush=True)


def machine():
    def first(pattern, path):
        with contextlib.suppress(OSError):
            match = re.search(pattern, pathlib.Path(path).read_text(encoding='utf-8'), re.MULTILINE)
            return match.group(1).strip() if match else None
        return None

    return {'cpu': first(r'^model name\s*:\s*(.*)$', '/proc/cpuinfo'), 'cores': os.cpu_count(),
            'kernel': os.uname().release,
            'governor': first(r'(.*)', '/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor') or 'none visible',
            'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1),
            'hypervisor': bool(first(r'^flags.*\b(hypervisor)\b', '/proc/cpuinfo')), 'load': os.getloadavg()[0]}


def machine_line(about):
    return (f'{about["cpu"]}, {about["cores"]} cores, {about["memory_gib"]} GiB, '
            f'{"virtual machine, " if about["hypervisor"] else ""}Linux {about["kernel"]}, governor '
            f'{about["governor"]}, load {about["load"]:.1f}')


def conditions(document):
    return (f'{document["pairs"]} alternating pairs of {document["seconds"]} s, server on core {CORES["server"]}, client '
            f'on core {CORES["client"]}, CUBIC on both sides; ratio of the medians, ustcp to the kernel')


def markdown(document):
    """The table of docs/performance.md, from what --json writes."""
    lines = [machine_line(document['machine']) + '.', conditions(document) + '.', '',
             '| figure | kernel | ustcp | ratio |', '|---|---|---|---|']
    for row in document['rows'].values():
        for figure, result in row['figures'].items():
            kernel, ours = (show(result[side]['median']) if result[side] else '-' for side in ('kernel', 'ustcp'))
            ratio = f'{result["ratio"]:.2f}' if result['ratio'] is not None else '-'
            lines.append(f'| {figure} | {kernel} | {ours} | {ratio} |')
    return '\n'.join(lines) + '\n'


def print_notes(row, notes):
    """What explains the figures of a row: frames per call, CPU time per request."""
    ours = notes['ustcp']
    if 'engine_frames_per_enter' in ours:
        print(f'  frames per io_uring_enter {ours["engine_frames_per_enter"]:.2f} (in the ring: '
              f'{ours["engine_ring_frames_in"]:.0f} in, {ours["engine_ring_frames_out"]:.0f} out); frames per system '
              f'call of the engine {ours["engine_frames_per_call"]:.2f}; sleeps {ours["engine_waits"]:.0f}')
    if 'worker_us_per_request' in ours:
        print('  ' + '; '.join(f'{side}: {notes[side]["worker_us_per_request"]:.2f} us of the worker per request, '
                               f'p99 {notes[side]["p99_us"]:.0f} us'
                               for side in ('kernel', 'ustcp') if notes[side]), flush=True)


def main():
    parser = argparse.ArgumentParser(prog='scripts/bench', description='ustcp and the kernel over veth, side by side')
    parser.add_argument('--build', type=pathlib.Path, required=True, help='build directory with the products')
    parser.add_argument('--quick', action='store_true', help='3 pairs of 1 s each, under 3 minutes; else 5 of 5 s')
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='also writes everything measured here')
    parser.add_argument('--markdown', type=pathlib.Path, metavar='FILE', help='also writes the table of medians here')
    parser.add_argument('--rows', metavar='A,B', help=f'only these of {",".join(ROWS)}')
    parser.add_argument('--pairs', type=int, help='alternating pairs per row')
    parser.add_argument('--seconds', type=int, help='per measurement')
    parser.add_argument('--engine', choices=['auto', 'uring', 'plain'], default='auto')
    arguments = parser.parse_args()
    rows = arguments.rows.split(',') if arguments.rows else list(ROWS)
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        parser.error(f'no row {", ".join(unknown)} (known: {", ".join(ROWS)})')
    if os.cpu_count() < 2:
        parser.error('needs two cores')
    OPTIONS.build, OPTIONS.engine = arguments.build.resolve(), arguments.engine
    pairs = arguments.pairs or (3 if arguments.quick else 5)
    seconds = arguments.seconds or (1 if arguments.quick else 5)
    # Leaving through an exception runs the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    document = {'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
                'machine': machine(), 'pairs': pairs, 'seconds': seconds, 'engine': arguments.engine, 'rows': {}}
    print(f'{machine_line(document["machine"])}\n{conditions(document)}\n', flush=True)
    print_header()
    begun = time.monotonic()
    failed, low = [], []
    for row in rows:
        figures, notes, failures = compare(row, pairs, seconds)
        entry = {'figures': {}, 'notes': {side: medians(notes[side]) for side in notes}, 'failures': failures}
        for figure, sides in figures.items():
            result = {side: summary(sides[side]) for side in sides}
            both = all(result.values())
            result['ratio'] = result['ustcp']['median'] / result['kernel']['median'] if both else None
            entry['figures'][figure] = result
            print_figure(figure, result)
            if result['ratio'] is not None and result['ratio'] < MARK_BELOW:
                low.append(f'{figure}: {result["ratio"]:.2f}')
        for failure in failures:
            print(f'  FAILED {row}, {failure}', flush=True)
        failed += [row] if failures else []
        print_notes(row, entry['notes'])
        document['rows'][row] = entry
        if arguments.json:
            arguments.json.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')
        if arguments.markdown:
            arguments.markdown.write_text(markdown(document), encoding='utf-8')
    print(f'\n{len(rows)} rows in {time.monotonic() - begun:.0f} s'
          + (f'; below {MARK_BELOW}: {"; ".join(low)}' if low else f'; none below {MARK_BELOW}')
          + (f'; FAILED: {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
