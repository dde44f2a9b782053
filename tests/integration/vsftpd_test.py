#!/usr/bin/python3
"""vsftpd on ustcp, in the model with one process for each session: logging in, lists, transfers both ways, passive and active.

Each session gives itself a limit of 200 MiB for its address space (RLIMIT_AS)."""

import os
import pwd

import harness
import programs
from harness import HOST4, HOST6, make_file, sha256

PORT = 2121
CONFIGURATION = '''
listen=NO
listen_ipv6=YES
listen_port={port}
background=NO
one_process_model={model}
anonymous_enable=YES
local_enable=NO
no_anon_password=NO
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
anon_root={root}
ftp_username={user}
secure_chroot_dir={empty}
pasv_enable=YES
port_enable=YES
connect_from_port_20={port20}
xferlog_enable=YES
vsftpd_log_file={folder}/transfers.log
log_ftp_protocol=YES
dual_log_enable=YES
data_connection_timeout=20
accept_timeout=20
'''
# vsftpd wants one whose home is there.
USER = 'daemon'


class Vsftpd(programs.TestCase):
    NEEDED = {'/usr/sbin/vsftpd': 'vsftpd'}

    def setUp(self):
        super().setUp()
        self.root, empty = self.net.dir / 'ftp', self.net.dir / 'empty'
        incoming = self.root / 'incoming'
        for folder in (self.root, empty, incoming):
            folder.mkdir()
        os.chown(incoming, pwd.getpwnam(USER).pw_uid, -1)
        self.sizes = {'empty': 0, 'small': 100, 'large': 8 << 20}
        for name, size in self.sizes.items():
            make_file(self.root / name, size, seed=size + 1)
        self.configuration = self.net.dir / 'vsftpd.conf'
        self.empty = empty

    def serve(self, model='YES', port20='NO'):
        self.configuration.write_text(CONFIGURATION.format(port=PORT, model=model, root=self.root, user=USER, empty=self.empty,
                                                           folder=self.net.dir, port20=port20))
        server = self.start_server('vsftpd', self.configuration)
        self.net.wait_ustcp_port(PORT, server)
        return server

    def curl(self, address, path, *options, check=True):
        host = f'[{address}]' if ':' in address else address
        return self.net.kernel('curl', '-sS', '--max-time', '30', *options, f'ftp://{host}:{PORT}/{path}', check=check)

    def use(self, address, *way):
        copy = self.net.dir / 'copy'
        listed = self.curl(address, '', '-l', *way).split()
        self.assertEqual(sorted(listed), ['empty', 'incoming', 'large', 'small'])
        lines = self.curl(address, '', *way).splitlines()
        sizes = {line.split()[8]: int(line.split()[4]) for line in lines if line.startswith('-')}
        self.assertEqual(sizes, self.sizes)
        for name in self.sizes:
            self.curl(address, name, '-o', copy, *way)
            self.assertEqual(sha256(copy), sha256(self.root / name), name)
            copy.unlink()
            stored = f'incoming/{name}'
            self.curl(address, stored, '-T', self.root / name, *way)
            self.assertEqual(sha256(self.root / stored), sha256(self.root / name), name)
            self.curl(address, '', '-Q', f'DELE {stored}', '-l', *way)
        # The rest of a file, and several commands and transfers in one session.
        self.curl(address, 'large', '-C', 8 << 19, '-o', copy, *way)
        self.assertEqual(copy.stat().st_size, (8 << 20) - (8 << 19))
        copy.unlink()
        many = self.curl(address, '{small,large,small,large}', '-o', '/dev/null', '-w', '%{size_download} ', *way)
        self.assertEqual(many.split(), ['100', str(8 << 20)] * 2)

    def test_passive(self):
        server = self.serve()
        for address, way in ((HOST4, '--disable-epsv'), (HOST4, '--ftp-pasv'), (HOST6, '--ftp-pasv')):
            with self.subTest(address=address, way=way):
                self.use(address, way)
        self.end(server)

    def test_active(self):
        server = self.serve()
        for address, way in ((HOST4, '--disable-eprt'), (HOST4, '--eprt'), (HOST6, '--eprt')):
            with self.subTest(address=address, way=way):
                self.use(address, '--ftp-port', '-', way)
        self.end(server)

    def test_sessions_side_by_side(self):
        server = self.serve()
        urls = [f'ftp://{HOST4}:{PORT}/{name}' for name in ('small', 'large')] * 10
        sizes = self.net.kernel('curl', '-sS', '--max-time', '60', '-Z', '--parallel-immediate', '-w', '%{size_download}\n',
                                *[word for url in urls for word in ('-o', '/dev/null', url)])
        self.assertEqual(sorted(map(int, sizes.split())), [100] * 10 + [8 << 20] * 10)
        self.end(server)

    def test_refused_login_and_missing_file(self):
        server = self.serve()
        self.assertEqual(self.curl(HOST4, 'small', '-u', 'root:wrong', check=False)[0], 67)
        self.assertEqual(self.curl(HOST4, 'none', check=False)[0], 78)
        self.use(HOST4)
        self.end(server)

    def test_other_model(self):
        """Its sessions of several processes hand data connections over (SCM_RIGHTS): logging in works, a transfer is refused
        at once. What the library has to say goes to standard error, where such a session has its control connection."""
        server = self.serve(model='NO')
        status, _, errors = self.curl(HOST4, 'small', '-v', '-Q', 'PWD', '-o', self.net.dir / 'copy', check=False)
        self.assertIn('< 257 "/"', errors)
        if harness.OPTIONS.native:
            self.assertEqual(status, 0, errors)
        else:
            self.assertEqual(status, 19, errors)
            self.assertIn('< 500 OOPS: sendmsg', errors)
        self.end(server)

    def end(self, server):
        self.assertTrue(server.running(), server.log())
        harness.wait_until(lambda: len(self.children(server)) == 0, 10, 'sessions end')
        server.stop()
        self.assertEqual(server.log(), '')

    @staticmethod
    def children(server):
        with open(f'/proc/{server.pid}/task/{server.pid}/children', encoding='ascii') as file:
            return file.read().split()


if __name__ == '__main__':
    harness.main()
