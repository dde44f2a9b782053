#!/usr/bin/python3
"""`cmake --install` into a prefix: everything is where a distribution would have it, and works from there.

Nothing but PATH and the host's name is in the environment: the library has to find its keeper, the tool its library.
The last test runs the README's block "Everyday use".
"""

import os
import pathlib
import re
import shutil
import subprocess

import harness
from harness import GATEWAY4, GATEWAY6, HOST4, HOST6, url

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / 'README.md'


class Install(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.prefix = self.net.dir / 'usr'
        subprocess.run(['cmake', '--install', harness.OPTIONS.build, '--prefix', self.prefix], check=True,
                       capture_output=True, timeout=60)
        self.library = next(self.prefix.glob('lib*/**/libustcp.so'))
        self.server = self.net.start_kernel('/usr/bin/python3', '-u', '-m', 'http.server', '8080', '--bind', '::',
                                            '--directory', self.make_www())
        self.net.wait_kernel_port(8080, self.server)

    def make_www(self):
        www = self.net.dir / 'www'
        www.mkdir(exist_ok=True)
        (www / 'small').write_text('a small page\n')
        return www

    def run_installed(self, *words, variables=(), check=True):
        # The host's keeper is found through its socket; a directory of the test's own keeps others out.
        environment = [f'PATH={self.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin', f'USTCP_HOST={self.net.prefix}',
                       f'USTCP_RUNTIME_DIR={self.net.dir}/run', *variables]
        return self.net.complete(self.net.host.command('env', '-i', *environment, *words), check=check)

    def test_places(self):
        """The layout of the GNU directories, and nothing else."""
        library_directory = self.library.parent.relative_to(self.prefix)
        self.assertRegex(str(library_directory), r'^lib(/[a-z0-9_]+-linux-gnu)?$')
        installed = {str(path.relative_to(self.prefix)) for path in self.prefix.rglob('*') if not path.is_dir()}
        documentation = {path for path in installed if path.startswith('share/')}
        self.assertEqual(installed - documentation,
                         {'bin/ustcp', f'{library_directory}/libustcp.so', 'libexec/ustcp/ustcp-keeper'})
        for name in ('README.md', 'LICENSE', 'docs/third-party.md', 'docs/settings.md', 'docs/architecture.md'):
            self.assertIn(f'share/doc/ustcp/{name}', documentation)
        for name in ('bin/ustcp', 'libexec/ustcp/ustcp-keeper'):
            self.assertTrue(os.access(self.prefix / name, os.X_OK), name)
        # Built for /usr/local or the prefix, not for the tree it was built in.
        for name in sorted(installed - documentation):
            self.assertNotIn(str(harness.OPTIONS.build).encode(), (self.prefix / name).read_bytes(), name)

    def test_version(self):
        """Tool, keeper and library say the same; the library's text is in the file, for `strings`."""
        text = self.run_installed('ustcp', '--version')
        self.assertRegex(text, r'^libustcp \d+\.\d+\.\d+, build (unknown|[0-9a-z.-]+), layout [0-9a-f]{16}\n$')
        self.assertEqual(self.run_installed(self.prefix / 'libexec/ustcp/ustcp-keeper', '--version'), text)
        self.assertIn(text.partition(', layout')[0].encode() + b'\0', self.library.read_bytes())

    def test_needs_only_the_c_library(self):
        """What the program has loaded never meets a second copy of it."""
        output = subprocess.run(['ldd', self.library], capture_output=True, text=True, check=True).stdout
        names = {line.split()[0] for line in output.splitlines()}
        self.assertEqual({re.sub(r'^/.*/', '', name) for name in names} - {'linux-vdso.so.1'},
                         {'libc.so.6', 'ld-linux-x86-64.so.2'})

    def test_run(self):
        for address in (GATEWAY4, GATEWAY6):
            self.assertEqual(self.run_installed('ustcp', 'run', '--', 'curl', '-sS', '--max-time', '20',
                                                url(address, 8080, 'small')), 'a small page\n')
        listing = self.run_installed('ustcp', 'hosts')
        self.assertIn(self.net.prefix, listing)
        # What follows the program is the program's.
        self.assertEqual(self.run_installed('ustcp', 'run', '--host', self.net.prefix, 'echo', '--', '--host', '-x'),
                         '-- --host -x\n')
        # The program's exit status is the tool's.
        self.assertEqual(self.run_installed('ustcp', 'run', 'sh', '-c', 'exit 7', check=False)[0], 7)
        self.assertEqual(self.run_installed('ustcp', 'run', 'no-such-program', check=False),
                         (127, '', 'ustcp: cannot run no-such-program: No such file or directory\n'))

    def test_preload(self):
        for address in (GATEWAY4, GATEWAY6):
            status, output, errors = self.run_installed('curl', '-sS', '--max-time', '20', '-w', '%{local_ip}',
                                                        url(address, 8080, 'small'),
                                                        variables=[f'LD_PRELOAD={self.library}'], check=False)
            own = HOST6 if ':' in address else HOST4
            self.assertEqual((status, output, errors), (0, f'a small page\n{own}', ''))

    def test_staged(self):
        """DESTDIR, as packages are built: what is moved to its place later finds its parts there."""
        stage = self.net.dir / 'stage'
        subprocess.run(['cmake', '--install', harness.OPTIONS.build, '--prefix', '/usr'], check=True,
                       env={**os.environ, 'DESTDIR': str(stage)}, capture_output=True, timeout=60)
        self.assertTrue((stage / 'usr/bin/ustcp').exists())
        shutil.rmtree(self.prefix)
        shutil.move(stage / 'usr', self.prefix)
        self.test_run()

    def test_readme(self):
        """The block "Everyday use", line by line, with the default host on the default interface of a namespace."""
        block = re.search(r'## Everyday use\n.*?```\n(.*?)```', README.read_text(), re.DOTALL).group(1)
        lines = [line.split('#')[0].strip() for line in block.splitlines()]
        self.assertIn('LD_PRELOAD=libustcp.so nginx', lines)
        self.net.app.run(self.net.tool(), 'net', 'down', '--interface', harness.INTERFACE)
        done = []
        for line in lines:
            if line.startswith('cmake'):
                continue   # as setUp has done
            if line.startswith('LD_PRELOAD=libustcp.so nginx'):
                line = line.replace('nginx', f'nginx -p {self.net.dir} -c {self.configuration()}')
            done.append((line, self.shell(line)))
        outputs = dict(done)
        self.assertEqual(outputs['curl http://10.117.0.2/'], 'a small page\n')
        self.assertRegex(outputs['ustcp ss -tlnp'], r'LISTEN .* 0\.0\.0\.0:80 .*users:\(\("nginx",pid=')
        self.assertNotIn(harness.INTERFACE, self.net.app.ip('-br', 'link'))

    def test_packages(self):
        """The README names those that scripts/setup --build installs."""
        script = (ROOT / 'scripts/setup').read_text()
        names = re.search(r'^packages=\(\n(.*?)^\)', script, re.DOTALL | re.MULTILINE).group(1).split()
        told = re.search(r'`scripts/setup --build`.*?which\s+are (.*?)\. Then', README.read_text(), re.DOTALL).group(1)
        self.assertEqual(re.split(r',\s+|\s+and\s+', told), names)

    def configuration(self):
        path = self.net.dir / 'nginx.conf'
        www = self.make_www()
        (www / 'index.html').write_text('a small page\n')
        path.write_text(f'pid {self.net.dir}/nginx.pid; error_log {self.net.dir}/error.log;\n'
                        'events {}\n'
                        f'http {{ access_log off; client_body_temp_path {self.net.dir}/t; '
                        f'proxy_temp_path {self.net.dir}/t; fastcgi_temp_path {self.net.dir}/t; '
                        f'uwsgi_temp_path {self.net.dir}/t; scgi_temp_path {self.net.dir}/t;\n'
                        f'  server {{ listen 80; listen [::]:80; root {www}; }} }}\n')
        return path

    def shell(self, line):
        """A line of the README as a user's shell has it: the library in the linker's path, USER set."""
        environment = [f'PATH={self.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'USER=root',
                       f'LD_LIBRARY_PATH={self.library.parent}', f'USTCP_RUNTIME_DIR={self.net.dir}/run']
        return self.net.complete(self.net.host.command('env', '-i', *environment, 'sh', '-c', line), timeout=30)


if __name__ == '__main__':
    harness.main()
