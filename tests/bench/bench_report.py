"""What both comparisons of scripts/bench say about the machine and how they show numbers."""

import contextlib
import json
import os
import pathlib
import re


def show(value):
    if value >= 1e4:
        return f'{value / 1e3:.1f}k'
    return f'{value:.0f}' if value >= 1e3 else f'{value:.2f}'


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


def save(arguments, document, markdown):
    """What was measured so far, where --json and --markdown want it."""
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')
    if arguments.markdown:
        arguments.markdown.write_text(markdown(document), encoding='utf-8')
