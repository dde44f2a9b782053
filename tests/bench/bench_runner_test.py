"""The table that bench_runner.py writes for docs/performance.md."""

import unittest

import bench_runner

SIDE = {'min': 1.0, 'median': 20000.0, 'max': 3.0, 'values': [1.0]}


def document(**figures):
    return {'machine': {'cpu': 'A CPU', 'cores': 2, 'kernel': '6.18', 'governor': 'none', 'memory_gib': 23.5,
                        'hypervisor': True, 'load': 1.34},
            'pairs': 3, 'seconds': 1, 'rows': {'row': {'figures': figures}}}


class Markdown(unittest.TestCase):
    def test_the_machine_stands_in_front_of_the_table(self):
        text = bench_runner.markdown(document(requests={'kernel': SIDE, 'ustcp': SIDE, 'ratio': 1.0}))
        about, table = text.split('\n\n')
        self.assertIn('A CPU, 2 cores, 23.5 GiB, virtual machine, Linux 6.18', about)
        self.assertNotIn('|', about)
        self.assertEqual(table, '| figure | kernel | ustcp | ratio |\n|---|---|---|---|\n'
                                '| requests | 20.0k | 20.0k | 1.00 |\n')

    def test_every_line_has_four_columns_also_when_a_side_failed(self):
        text = bench_runner.markdown(document(one={'kernel': SIDE, 'ustcp': None, 'ratio': None}))
        rows = [line for line in text.splitlines() if line.startswith('|')]
        self.assertEqual({line.count('|') for line in rows}, {5})
        self.assertEqual(rows[-1], '| one | 20.0k | - | - |')


if __name__ == '__main__':
    unittest.main()
