#!/usr/bin/python3
"""Daemons that are started by root and give their rights up before they open a socket."""

import harness
from harness import HOST4, HOST6

# Becomes nobody in the way that is asked for, then serves one connection after the other.
SERVER = '''
import os, socket, sys
nobody = 65534
how = sys.argv[1]
if how == 'chroot':
    os.chroot(sys.argv[2])
    os.chdir('/')
os.setgroups([])
os.setgid(nobody)
if how == 'setresuid':
    os.setresuid(nobody, nobody, nobody)
elif how == 'setreuid':
    os.setreuid(nobody, nobody)
else:
    os.setuid(nobody)
listener = socket.create_server(('::', 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print('up', flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b'%d %s' % (os.geteuid(), how.encode()))
    connection.close()
'''


class PrivilegesGivenUp(harness.TestCase):
    def serve(self, how):
        server = self.net.start_ustcp('/usr/bin/python3', '-c', SERVER, how, self.net.dir)
        harness.wait_until(lambda: 'up' in server.log() or not server.running(), 10, 'the server is up')
        for address in (HOST4, HOST6):
            with self.net.peer.connect(address, 7000) as connection:
                connection.settimeout(5)
                self.assertEqual(connection.recv(100), b'65534 ' + how.encode(), server.log())
        self.assertNotIn('ustcp', server.log())
        server.stop()

    def test_setuid(self):
        self.serve('setuid')

    def test_setreuid(self):
        self.serve('setreuid')

    def test_setresuid(self):
        self.serve('setresuid')

    def test_chroot(self):
        self.serve('chroot')

    def test_without_tcp_nothing_is_said(self):
        """A host out of reach is no concern of a program that wants none."""
        command = self.net.host.command('env', *self.net.environment(), 'USTCP_INTERFACE=absent', '/usr/bin/python3', '-c',
                                        'import os; os.setuid(65534); print(os.getuid())')
        done = harness.subprocess.run(command, capture_output=True, text=True, timeout=20)
        self.assertEqual((done.stdout.strip(), done.stderr), ('65534', ''))


if __name__ == '__main__':
    harness.main()
