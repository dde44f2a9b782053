#!/usr/bin/python3
"""Checks that each interposed call that the kernel has a number for is also seen when it is made through syscall().

    check_raw_calls.py [ROOT]

Compares the names in preload/calls/calls.def with the numbers in preload/raw/table.cc."""

import pathlib
import re
import subprocess
import sys

# Interposed names whose number is another's, or none of ours: why.
OTHER = {
    'pselect': 'SYS_pselect6',
    'sigaction': 'SYS_rt_sigaction',
    'sigprocmask': 'SYS_rt_sigprocmask',
    'fork': 'SYS_fork',
}


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    macros = subprocess.run(['cc', '-E', '-dM', '-include', 'sys/syscall.h', '-x', 'c', '/dev/null'],
                            capture_output=True, text=True, check=True).stdout
    numbers = set(re.findall(r'#define (SYS_\w+)', macros))
    calls = (root / 'preload/calls/calls.def').read_text()
    table = set(re.findall(r't\[(SYS_\w+)\] =', (root / 'preload/raw/table.cc').read_text()))
    wanted = {}
    for name, rest in re.findall(r'^USTCP_(?:CALL|VARIADIC|EXEC)\([^,]+, *(\w+),(.*)$', calls, re.M):
        wanted.setdefault(OTHER.get(name, f'SYS_{name}'), name)
        for number in re.findall(r'SYS_\w+', rest):
            wanted.setdefault(number, name)
    for name in re.findall(r'^USTCP_ALIAS\(\w+, *(\w+)\)', calls, re.M):
        wanted.setdefault(f'SYS_{name}', name)
    missing = sorted(f'{number} ({name})' for number, name in wanted.items() if number in numbers - table)
    if missing:
        sys.exit(f'preload/raw/table.cc has no entry for {", ".join(missing)}')
    print(f'{len(set(wanted) & numbers)} numbers, all in the table')


if __name__ == '__main__':
    main()
