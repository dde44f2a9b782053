#!/usr/bin/python3
"""The tools survive whatever is in an arena, and whoever serves it: words scribbled over at random, names with control
characters, keepers that hand over something else, nothing, or too much. They end, with a listing or with one line.

A server in the keeper's place asks the real one and gives the tool a damaged copy of the arena.
"""

import array
import contextlib
import fcntl
import os
import pathlib
import random
import socket
import subprocess
import tempfile
import threading
import time

import harness
from harness import HOST4

PYTHON = '/usr/bin/python3'
SERVER = '''
import ctypes, socket, time
ctypes.CDLL(None).prctl(15, b"a\\x1b[2Jb\\nc", 0, 0, 0)
listeners = [socket.create_server(("0.0.0.0", port)) for port in (8090, 8091)]
print("up", flush=True)
kept = []
while True:
    c, _ = listeners[0].accept()
    c.send(b"x" * 3000)
    kept.append(c)
'''
ARENA_BASE = 0x2000_0000_0000
WORD = 8
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
COMMANDS = (('ss', '-aimpeo'), ('ss', '-s'), ('ss', '-aj'), ('ss', '--engine'), ('nstat', '-az'), ('sysctl', '-a'),
            ('ss', '--check'))


class DamagedArena(harness.TestCase):
    def setUp(self):
        super().setUp()
        command = self.net.host.command('env', *self.net.environment(), 'USTCP_ARENA_SIZE=256M', PYTHON, '-c', SERVER)
        self.program = self.net.start(command, ['server'])
        self.net.wait_ustcp_port(8090, self.program)
        self.connections = [self.net.peer.connect(HOST4, 8090, 5.0) for _ in range(8)]
        for connection in self.connections:
            self.addCleanup(connection.close)
        self.arena = self.arena_of(self.program.pid)
        self.real = self.net.dir / 'run' / f'{self.net.prefix}.sock'
        self.fake = self.net.dir / 'fake'
        self.fake.mkdir(mode=0o755)

    def arena_of(self, pid):
        """A descriptor of the arena that the process has."""
        for entry in pathlib.Path(f'/proc/{pid}/fd').iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(entry).startswith('/memfd:ustcp-'):
                    fd = os.open(entry, os.O_RDONLY)
                    self.addCleanup(os.close, fd)
                    return fd
        self.fail('the program has no arena')

    def copy(self):
        """(offset, bytes) of all that is in the arena."""
        pieces, at, size = [], 0, os.fstat(self.arena).st_size
        while at < size:
            try:
                begin = os.lseek(self.arena, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(self.arena, begin, os.SEEK_HOLE)
            pieces.append((begin, os.pread(self.arena, end - begin, begin)))
            at = end
        return pieces

    def memory(self, pieces):
        fd = os.memfd_create('ustcp-copy', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.addCleanup(os.close, fd)
        os.ftruncate(fd, os.fstat(self.arena).st_size)
        for offset, data in pieces:
            os.pwrite(fd, data, offset)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return fd

    @contextlib.contextmanager
    def keeper(self, answer):
        """Serves in the keeper's place: answer(connection, request) does it."""
        path = self.fake / f'{self.net.prefix}.sock'
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        listener.listen(16)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    while request := connection.recv(4096):
                        answer(connection, request)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            path.unlink()
            thread.join(5)

    def forward(self, request):
        """The real keeper's reply, without its descriptor."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as real:
            real.connect(str(self.real))
            real.send(request)
            reply, fds, _, _ = socket.recv_fds(real, 4096, 4)
            for fd in fds:
                os.close(fd)
        return reply

    def tool(self, *words, patience=45):
        """Runs the tool against the server in the keeper's place: exit status, output, lines on standard error."""
        command = self.net.app.command('env', *self.net.host_environment(), f'USTCP_RUNTIME_DIR={self.fake}',
                                       self.net.tool(), *words)
        done = subprocess.run(command, capture_output=True, timeout=patience)
        output, errors = done.stdout, done.stderr.decode()
        self.assertIn(done.returncode, (0, 1), (words, errors))
        self.assertNotRegex(output.decode(), r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')
        for line in errors.splitlines():
            self.assertRegex(line, r'^ustcp: [^\x00-\x1f]+$')
        self.assertLessEqual(len(errors.splitlines()), 1, errors)
        return done.returncode, output.decode(), errors

    def test_scribbled_words(self):
        """Several hundred arenas with up to 40 words that are not what they were, and every listing of each kind."""
        seed = 7
        pieces = self.copy()
        memory = self.memory(pieces)
        words = []  # what holds something: a zero is a free slot or padding, most of the time
        for offset, data in pieces:
            for i, word in enumerate(memoryview(data).cast('Q')):
                if word != 0:
                    words.append((offset + i * WORD, word))
        rng = random.Random(seed)

        def damaged(word):
            return rng.choice((rng.getrandbits(64), rng.getrandbits(16), (1 << 64) - 1, 0, word ^ 1 << rng.randrange(64),
                               rng.choice(words)[1], ARENA_BASE + (rng.choice(words)[0] & ~63), ARENA_BASE + (256 << 20) - 8))

        def answer(connection, request):
            socket.send_fds(connection, [self.forward(request)], [memory])

        damaged_looks = 0
        deadline = time.monotonic() + 60
        with self.keeper(answer):
            for number in range(420):
                if time.monotonic() > deadline:  # a loaded machine
                    break
                command = COMMANDS[number % len(COMMANDS)]
                changed = rng.sample(words, rng.randint(1, 40))
                for offset, word in changed[:1] + [w for w in changed if w[0] > 24]:  # mostly past magic and layout
                    if offset > 24:
                        os.pwrite(memory, damaged(word).to_bytes(WORD, 'little'), offset)
                errors = self.tool(*command)[2]
                damaged_looks += 'is damaged' in errors
                if command == ('ss', '--check'):
                    for offset, data in pieces:
                        os.pwrite(memory, data, offset)
                for offset, word in changed:
                    os.pwrite(memory, word.to_bytes(WORD, 'little'), offset)
            self.assertGreater(number, 60)
            self.assertGreater(damaged_looks, 0, 'nothing was damaged: the test tests nothing')
            self.assertEqual(self.tool('ss', '-tap')[0], 0)

    def test_control_characters_in_names(self):
        """A program may call itself anything."""
        output = self.net.query('ss', '-tlnp')
        self.assertIn('a?[2Jb', output)
        self.assertNotIn('\x1b', output)

    def test_what_a_stranger_hands_over(self):
        """Not an arena, one that shrinks, one that is too large, several descriptors, none, garbage, silence."""
        pieces = self.copy()

        def with_descriptor(make):
            def answer(connection, request):
                fds = make()
                reply = self.forward(request)
                if fds:
                    socket.send_fds(connection, [reply], fds)
                else:
                    connection.send(reply)
                for fd in fds:
                    os.close(fd)
            return answer

        def unsealed():
            fd = os.memfd_create('ustcp-x', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, 256 << 20)
            return [fd]

        def empty(size):
            fd = os.memfd_create('ustcp-x', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            return [fd]

        def fifo():
            path = self.net.dir / 'fifo'
            if not path.exists():
                os.mkfifo(path)
            return [os.open(path, os.O_RDWR)]

        def file():
            with tempfile.TemporaryFile() as temporary:
                os.ftruncate(temporary.fileno(), 256 << 20)
                return [os.dup(temporary.fileno())]

        answers = {'unsealed': with_descriptor(unsealed), 'empty': with_descriptor(lambda: empty(0)),
                   'zeroes': with_descriptor(lambda: empty(256 << 20)), 'huge': with_descriptor(lambda: empty(1 << 46)),
                   'fifo': with_descriptor(fifo), 'file': with_descriptor(file),
                   'several': with_descriptor(lambda: [fd for _ in range(4) for fd in empty(4096)]),
                   'none': with_descriptor(list), 'short': lambda c, _: c.send(b'xxxx'),
                   'garbage': lambda c, _: c.send(os.urandom(296)), 'long': lambda c, _: c.send(bytes(8000)),
                   'end': lambda c, _: c.close()}
        for name, answer in answers.items():
            with self.subTest(name), self.keeper(answer):
                status, output, errors = self.tool('ss', '-tap')
                self.assertEqual((status, output, len(errors.splitlines())), (1, '', 1), errors)
        message = b'\x1b[2J' + b'A' * 220  # not terminated

        def unterminated(connection, request):
            reply = self.forward(request)
            connection.send(reply[:-224] + message)
        with self.keeper(unterminated):
            status, output, _ = self.tool('hosts')
            self.assertEqual((status, output.split()[0]), (0, self.net.prefix))
            self.assertTrue(output.rstrip().endswith('A' * 220), output)

    def test_nobody_answers(self):
        """Neither a server that is silent nor one that takes no more connections holds the tool for good."""
        with self.keeper(lambda *_: None):
            begun = time.monotonic()
            self.assertRegex(self.tool('hosts')[1], rf'^{self.net.prefix} +no answer')
            self.assertEqual(self.tool('ss')[0], 1)
        full = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        full.bind(str(self.fake / f'{self.net.prefix}.sock'))
        full.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            with contextlib.suppress(BlockingIOError):
                waiting[-1].connect(str(self.fake / f'{self.net.prefix}.sock'))
        self.assertRegex(self.tool('hosts')[1], rf'^{self.net.prefix} +no answer')
        for each in (*waiting, full):
            each.close()
        self.assertLess(time.monotonic() - begun, 60)


if __name__ == '__main__':
    harness.main()
