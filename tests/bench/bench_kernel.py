"""Compares ustcp with the kernel, side by side: scripts/bench without --against.

The two sides of a row alternate, and so does which of them begins; the table shows least, median and greatest of each
side and the ratio of the medians. More is better in every row.
"""

import statistics
import time

from bench_report import machine_line, save, show
from bench_rows import CORES, FAILURES, measure

MARK_BELOW = 0.7


def compare(row, pairs, seconds):
    """{figure: {'kernel': [..], 'ustcp': [..]}}, {'kernel': [notes], 'ustcp': [notes]}, failures."""
    figures, notes, failures = {}, {'kernel': [], 'ustcp': []}, []
    for pair in range(pairs):
        sides = ('kernel', 'ustcp') if pair % 2 == 0 else ('ustcp', 'kernel')
        for side in sides:
            try:
                found, more = measure(row, seconds, native=side == 'kernel')
            except FAILURES as error:
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
    if 'server_us' in ours:
        print('  ' + '; '.join(f'{side}: {notes[side]["server_us"]:.2f} us of the server each'
                               + (f', p99 {notes[side]["p99_us"]:.0f} us' if 'p99_us' in notes[side] else '')
                               for side in ('kernel', 'ustcp') if notes[side]), flush=True)


def run(rows, document, arguments):
    """Measures, prints and saves; the exit status."""
    print(f'{machine_line(document["machine"])}\n{conditions(document)}\n', flush=True)
    print_header()
    begun = time.monotonic()
    failed, low = [], []
    for row in rows:
        figures, notes, failures = compare(row, document['pairs'], document['seconds'])
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
        save(arguments, document, markdown)
    print(f'\n{len(rows)} rows in {time.monotonic() - begun:.0f} s'
          + (f'; below {MARK_BELOW}: {"; ".join(low)}' if low else f'; none below {MARK_BELOW}')
          + (f'; FAILED: {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0

