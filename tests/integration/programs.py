"""Programs that a machine may well lack: scripts/setup does not install them, and a test without its program is skipped.

They are this machine's, or with --root DIR those of another root, as debootstrap makes one: so one machine tests several
versions of a program. In that root the program sees the machine's /proc, /dev and directory for temporary files, where
the test's own files are, and copies of the products for it.
"""

import atexit
import pathlib
import shutil
import sys
import tempfile
import unittest

import harness
from harness import OPTIONS, sha256

PYTHON = '/usr/bin/python3'
LOAD = pathlib.Path(__file__).with_name('load.py')

_ENTER = ('root=$1; shift; mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && '
          'mount --rbind "$0" "$root$0" && exec chroot "$root" "$@"')


def _in_root(words):
    """The words that run a command in the other root, whose mounts end with it."""
    if OPTIONS.root is None:
        return list(map(str, words))
    return ['unshare', '--mount', 'sh', '-c', _ENTER, tempfile.gettempdir(), str(OPTIONS.root), *map(str, words)]


def _copy_products():
    """Puts the products where the other root sees them too: in the directory for temporary files."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='ustcp-products-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    (folder / 'preload').mkdir()
    for name in ('libustcp.so', 'ustcp-keeper', 'ustcp'):
        shutil.copy2(harness.Net.product(name), folder / 'preload')
    OPTIONS.build = folder


class TestCase(harness.TestCase):
    """A test of programs that need not be there. NEEDED maps files of theirs to the Debian packages that bring them."""
    NEEDED = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for file, package in cls.NEEDED.items():
            if not any((OPTIONS.root or pathlib.Path('/')).glob(file.lstrip('/'))):
                raise unittest.SkipTest(f'no {file} (Debian package {package})')
        if OPTIONS.root is not None and OPTIONS.build is not None:
            _copy_products()

    def start_server(self, *words, **popen):
        """Starts a program on the ustcp side."""
        return self.net.start(self.net.host.command(*_in_root(['env', *self.net.environment(), *words])), words, **popen)

    def start_kernel_server(self, *words, **popen):
        """Starts a program on the kernel side."""
        return self.net.start(self.net.peer.command(*_in_root(words)), words, **popen)

    def client(self, *words, timeout=120):
        """Runs a program on the ustcp side; returns its output."""
        return self.net.complete(self.net.host.command(*_in_root(['env', *self.net.environment(), *words])), timeout)

    def kernel_client(self, *words, timeout=120):
        """Runs a program on the kernel side; returns its output."""
        return self.net.complete(self.net.peer.command(*_in_root(words)), timeout)

    def load(self, url, files, *options, timeout=200):
        """Fetches files at random through load.py on the kernel side, which fails when a body is not the file's."""
        wanted = [f'{path.name}={sha256(path)}' for path in files]
        return self.net.complete(self.net.peer.command(PYTHON, LOAD, url, *wanted, *options), timeout)


if __name__ == '__main__':
    sys.exit('not a test: what the tests of programs share')
