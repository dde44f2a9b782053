"""The distribution's nginx with a configuration of the test's own, and what both nginx tests ask of it."""

import os
import re

from harness import make_file, sha256, url

CONFIGURATION = '''\
user www-data;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path {dir}/temp-body;
  proxy_temp_path {dir}/temp-proxy;
  fastcgi_temp_path {dir}/temp-fastcgi;
  uwsgi_temp_path {dir}/temp-uwsgi;
  scgi_temp_path {dir}/temp-scgi;
  server {{
    listen {port};
    listen [::]:{port};
    root {www};
    add_header X-Worker $pid;
  }}
}}
'''
SMALL = 'a small page\n'


class Nginx:
    """nginx serving /small and /big; `start` is the Net's start_ustcp or start_kernel."""

    def __init__(self, net, start, port=80, workers=2, big_bytes=64 << 20, name='nginx'):
        self.net, self.start_program, self.port = net, start, port
        self.dir = net.dir / name
        self.dir.mkdir()
        self.www = net.dir / 'www'
        if self.www.exists():  # of another nginx on this network: the same pages
            self.big_sha256 = sha256(self.www / 'big')
        else:
            self.www.mkdir()
            (self.www / 'small').write_text(SMALL)
            (self.www / '1k').write_text('x' * 1024)
            self.big_sha256 = make_file(self.www / 'big', big_bytes)
        self.configuration = self.dir / 'nginx.conf'
        self.configuration.write_text(CONFIGURATION.format(dir=self.dir, www=self.www, port=port, workers=workers))
        self.process = None

    def words(self, *more):
        return ['nginx', '-p', self.dir, '-e', self.dir / 'error.log', '-c', self.configuration, *more]

    def start(self):
        self.process = self.start_program(*self.words('-g', 'daemon off;'))

    def master(self):
        return int((self.dir / 'nginx.pid').read_text())

    def workers(self):
        """Process numbers of the workers."""
        master = self.master()
        with open(f'/proc/{master}/task/{master}/children', encoding='ascii') as children:
            return [int(word) for word in children.read().split()]

    def complaints(self):
        """Lines of the error log at [alert] and above, which no run may have."""
        path = self.dir / 'error.log'
        if not path.exists():
            return []
        return re.findall(r'.*\[(?:alert|emerg|crit)\].*', path.read_text(errors='replace'))


def check_pages(test, fetch, site, address):
    """The small page and the big file, with curl and with wget. `fetch` runs a program on the client's side."""
    small, big = url(address, site.port, 'small'), url(address, site.port, 'big')
    test.assertEqual(fetch('curl', '-sS', '--max-time', '20', small), SMALL)
    test.assertEqual(fetch('wget', '-q', '-T', '20', '-t', '1', '-O', '-', small), SMALL)
    for words in (['curl', '-sS', '--max-time', '60', '-o'], ['wget', '-q', '-T', '20', '-t', '1', '-O']):
        copy = test.net.dir / 'copy'
        fetch(*words, copy, big, timeout=90)
        test.assertEqual(sha256(copy), site.big_sha256, words[0])
        os.unlink(copy)


def check_keep_alive(test, fetch, site, address, requests=200):
    """Many requests on one connection."""
    output = fetch('curl', '-sS', '--max-time', '60', '-w', r'status %{http_code} connects %{num_connects}\n',
                   '-o', '/dev/null', url(address, site.port, f'small?n=[1-{requests}]'), timeout=70)
    lines = [line for line in output.splitlines() if line.startswith('status')]
    test.assertEqual(len(lines), requests)
    test.assertEqual({line.split()[1] for line in lines}, {'200'})
    test.assertEqual(sum(int(line.split()[3]) for line in lines), 1)


def check_connections(test, fetch, site, address, connections=2000):
    """Many connections, one after the other, closed by the server after one request."""
    output = fetch('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', '-o', '/dev/null',
                   '-w', r'status %{http_code} connects %{num_connects}\n',
                   url(address, site.port, f'small?n=[1-{connections}]'), timeout=70)
    lines = [line for line in output.splitlines() if line.startswith('status')]
    test.assertEqual(len(lines), connections)
    test.assertEqual(set(lines), {'status 200 connects 1'})


def wrk_result(output):
    """(requests, lines that report errors) of wrk's output."""
    requests = int(re.search(r'(\d+) requests in', output).group(1))
    return requests, re.findall(r'^\s*(?:Socket errors|Non-2xx).*$', output, re.MULTILINE)
