"""Counts the instructions of a fixed piece of work (instructions.cc) under callgrind and compares them with the table in
instructions.json: what scripts/instructions and the CTest entry check.instructions run.

The same binary gives the same counts to the last one, loaded machine or not, so what differs by more than the tolerance
was changed by a change of the code. Exit status 0: as in the table; 1: not; 77: nothing was counted.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / 'tests' / 'bench' / 'instructions.json'
PAGE = ROOT / 'docs' / 'performance.md'
BEGIN, END = '<!-- written by scripts/instructions --update -->\n', '<!-- end -->\n'

# Least that a change is to show by. Renamed functions and other places of data move counts by some 0.1 %.
TOLERANCE = 0.02
SKIPPED = 77
WHAT = {'request': 'request of 64 bytes, answer of 1,024, keep-alive, by an epoll set of eight',
        'round-trip': '64 bytes in and back',
        'segment-out-1448': 'segment out, 1,448 bytes, with its send() and acknowledgement',
        'segment-out-60000': 'the same, a frame of 60,000 bytes',
        'segment-in-1448': 'segment in, 1,448 bytes, with its part of a recv() and acknowledgement',
        'segment-in-30000': 'the same, a frame of 30,000 bytes',
        'connection-accepted': 'connection accepted, closed first, its TIME_WAIT ended',
        'connection-opened': 'connection opened, closed second'}
# The C library copies by what the processor has; callgrind counts a `rep movsb` as one instruction a byte. All copy alike.
TUNABLES = 'glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX2_Usable,-AVX512VL,-EVEX,-SSSE3,-ERMS,-FSRM'


def parse_dumps(texts):
    """{name: instructions} of what callgrind dumped at the program's requests."""
    counts = {}
    for text in texts:
        name = re.search(r'^desc: Trigger: Client Request: (\S+)$', text, re.MULTILINE)
        total = re.search(r'^totals: (\d+)$', text, re.MULTILINE)
        if name and total:
            counts[name.group(1)] = int(total.group(1))
    return counts


def per_operation(times, dumped):
    """{name: instructions for one}, from what the program printed and callgrind dumped."""
    done = {name: int(count) for name, count in (line.split() for line in times.splitlines())}
    if done.keys() != dumped.keys():
        raise RuntimeError(f'the program did {sorted(done)}, callgrind counted {sorted(dumped)}')
    return {name: round(dumped[name] / done[name]) for name in done}


def count(program):
    """(what built the program, {name: instructions})."""
    environment = {'PATH': os.environ['PATH'], 'GLIBC_TUNABLES': TUNABLES}

    def run(*words):
        done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f'{" ".join(map(str, words))}: exit status {done.returncode}\n{done.stderr}')
        return done.stdout

    about = run(program, '--about').strip()
    with tempfile.TemporaryDirectory(prefix='ustcp-instructions-') as name:
        folder = pathlib.Path(name)
        times = run('valgrind', '-q', '--tool=callgrind', '--collect-atstart=no', f'--callgrind-out-file={folder}/out',
                    program)
        dumped = parse_dumps(path.read_text(encoding='utf-8') for path in folder.iterdir())
    return about, per_operation(times, dumped)


def change(now, before):
    return (now - before) / before


def differences(table, counts):
    """Names of what is not in the table as it was counted."""
    known = table['instructions']
    return [name for name in {**known, **counts}
            if name not in known or name not in counts or abs(change(counts[name], known[name])) > TOLERANCE]


def lines(table, counts):
    known, reference = table['instructions'], table['reference']['instructions']
    yield f'{"":22}{table["reference"]["commit"]:>10}{"table":>10}{"now":>10}{"change":>9}'
    for name in {**known, **counts}:
        row = ''.join(f'{numbers.get(name, "-"):>10}' for numbers in (reference, known, counts))
        if name in known and name in counts:
            row += f'{100 * change(counts[name], known[name]):+8.1f}%'
        yield f'{name:22}{row}'


def compare(table, about, counts):
    """Prints the table and what to do when it does not hold; the exit status."""
    print('\n'.join(lines(table, counts)))
    if about != table['built_with']:
        print(f'not compared: built with {about}; the table is of {table["built_with"]}')
        return 0
    wrong = differences(table, counts)
    if wrong:
        print(f'differs from {TABLE.relative_to(ROOT)} by more than {100 * TOLERANCE:.0f} %: {", ".join(wrong)}\n'
              'When that is meant, `scripts/instructions --update` writes the table and its page anew; say why in the commit.')
    return 1 if wrong else 0


def markdown(table):
    """The table of docs/performance.md."""
    reference = table['reference']
    rows = [f'Built with {table["built_with"]}.', '', f'| operation | {reference["commit"]} | now |', '|---|---|---|']
    for name, instructions in table['instructions'].items():
        before = reference['instructions'].get(name)
        rows.append(f'| {WHAT[name]} | {"-" if before is None else f"{before:,}"} | {instructions:,} |')
    return '\n'.join(rows) + '\n'


def with_table(page, table):
    """The page with this table in the place of its own."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + markdown(table) + END + rest.split(END, 1)[1]


def update(table, about, counts, as_reference):
    table.update(built_with=about, instructions=counts)
    if as_reference:
        table['reference'] = {'commit': as_reference, 'instructions': counts}
    TABLE.write_text(json.dumps(table, indent=2) + '\n', encoding='utf-8')
    PAGE.write_text(with_table(PAGE.read_text(encoding='utf-8'), table), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(prog='scripts/instructions', description='instruction counts of the core')
    parser.add_argument('--program', type=pathlib.Path, required=True, help='ustcp_instructions of the release preset')
    parser.add_argument('--update', action='store_true', help='writes what was counted into the table and its page')
    parser.add_argument('--reference', metavar='COMMIT', help='with --update: what is counted becomes the column "before" too')
    arguments = parser.parse_args()
    for missing, remedy in ((not arguments.program.exists(), f'{arguments.program} is not built: scripts/instructions'),
                            (shutil.which('valgrind') is None, 'valgrind is not installed: scripts/setup')):
        if missing:
            print(f'nothing counted: {remedy}')
            return SKIPPED
    table = json.loads(TABLE.read_text(encoding='utf-8'))
    about, counts = count(arguments.program)
    if not arguments.update:
        return compare(table, about, counts)
    print('\n'.join(lines(table, counts)))
    update(table, about, counts, arguments.reference)
    return 0


if __name__ == '__main__':
    sys.exit(main())
