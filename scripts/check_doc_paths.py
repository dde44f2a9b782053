#!/usr/bin/env python3
"""Checks that every path of the tree that the documentation names in backquotes is there. Usage: check_doc_paths.py [ROOT]

`tools/NAME.cc` and `tests/packet/scripts/TOPIC/NAME.pkt` are patterns: words in capitals stand for any name, as `*` does.
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


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]).resolve()
    documents = sorted(path for pattern in DOCUMENTS for path in root.glob(pattern))
    seen, problems = 0, []
    for document in documents:
        for number, line in enumerate(document.read_text().splitlines(), 1):
            for quoted in QUOTED.findall(line):
                path = PATH.match(quoted)
                if path is None:
                    continue
                seen += 1
                if not there(root, path.group()):
                    problems.append(f'{document.relative_to(root)}:{number}: there is no {path.group()}')
    print('\n'.join(problems) if problems else f'{seen} paths in {len(documents)} documents are there')
    sys.exit(1 if problems else 0)


main()
