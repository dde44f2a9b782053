"""The command line of scripts/bench, which runs this once everything is built.

bench_kernel.py compares ustcp with the kernel, bench_against.py two builds of it; bench_rows.py has the measurements.
"""

import argparse
import datetime
import os
import pathlib
import signal
import sys

sys.dont_write_bytecode = True

import bench_against  # noqa: E402
import bench_kernel  # noqa: E402
from bench_report import machine  # noqa: E402
from bench_rows import AGAINST_DEFAULT, AGAINST_ROWS, OPTIONS, ROWS  # noqa: E402


def main():
    parser = argparse.ArgumentParser(prog='scripts/bench', description='ustcp and the kernel over veth, side by side')
    parser.add_argument('--build', type=pathlib.Path, required=True, help='build directory with the products')
    parser.add_argument('--against', type=pathlib.Path, metavar='DIR',
                        help='compares with another build instead of the kernel: its build directory or checkout')
    parser.add_argument('--quick', action='store_true', help='3 pairs of 1 s each, else 5 of 5 s; with --against 5 of 1 s, else 8 of 3 s')
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='also writes everything measured here')
    parser.add_argument('--markdown', type=pathlib.Path, metavar='FILE', help='also writes the table of medians here')
    parser.add_argument('--rows', metavar='A,B', help=f'only these of {",".join(ROWS)}; with --against also idle')
    parser.add_argument('--pairs', type=int, help='alternating pairs per row')
    parser.add_argument('--seconds', type=int, help='per measurement')
    parser.add_argument('--engine', choices=['auto', 'uring', 'plain'], default='auto')
    arguments = parser.parse_args()
    known, default = (AGAINST_ROWS, AGAINST_DEFAULT) if arguments.against else (ROWS, list(ROWS))
    rows = arguments.rows.split(',') if arguments.rows else default
    unknown = [row for row in rows if row not in known]
    if unknown:
        parser.error(f'no row {", ".join(unknown)} (known: {", ".join(known)})')
    if os.cpu_count() < 2:
        parser.error('needs two cores')
    OPTIONS.build, OPTIONS.engine = arguments.build.resolve(), arguments.engine
    OPTIONS.programs = OPTIONS.build / 'tests'
    if arguments.against:
        pairs, seconds = (5, 1) if arguments.quick else (8, 3)
    else:
        pairs, seconds = (3, 1) if arguments.quick else (5, 5)
    # Leaving through an exception runs the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    document = {'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
                'machine': machine(), 'pairs': arguments.pairs or pairs, 'seconds': arguments.seconds or seconds,
                'engine': arguments.engine, 'rows': {}}
    if not arguments.against:
        return bench_kernel.run(rows, document, arguments)
    try:
        old = bench_against.find_build(arguments.against)
    except ValueError as error:
        parser.error(str(error))
    return bench_against.run(rows, document, arguments, old)


if __name__ == '__main__':
    sys.exit(main())
