"""Compares two builds of ustcp: scripts/bench --against DIR. "Old" is DIR's, "new" the own one.

The builds are measured in pairs, one right after the other, and which begins alternates (old new, new old, ...), so what
else the machine does falls on both. Each pair gives one ratio, new to old; the table shows least, median and greatest of
them. A row is marked when all of them are on the worse side of 1: without any difference that happens once in 2^pairs.
"""

import statistics
import time

from bench_report import machine_line, save, show
from bench_rows import COSTS, FAILURES, OPTIONS, measure

# With fewer, chance marks too often.
PAIRS_TO_MARK = 3
# CPU time of the server for a request or connection: swings less with what else the machine does than rates do.
COST_NOTES = {'server_us': 'us of the server each'}


def find_build(directory):
    """The build directory that is meant; ValueError when there is none."""
    for build in (directory, directory / 'build' / 'release'):
        if (build / 'preload' / 'libustcp.so').exists():
            return build.resolve()
    raise ValueError(f'{directory} is no build directory and no checkout with one (no preload/libustcp.so, neither there '
                     'nor in build/release); build it first: cmake --preset release && cmake --build --preset release '
                     '--target ustcp_products')


def is_cost(figure):
    return figure in COSTS or any(figure.endswith(suffix) for suffix in COST_NOTES.values())


def figures_of(row, found, notes):
    """What is compared of a measurement: its figures, and the costs among its notes."""
    return {**found, **{f'{row}, {suffix}': notes[note] for note, suffix in COST_NOTES.items() if note in notes}}


def measure_pairs(row, pairs, seconds, old):
    """{figure: [(old, new), ..]} of the complete pairs, and failures."""
    figures, failures = {}, []
    for pair in range(pairs):
        found = {}
        for side in ('old', 'new') if pair % 2 == 0 else ('new', 'old'):
            try:
                found[side] = figures_of(row, *measure(row, seconds, build=old if side == 'old' else None))
            except FAILURES as error:
                failures.append(f'{side}: {type(error).__name__}: {error}')
        if len(found) == 2:
            for figure, value in found['old'].items():
                figures.setdefault(figure, []).append((value, found['new'][figure]))
    return figures, failures


def judge(figure, values):
    """What is shown and saved of a figure's (old, new) values."""
    # As they are shown: what does not show does not mark.
    ratios = [round(new / old, 3) if old else 1.0 if new == old else float('inf') for old, new in values]
    cost = is_cost(figure)
    worse = min(ratios) > 1 if cost else max(ratios) < 1
    return {'old': [old for old, _ in values], 'new': [new for _, new in values], 'ratios': ratios,
            'min': min(ratios), 'median': statistics.median(ratios), 'max': max(ratios), 'less_is_better': cost,
            'worse': worse and len(values) >= PAIRS_TO_MARK}


def print_header():
    print(f'{"":40}{"old":>10}{"new":>10}  {"new/old: min":>12}{"median":>8}{"max":>8}', flush=True)


def figure_line(figure, result):
    old, new = (show(statistics.median(result[side])) for side in ('old', 'new'))
    line = f'{figure:40}{old:>10}{new:>10}  {result["min"]:12.3f}{result["median"]:8.3f}{result["max"]:8.3f}'
    return line + ('  less is better' if result['less_is_better'] else '') + ('  <<< worse' if result['worse'] else '')


def conditions(document):
    return (f'old {document["old"]}\nnew {document["new"]}\n{document["pairs"]} alternating pairs of '
            f'{document["seconds"]} s; a ratio for each pair')


def markdown(document):
    lines = [machine_line(document['machine']) + '.',
             f'{document["pairs"]} alternating pairs of {document["seconds"]} s; ratios new to old, one for each pair.', '',
             '| figure | old | new | least | median | greatest | |', '|---|---|---|---|---|---|---|']
    for row in document['rows'].values():
        for figure, result in row['figures'].items():
            old, new = (show(statistics.median(result[side])) for side in ('old', 'new'))
            lines.append(f'| {figure} | {old} | {new} | {result["min"]:.3f} | {result["median"]:.3f} | '
                         f'{result["max"]:.3f} | {"worse" if result["worse"] else ""} |')
    return '\n'.join(lines) + '\n'


def run(rows, document, arguments, old):
    """Measures, prints and saves; the exit status."""
    document.update(old=str(old), new=str(OPTIONS.build))
    print(f'{machine_line(document["machine"])}\n{conditions(document)}\n', flush=True)
    print_header()
    begun = time.monotonic()
    failed, worse = [], []
    for row in rows:
        figures, failures = measure_pairs(row, document['pairs'], document['seconds'], old)
        entry = {'figures': {figure: judge(figure, values) for figure, values in figures.items()}, 'failures': failures}
        for figure, result in entry['figures'].items():
            print(figure_line(figure, result), flush=True)
            worse += [figure] if result['worse'] else []
        for failure in failures:
            print(f'  FAILED {row}, {failure}', flush=True)
        failed += [row] if failures else []
        document['rows'][row] = entry
        save(arguments, document, markdown)
    print(f'\n{len(rows)} rows in {time.monotonic() - begun:.0f} s; '
          + (f'worse in every pair: {"; ".join(worse)}' if worse else 'no figure worse in every pair')
          + (f'; FAILED: {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0
