#!/usr/bin/env python3
"""Checks that includes point one way: preload -> io -> stack, tools -> io and stack; and within stack/ from each folder to
those of lower rank.

The protocol core may in addition include only the system headers listed here: language support and constants, nothing
that reads a clock, owns a descriptor or a thread, or allocates. Usage: check_layering.py [ROOT]
"""

import pathlib
import re
import sys

LAYERS = {
    'stack': {'stack'},
    'io': {'stack', 'io'},
    'preload': {'stack', 'io', 'preload'},
    'tools': {'stack', 'io', 'tools'},
}

# A file of stack/ may include its own folder and folders of lower rank. What lies in stack/ itself puts the parts together.
STACK_RANKS = {'base': 0, 'wire': 1, 'time': 1, 'sync': 1, 'mem': 1, 'host': 2, 'net': 3, 'tcp': 4, 'socket': 5, '': 6}

STACK_SYSTEM = {
    # language support; containers of fixed size and views only
    'algorithm', 'array', 'atomic', 'bit', 'bitset', 'cassert', 'cerrno', 'chrono', 'climits', 'cmath', 'compare',
    'concepts', 'cstddef', 'cstdint', 'cstring', 'initializer_list', 'iterator', 'limits', 'new', 'numeric',
    'optional', 'ratio', 'span', 'string_view', 'tuple', 'type_traits', 'utility', 'variant', 'version',
    'immintrin.h',
    # types and constants of the socket interface (check_arena_rules sees to it that none of the calls is used)
    'errno.h', 'linux/errqueue.h', 'linux/in.h', 'linux/in6.h', 'linux/sockios.h', 'linux/tcp.h', 'netinet/in.h',
    'netinet/tcp.h', 'poll.h', 'sys/epoll.h', 'sys/ioctl.h', 'sys/time.h', 'sys/uio.h',
    # keyed hashes
    'sodium.h',
}
STACK_SYSTEM_PREFIXES = ('boost/intrusive/', 'sodium/')

# Files with a reason of their own to reach further.
STACK_EXTRA = {
    'stack/base/check.cc': {'cstdio', 'cstdlib'},  # the last words before abort()
}
# The one folder that may make system calls: locks and futexes.
STACK_SYNC_SYSTEM = {'ctime', 'linux/futex.h', 'pthread.h', 'sys/syscall.h', 'sys/time.h', 'time.h', 'unistd.h'}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def stack_folder(name):
    parts = name.split('/')
    return parts[1] if len(parts) > 2 else ''


def points_down(name, own):
    here, there = stack_folder(name), stack_folder(own)
    return here == there or STACK_RANKS[there] < STACK_RANKS[here]


def problems_of(root, path):
    name = path.relative_to(root).as_posix()
    layer = name.split('/', 1)[0]
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        own, system = match.groups()
        if own is not None:
            target = own.split('/', 1)[0]
            if '/' not in own or target not in LAYERS:
                # Generated headers carry the folder of their layer too.
                yield f'{name}:{number}: include "{own}" by its path from the root of the tree'
            elif target not in LAYERS[layer]:
                yield f'{name}:{number}: {layer}/ must not include {own}'
            elif layer == 'stack' and not points_down(name, own):
                yield f'{name}:{number}: {own} is not below {stack_folder(name) or "stack"}/'
        elif layer == 'stack':
            allowed = STACK_SYSTEM | STACK_EXTRA.get(name, set())
            if name.startswith('stack/sync/'):
                allowed = allowed | STACK_SYNC_SYSTEM
            if system not in allowed and not system.startswith(STACK_SYSTEM_PREFIXES):
                yield f'{name}:{number}: <{system}> is not for stack/'


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]).resolve()
    files = [path for layer in LAYERS for path in sorted((root / layer).rglob('*'))
             if path.suffix in ('.h', '.cc', '.def')]
    if not files:
        sys.exit(f'{root}: no sources')
    problems = [problem for path in files for problem in problems_of(root, path)]
    print('\n'.join(problems) if problems else f'{len(files)} files, includes point one way')
    sys.exit(1 if problems else 0)


main()
