"""Whether instructions.py tells a change from none. Nothing is counted here."""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import unittest

import instructions

TABLE = {'built_with': 'GNU 12.2.0', 'reference': {'commit': 'abc', 'instructions': {'request': 900}},
         'instructions': {'request': 1000, 'round-trip': 500}}


def compare(counts, about='GNU 12.2.0'):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = instructions.compare(TABLE, about, counts)
    return status, output.getvalue()


class Comparing(unittest.TestCase):
    def test_the_same_counts_pass(self):
        status, output = compare({'request': 1000, 'round-trip': 500})
        self.assertEqual(status, 0)
        self.assertRegex(output, r'request +900 +1000 +1000 +\+0\.0%\n')
        self.assertNotIn('--update', output)

    def test_within_the_tolerance_passes(self):
        self.assertEqual(compare({'request': 1020, 'round-trip': 490})[0], 0)

    def test_more_fails_and_says_how_the_table_is_made_anew(self):
        status, output = compare({'request': 1021, 'round-trip': 500})
        self.assertEqual(status, 1)
        self.assertIn('more than 2 %: request\n', output)
        self.assertIn('scripts/instructions --update', output)

    def test_less_fails_too(self):
        # Or the table would let it come back.
        self.assertEqual(compare({'request': 1000, 'round-trip': 489})[0], 1)

    def test_what_is_missing_or_new_fails(self):
        self.assertIn(': round-trip\n', compare({'request': 1000})[1])
        status, output = compare({'request': 1000, 'round-trip': 500, 'turn': 7})
        self.assertEqual(status, 1)
        self.assertIn(': turn\n', output)

    def test_another_compiler_passes_with_a_line(self):
        status, output = compare({'request': 2000, 'round-trip': 1}, about='GNU 13.2.0')
        self.assertEqual(status, 0)
        self.assertIn('not compared: built with GNU 13.2.0; the table is of GNU 12.2.0', output)


class Counting(unittest.TestCase):
    def test_dumps_at_requests_count_and_the_one_at_the_end_does_not(self):
        texts = ['desc: Trigger: Client Request: request\n\nevents: Ir\nsummary: 16\ntotals: 17\n',
                 'desc: Trigger: Program termination\n\ntotals: 0\n']
        self.assertEqual(instructions.parse_dumps(texts), {'request': 17})

    def test_counts_are_for_one_operation(self):
        self.assertEqual(instructions.per_operation('request 10\nround-trip 3\n', {'request': 1004, 'round-trip': 9}),
                         {'request': 100, 'round-trip': 3})

    def test_a_dump_that_is_missing_is_an_error(self):
        with self.assertRaises(RuntimeError):
            instructions.per_operation('request 10\nround-trip 3\n', {'request': 1000})

    def test_without_the_program_nothing_is_claimed(self):
        done = subprocess.run([sys.executable, instructions.__file__, '--program', '/nowhere/ustcp_instructions'],
                              capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, instructions.SKIPPED)
        self.assertIn('is not built', done.stdout)


class Written(unittest.TestCase):
    """The table and its page as they are in the tree."""

    def setUp(self):
        self.table = json.loads(instructions.TABLE.read_text(encoding='utf-8'))

    def test_every_operation_is_explained(self):
        self.assertEqual(list(self.table['instructions']), list(instructions.WHAT))

    def test_the_page_shows_the_table(self):
        page = instructions.PAGE.read_text(encoding='utf-8')
        self.assertEqual(instructions.with_table(page, self.table), page)

    def test_every_operation_of_the_program_is_there(self):
        source = pathlib.Path(instructions.__file__).with_suffix('.cc').read_text(encoding='utf-8')
        for name in instructions.WHAT:
            self.assertIn(f'"{name}"', source)


if __name__ == '__main__':
    unittest.main()
