"""The tables of scripts/bench, and which rows it marks: nothing is measured here."""

import contextlib
import io
import pathlib
import tempfile
import unittest
from unittest import mock

import bench_against
import bench_kernel
from bench_rows import AGAINST_DEFAULT, AGAINST_ROWS, COSTS, IDLE_BYTES, OPTIONS, ROWS

SIDE = {'min': 1.0, 'median': 20000.0, 'max': 3.0, 'values': [1.0]}
MACHINE = {'cpu': 'A CPU', 'cores': 2, 'kernel': '6.18', 'governor': 'none', 'memory_gib': 23.5, 'hypervisor': True,
           'load': 1.34}


def document(**figures):
    return {'machine': MACHINE, 'pairs': 3, 'seconds': 1, 'rows': {'row': {'figures': figures}}}


class AgainstTheKernel(unittest.TestCase):
    def test_the_machine_stands_in_front_of_the_table(self):
        text = bench_kernel.markdown(document(requests={'kernel': SIDE, 'ustcp': SIDE, 'ratio': 1.0}))
        about, table = text.split('\n\n')
        self.assertIn('A CPU, 2 cores, 23.5 GiB, virtual machine, Linux 6.18', about)
        self.assertNotIn('|', about)
        self.assertEqual(table, '| figure | kernel | ustcp | ratio |\n|---|---|---|---|\n'
                                '| requests | 20.0k | 20.0k | 1.00 |\n')

    def test_every_line_has_four_columns_also_when_a_side_failed(self):
        text = bench_kernel.markdown(document(one={'kernel': SIDE, 'ustcp': None, 'ratio': None}))
        rows = [line for line in text.splitlines() if line.startswith('|')]
        self.assertEqual({line.count('|') for line in rows}, {5})
        self.assertEqual(rows[-1], '| one | 20.0k | - | - |')


class Judging(unittest.TestCase):
    """A figure's pairs: (old, new)."""

    def judge(self, *pairs, figure='requests/s'):
        return bench_against.judge(figure, pairs)

    def test_a_rate_is_worse_when_every_pair_says_so(self):
        self.assertTrue(self.judge((100, 98), (50, 49), (10, 9))['worse'])

    def test_one_pair_on_the_other_side_takes_the_mark_away(self):
        self.assertFalse(self.judge((100, 60), (50, 30), (10, 10))['worse'])

    def test_better_is_never_marked(self):
        self.assertFalse(self.judge((100, 110), (50, 60), (10, 12))['worse'])
        self.assertFalse(self.judge((100, 90), (50, 40), (10, 8), figure=IDLE_BYTES)['worse'])

    def test_of_a_cost_more_is_worse(self):
        for figure in (IDLE_BYTES, 'requests, us of the server each'):
            result = self.judge((100, 101), (50, 60), (10, 12), figure=figure)
            self.assertTrue(result['less_is_better'])
            self.assertTrue(result['worse'])

    def test_what_does_not_show_is_no_difference(self):
        self.assertFalse(self.judge(*[(100000, 99999)] * 5)['worse'])

    def test_two_pairs_mark_nothing(self):
        self.assertFalse(self.judge((100, 50), (100, 50))['worse'])

    def test_the_spread_is_that_of_the_ratios(self):
        # The machine halves its speed from pair to pair; the builds stay as they are to each other.
        result = self.judge((100, 110), (50, 55), (25, 27.5))
        self.assertEqual((result['min'], result['median'], result['max']), (1.1, 1.1, 1.1))


class AgainstABuild(unittest.TestCase):
    def run_with(self, values, rows=('requests',), pairs=4):
        """Runs the comparison with made-up measurements; (exit status, output, document, order of the sides)."""
        order = []

        def measure(row, seconds, native=False, build=None):
            side = 'new' if build is None else 'old'
            order.append(side)
            value = values[side]
            if isinstance(value, Exception):
                raise value
            return {f'{row}/s': value}, {'server_us': 1e6 / value}

        result = {'machine': MACHINE, 'pairs': pairs, 'seconds': 1, 'rows': {}}
        arguments = mock.Mock(json=None, markdown=None)
        OPTIONS.build = pathlib.Path('/new')
        output = io.StringIO()
        with mock.patch.object(bench_against, 'measure', measure), contextlib.redirect_stdout(output):
            status = bench_against.run(rows, result, arguments, pathlib.Path('/old'))
        return status, output.getvalue(), result, order

    def test_the_builds_alternate(self):
        self.assertEqual(self.run_with({'old': 1, 'new': 1})[3], ['old', 'new', 'new', 'old'] * 2)

    def test_the_table_shows_medians_and_the_spread_of_the_ratios(self):
        status, output, _, _ = self.run_with({'old': 1000.0, 'new': 900.0})
        self.assertEqual(status, 0)
        self.assertRegex(output, r'requests/s +1000 +900.00 +0.900 +0.900 +0.900  <<< worse\n')
        self.assertRegex(output, r'requests, us of the server each .* 1.111  less is better  <<< worse\n')
        self.assertIn('worse in every pair: requests/s; requests, us of the server each', output)

    def test_equal_builds_are_not_marked(self):
        status, output, _, _ = self.run_with({'old': 1000.0, 'new': 1000.0})
        self.assertEqual(status, 0)
        self.assertNotIn('<<<', output)
        self.assertIn('no figure worse in every pair', output)

    def test_a_failed_side_is_named_and_its_pair_left_out(self):
        status, output, result, _ = self.run_with({'old': RuntimeError('no tap'), 'new': 1000.0})
        self.assertEqual(status, 1)
        self.assertIn('FAILED requests, old: RuntimeError: no tap', output)
        self.assertEqual(result['rows']['requests']['figures'], {})

    def test_the_document_of_a_run_becomes_a_table(self):
        result = self.run_with({'old': 1000.0, 'new': 900.0})[2]
        lines = [line for line in bench_against.markdown(result).splitlines() if line.startswith('|')]
        self.assertEqual({line.count('|') for line in lines}, {8})
        self.assertEqual(lines[2], '| requests/s | 1000 | 900.00 | 0.900 | 0.900 | 0.900 | worse |')

    def test_a_build_directory_or_a_checkout_is_found_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as name:
            checkout = pathlib.Path(name).resolve()
            build = checkout / 'build' / 'release'
            with self.assertRaisesRegex(ValueError, 'build it first'):
                bench_against.find_build(checkout)
            (build / 'preload').mkdir(parents=True)
            (build / 'preload' / 'libustcp.so').touch()
            self.assertEqual(bench_against.find_build(checkout), build)
            self.assertEqual(bench_against.find_build(build), build)


class Rows(unittest.TestCase):
    def test_what_two_builds_are_compared_by(self):
        self.assertLessEqual({'requests', 'connections', 'accepts', 'trips', 'bulk-out', 'bulk-in', 'redis', 'idle'},
                             set(AGAINST_DEFAULT))
        self.assertLessEqual(set(AGAINST_DEFAULT), set(AGAINST_ROWS))

    def test_the_kernel_has_no_row_that_costs(self):
        # Its table says that more is better.
        self.assertNotIn('idle', ROWS)
        self.assertEqual(COSTS, {IDLE_BYTES})


if __name__ == '__main__':
    unittest.main()
