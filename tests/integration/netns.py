"""Network namespaces of one test run: made, entered and removed, also when an earlier run was killed.

A namespace's name carries the process that made it, as ustcp-PID-START-NUMBER-ROLE with START the process's start time
from /proc/PID/stat. So two runs at the same time never meet, and a name whose process is gone is a leftover.
"""

import ctypes
import itertools
import os
import pathlib
import re
import signal
import shutil
import socket
import subprocess
import tempfile
import threading
import time

_CLONE_NEWNET = 0x40000000
_NAME = re.compile(r'^ustcp-(\d+)-(\d+)-\d+(-\w+)?$')
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _start_time(pid):
    """Start time of a process in clock ticks since boot, or None when there is no such process."""
    try:
        return int(pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def unique_prefix():
    """A name that no other run has, and no other call of this run."""
    return f'ustcp-{os.getpid()}-{_start_time(os.getpid())}-{next(_numbers)}'


def make_directory(prefix):
    """A directory for the run's files, readable by the users that servers change to."""
    path = pathlib.Path(tempfile.gettempdir()) / prefix
    path.mkdir(mode=0o700)
    path.chmod(0o755)
    return path


def run(*command, timeout=20):
    """Runs a set-up command; raises with its output when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}')
    return done.stdout


class Namespace:
    def __init__(self, name):
        self.name = name
        run('ip', 'netns', 'add', name)
        self.ip('link', 'set', 'lo', 'up')
        # Addresses are usable at once: nobody else is on these links, so there is no duplicate to detect.
        self.sysctl('net.ipv6.conf.all.accept_dad', 0)
        self.sysctl('net.ipv6.conf.default.accept_dad', 0)

    def ip(self, *words):
        return run('ip', '-n', self.name, *words)

    def command(self, *words):
        """The words that run a command inside."""
        return ['ip', 'netns', 'exec', self.name, *map(str, words)]

    def run(self, *words, timeout=20):
        return run(*self.command(*words), timeout=timeout)

    def sysctl(self, name, value):
        self.run('sysctl', '-q', '-w', f'{name}={value}')

    def pids(self):
        return [int(word) for word in run('ip', 'netns', 'pids', self.name).split()]

    def call(self, function, *arguments):
        """Calls a Python function in a thread that has entered the namespace; sockets it makes belong there."""
        result = []

        def inside():
            try:
                with open(f'/run/netns/{self.name}', 'rb') as namespace:
                    if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f'setns {self.name}')
                result.append((function(*arguments), None))
            except BaseException as error:  # handed to the caller
                result.append((None, error))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def connect(self, address, port, timeout=5.0):
        """A connected TCP socket of the kernel's, opened inside."""
        return self.call(lambda: socket.create_connection((address, port), timeout))


# Mounts over /dev/net in a mount namespace of the command's own, then becomes the command. A tmpfs, since a node on a file
# system without devices, as /tmp may be, cannot be opened.
_OWN_TUN = ('mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && '
            'exec "$@"')


def as_user(uid, *words):
    """The words that run a command as an ordinary user, who has a /dev/net/tun that everybody may open.

    The machine's own may be root's alone and stays as it is. The command keeps its process number.
    """
    return ['unshare', '--mount', 'sh', '-c', _OWN_TUN, 'sh', 'setpriv', f'--reuid={uid}', f'--regid={uid}',
            '--clear-groups', *map(str, words)]


def veth(first, first_name, second, second_name):
    """Joins two namespaces; returns nothing, both ends are up."""
    first.ip('link', 'add', first_name, 'type', 'veth', 'peer', 'name', second_name, 'netns', second.name)
    first.ip('link', 'set', first_name, 'up')
    second.ip('link', 'set', second_name, 'up')


def end_processes(pids, patience=3.0):
    """Ends processes by number: politely, then not."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, signal_number)
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if alive(pid)]
            time.sleep(0.02)


def alive(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def remove(name):
    """Removes a namespace with everything that still runs in it."""
    listed = subprocess.run(['ip', 'netns', 'pids', name], capture_output=True, text=True, timeout=20)
    end_processes([int(word) for word in listed.stdout.split()])
    subprocess.run(['ip', 'netns', 'del', name], capture_output=True, timeout=20)


def _is_leftover(name):
    match = _NAME.match(name)
    return match is not None and _start_time(int(match.group(1))) != int(match.group(2))


def remove_leftovers():
    """Removes the namespaces and directories of runs that are no more."""
    for line in run('ip', 'netns', 'list').splitlines():
        words = line.split()
        if words and _is_leftover(words[0]):
            remove(words[0])
    for path in pathlib.Path(tempfile.gettempdir()).glob('ustcp-*'):
        if _is_leftover(path.name):
            shutil.rmtree(path, ignore_errors=True)
