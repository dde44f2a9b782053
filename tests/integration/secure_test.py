#!/usr/bin/python3
"""Programs with more rights than whoever starts them take no part, whatever their environment says; `ustcp run` says so
beforehand. And a configuration, a capture or a log is read and written only where nobody else could have put it."""

import os
import re
import shutil
import stat
import subprocess

import harness

PYTHON = '/usr/bin/python3'
USER = 1234
# Opens a TCP socket and tells what is under it and around it.
PROBE = r'''
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char** argv) {
  if (argc > 1 && setreuid(-1, atoi(argv[1])) != 0) return 3;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  int arena = 0, preloaded = 0, variables = 0;
  char line[4096];
  for (FILE* f = fopen("/proc/self/maps", "r"); f && fgets(line, sizeof line, f);) {
    arena |= strstr(line, "memfd:ustcp") != 0;
    preloaded |= strstr(line, "libustcp") != 0;
  }
  extern char** environ;
  for (char** e = environ; *e; ++e) variables += strncmp(*e, "USTCP_", 6) == 0;
  printf("secure=%d preloaded=%d socket=%d arena=%d variables=%d\n", getauxval(AT_SECURE) != 0, preloaded, s >= 0, arena, variables);
  return 0;
}
'''


class Secure(harness.TestCase):
    def setUp(self):
        super().setUp()
        # Not below /tmp only: a file system that takes set-user-id bits, on which the linker finds the library.
        self.program = self.net.dir / 'probe'
        source = self.net.dir / 'probe.c'
        source.write_text(PROBE)
        subprocess.run(['gcc', '-O1', '-o', self.program, source], check=True)
        os.chmod(self.net.dir, 0o755)

    def copy(self, name, mode=0o755, owner=0, group=0):
        path = self.net.dir / name
        shutil.copy(self.program, path)
        os.chown(path, owner, group)
        path.chmod(mode)
        return path

    def in_preload(self, *words, user=None, variables=()):
        """Runs a program with the library in /etc/ld.so.preload, which secure programs obey too, in a mount namespace."""
        listed = self.net.dir / 'ld.so.preload'
        listed.write_text(f'{self.net.product("libustcp.so")}\n')
        become = f'setpriv --reuid {user} --regid {user} --clear-groups' if user is not None else ''
        # The file may not be there yet: a copy of /etc is laid over it.
        script = (f'mount -t tmpfs none /mnt && cp -a /etc/. /mnt 2>/dev/null; cp {listed} /mnt/ld.so.preload && '
                  f'mount --bind /mnt /etc && exec {become} env {" ".join(variables)} "$@"')
        return self.net.complete(self.net.host.command('unshare', '-m', 'sh', '-c', script, 'sh', *words), check=False)

    def test_a_set_user_id_program_takes_no_part(self):
        run = self.net.dir / 'run'
        log = self.net.dir / 'keeper.log'
        variables = [*self.net.host_environment(), f'USTCP_KEEPER_LOG={log}', f'USTCP_CAPTURE={self.net.dir}/frames',
                     'USTCP_CONFIG=/nowhere/to/be/found']
        for path, in_secure in ((self.copy('suid', 0o4755), True), (self.copy('sgid', 0o2755, group=1), True)):
            status, output, errors = self.in_preload(path, user=USER, variables=variables)
            self.assertEqual((status, output, errors), (0, 'secure=1 preloaded=1 socket=1 arena=0 variables=0\n', ''))
        caps = self.copy('caps')
        subprocess.run(['setcap', 'cap_net_raw+ep', caps], check=True)
        status, output, errors = self.in_preload(caps, user=USER, variables=variables)
        self.assertEqual((status, output, errors), (0, 'secure=1 preloaded=1 socket=1 arena=0 variables=0\n', ''))
        self.assertFalse(run.exists() or log.exists() or list(self.net.dir.glob('frames*')))
        # Whoever has the rights anyway is refused a socket for the same mistake: nothing is ignored there.
        status, output, errors = self.in_preload(self.program, variables=variables)
        self.assertIn('secure=0 preloaded=1 socket=0', output)
        self.assertRegex(errors, r'^ustcp: /nowhere/to/be/found: cannot be opened')

    def test_run_says_so(self):
        """In one line, with exit status 126, before anything is started."""
        caps = self.copy('caps')
        subprocess.run(['setcap', 'cap_net_raw+ep', caps], check=True)
        static = self.net.dir / 'static'
        subprocess.run(['gcc', '-static', '-o', static, self.net.dir / 'probe.c'], check=True)
        go = self.net.dir / 'go'
        # What the linker of Go leaves in a program that uses the C library as well.
        subprocess.run(['gcc', '-o', go, self.net.dir / 'probe.c', '-xassembler', '-'], text=True, check=True,
                       input='.section .go.buildinfo,"aw"\n.ascii "\\xff Go buildinf:"\n.section .note.GNU-stack\n')
        subprocess.run(['strip', go], check=True)
        script, through_env = self.net.dir / 'script', self.net.dir / 'through-env'
        script.write_text(f'#!{static} -x\n')
        through_env.write_text('#!/usr/bin/env -S static -x\n')
        for path in (script, through_env):
            path.chmod(0o755)
        tool = [self.net.tool(), 'run', '--']
        as_user = ['setpriv', '--reuid', str(USER), '--regid', str(USER), '--clear-groups']
        for command, pattern in (([*as_user, *tool, self.copy('suid', 0o4755)], 'is set-user-id'),
                                 ([*as_user, *tool, self.copy('sgid', 0o2755, group=1)], 'is set-group-id'),
                                 ([*as_user, *tool, caps], 'has file capabilities'),
                                 ([*tool, static], 'is linked statically'), ([*tool, script], 'is linked statically'),
                                 ([*tool, through_env], 'is linked statically'), ([*tool, go], 'is written in Go')):
            status, output, errors = self.net.complete(self.net.app.command(
                'env', *self.net.host_environment(), f'PATH={self.net.dir}:{os.environ["PATH"]}', *command), check=False)
            self.assertEqual((status, output), (126, ''), errors)
            self.assertRegex(errors, rf'^ustcp: \S+ {pattern}: .*; \w.*\n$')
        # Not for those who have the rights anyway, nor where the bits count for nothing.
        for command in ([*tool, self.copy('suid', 0o4755)], [*tool, caps],
                        [*as_user, '--no-new-privs', *tool, self.copy('suid', 0o4755)]):
            status, output, errors = self.net.complete(self.net.app.command(
                'env', *self.net.host_environment(), *command), check=False)
            self.assertIn('secure=0 preloaded=1', output, errors)

    # -- files

    def start_with(self, *variables, program=None):
        return self.net.complete(self.net.ustcp_command('env', *variables, program or self.program), check=False)

    def test_configuration_of_others(self):
        config = self.net.dir / 'x.conf'
        config.write_text('busy_poll_us = 3\n')
        folder = self.net.dir / 'open'
        folder.mkdir()
        inside = folder / 'y.conf'
        inside.write_text('busy_poll_us = 3\n')
        link, fifo = self.net.dir / 'link.conf', self.net.dir / 'fifo.conf'
        link.symlink_to('open/y.conf')
        shared = self.net.dir / 'shared'
        shared.mkdir()
        shared.chmod(0o1777)
        theirs = shared / 'z.conf'
        theirs.symlink_to('/etc/hostname')
        os.chown(theirs, USER, USER, follow_symlinks=False)
        os.mkfifo(fifo)
        for path, change, undo, pattern in (
                (config, lambda: config.chmod(0o666), lambda: config.chmod(0o644), 'can be written to by others'),
                (config, lambda: os.chown(config, USER, 0), lambda: os.chown(config, 0, 0), f'belongs to user {USER}'),
                (inside, lambda: folder.chmod(0o777), lambda: folder.chmod(0o755), 'directory that others can write to'),
                (link, lambda: folder.chmod(0o777), lambda: folder.chmod(0o755), 'directory that others can write to'),
                (inside, lambda: os.chown(folder, USER, 0), lambda: os.chown(folder, 0, 0), f'directory of user {USER}'),
                (theirs, lambda: None, lambda: None, f'is a link of user {USER}'),
                (fifo, lambda: None, lambda: None, 'is no plain file')):
            change()
            status, output, errors = self.start_with(f'USTCP_CONFIG={path}')
            self.assertIn('socket=0', output)
            self.assertRegex(errors, rf'^ustcp: {re.escape(str(path))}: .*{pattern}.*; \w.*\n$')
            undo()
        for path in (config, inside, link):
            self.assertIn('socket=1', self.start_with(f'USTCP_CONFIG={path}')[1])

    def test_captures_and_logs_of_others(self):
        precious = self.net.dir / 'precious'
        precious.write_text('kept')
        precious.chmod(0o644)

        def symlink(path):
            path.symlink_to(precious)

        def hard_link(path):
            os.link(precious, path)

        def of_another(path):
            path.write_text('kept')
            os.chown(path, USER, USER)

        for number, (make, pattern) in enumerate(((symlink, 'is a symbolic link'), (hard_link, 'has further names'),
                                                  (of_another, f'belongs to user {USER}'),
                                                  (os.mkfifo, 'is no plain file|cannot be opened'))):
            log, capture = self.net.dir / f'log-{number}', self.net.dir / f'capture-{number}'
            make(log)
            status, output, errors = self.start_with(f'USTCP_HOST={self.net.prefix}-{number}', f'USTCP_KEEPER_LOG={log}')
            self.assertIn('socket=0', output)
            self.assertRegex(errors, rf'^ustcp: {log}: .*({pattern}).*; \w.*\n$')
            if make in (symlink, hard_link):
                # A capture's file has the process's number at its end, which somebody else may know beforehand.
                client = (f'import os, socket; os.{"symlink" if make is symlink else "link"}("{precious}", f"{capture}.{{os.getpid()}}");'
                          's = socket.socket(); s.settimeout(1); s.connect_ex(("10.117.0.9", 1))')
                errors = self.net.complete(self.net.ustcp_command('env', f'USTCP_CAPTURE={capture}', PYTHON, '-c', client),
                                           check=False)[2]
                self.assertRegex(errors, rf'^ustcp: no capture: \S+: ({pattern}).*; \w.*\n$')
            self.assertEqual(precious.read_text(), 'kept')

    def test_a_log_of_one_s_own(self):
        """Is written on, and made private."""
        log = self.net.dir / 'log'
        log.write_text('before\n')
        log.chmod(0o644)
        self.assertIn('socket=1', self.start_with(f'USTCP_KEEPER_LOG={log}')[1])
        self.assertTrue(log.read_text().startswith('before\n'))
        self.assertEqual(stat.S_IMODE(log.stat().st_mode), 0o600)

    # -- the keeper's program

    def false_keeper(self, path):
        """What a stranger would like to be run; returns the file that shows that it was."""
        proof = self.net.dir / 'proof'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\ntouch {proof}\n')
        path.chmod(0o755)
        os.chown(path, USER, USER)
        return proof

    def first_socket(self, library, *steps, folder='/'):
        client = '; '.join(['import os, socket', *steps, 's = socket.create_server(("", 8000))', 'print("made")'])
        variables = [word for word in self.net.host_environment() if not word.startswith('USTCP_KEEPER=')]
        return self.net.complete(self.net.host.command(
            'env', '-C', folder, *variables, f'LD_PRELOAD={library}', PYTHON, '-c', client), check=False)

    def test_a_library_that_was_named_from_where_the_program_was(self):
        """The keeper is sought beside the library, wherever the program has gone since."""
        theirs = self.net.dir / 'theirs'
        proof = self.false_keeper(theirs / 'ustcp-keeper')
        self.false_keeper(theirs / 'keeper/ustcp-keeper')
        library = self.net.product('libustcp.so')
        status, output, errors = self.first_socket(f'./{library.name}', f'os.chdir("{theirs}")', folder=library.parent)
        self.assertFalse(proof.exists())
        self.assertEqual((status, output), (0, 'made\n'), errors)

    def test_a_keeper_of_others(self):
        """Nor is one taken that neither root, nor the program's user, nor the library's owner has put there."""
        library = self.net.dir / 'mine/libustcp.so'
        library.parent.mkdir()
        shutil.copy(self.net.product('libustcp.so'), library)
        proof = self.false_keeper(self.net.dir / 'libexec/ustcp/ustcp-keeper')
        self.first_socket(library)
        self.assertFalse(proof.exists())

    def test_a_library_of_others(self):
        """`ustcp run` seeks it beside itself, where others may be able to make a folder."""
        tool = self.net.dir / 'mine/ustcp'
        tool.parent.mkdir()
        shutil.copy(self.net.tool(), tool)
        proof, theirs = self.net.dir / 'proof', self.net.dir / 'preload/libustcp.so'
        theirs.parent.mkdir()
        subprocess.run(['gcc', '-shared', '-x', 'c', '-o', theirs, '-'], check=True, text=True, input=
                       f'#include <stdio.h>\n__attribute__((constructor)) void f(void) {{ fopen("{proof}", "w"); }}')
        os.chown(theirs, USER, USER)
        self.net.complete(self.net.host.command('env', *self.net.host_environment(), tool, 'run', '--', '/bin/true'),
                          check=False)
        self.assertFalse(proof.exists())


if __name__ == '__main__':
    harness.main()
