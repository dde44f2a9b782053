#!/usr/bin/env python3
"""Checks that every path and every test that the documentation names in backquotes is there. Usage: check_doc_paths.py [ROOT]

Tests are named as in docs/threat-model.md: `process.SUITE.NAME` and `.NAME` after it for the same program, `integration.FILE`,
`integration.FILE:CASE` and `:CASE` after it. `tools/NAME.cc` and `tests/packet/scripts/TOPIC/NAME.pkt` are patterns: words in capitals stand for any name, as `*` does.
"""

import pathlib
import re
import sys

FOLDERS = ('docs', 'io', 'preload', 'scripts', 'stack', 'tests', 'tools')
DOCUMENTS = ('README.md', 'CONTRIBUTING.md', 'docs/*.md', 'docs/decisions/*.md', 'tests/packet/README.md')
QUOTED = re.compile(r'`([^`\n]+)`')
# Commands have words after the path: only the first is one.
PATH = re.compile(rf'^(?:{"|".join(FOLDERS)})/[\w./*+-]*')


def there(root, path):
    pattern = re.sub(r'(?<![A-Za-z])[A-Z]{2,}', '*', path.rstrip('/.'))
    return any(True for _ in root.glob(pattern))


class Tests:
    """The tests that a document names, looked up in the sources; short forms lean on the last full name."""

    FULL = re.compile(r'^(process|unit|integration)\.(\w+)(?:\.(\w+)|:(\w+))?(\*)?$')
    SHORT = re.compile(r'^(?:\.([A-Z]\w+)|:([a-z]\w+))$')

    def __init__(self, root):
        self.root = root
        self.gtests = {(suite, name) for path in (root / 'tests').rglob('*_test.cc') for suite, name in
                       re.findall(r'^TEST(?:_[FP])?\(\s*(\w+)\s*,\s*(\w+)', path.read_text(), re.M)}
        self.last = None

    def has_case(self, file, case):
        return f'def test_{case}(' in (self.root / f'tests/integration/{file}_test.py').read_text()

    def has_gtest(self, suite, name, prefix):
        return any(s.startswith(suite) if prefix else s == suite and name in (None, n) for s, n in self.gtests)

    def missing(self, quoted):
        """None when `quoted` names no test; otherwise whether the test is missing."""
        if match := self.FULL.match(quoted):
            kind, suite, name, case, prefix = match.groups()
            self.last = (kind, suite)
            if kind != 'integration':
                return not self.has_gtest(suite, name, prefix)
            python = (self.root / f'tests/integration/{suite}_test.py').exists()
            return not python or case is not None and not self.has_case(suite, case)
        if self.last and (match := self.SHORT.match(quoted)):
            name, case = match.groups()
            return not self.has_case(self.last[1], case) if case else not any(n == name for _, n in self.gtests)
        return None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]).resolve()
    documents = sorted(path for pattern in DOCUMENTS for path in root.glob(pattern))
    seen, problems = 0, []
    for document in documents:
        tests = Tests(root)
        for number, line in enumerate(document.read_text().splitlines(), 1):
            for quoted in QUOTED.findall(line):
                if (missing := tests.missing(quoted)) is not None:
                    seen += 1
                    if missing:
                        problems.append(f'{document.relative_to(root)}:{number}: there is no test {quoted}')
                    continue
                path = PATH.match(quoted)
                if path is None:
                    continue
                seen += 1
                if not there(root, path.group()):
                    problems.append(f'{document.relative_to(root)}:{number}: there is no {path.group()}')
    print('\n'.join(problems) if problems else f'{seen} paths and tests in {len(documents)} documents are there')
    sys.exit(1 if problems else 0)


main()
