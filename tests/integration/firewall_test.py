#!/usr/bin/python3
"""Which of the machine's packet filters the traffic of a host passes: OUTPUT from the machine itself, FORWARD from elsewhere,
never INPUT, since nothing is delivered to the kernel's own sockets.
"""

import errno
import socket

import harness
from harness import HOST4, HOST6

PYTHON = '/usr/bin/python3'
SERVER = '''
import socket
listener = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    listener.accept()[0].close()
'''
PORT = 8000


class Filters:
    """Of the namespace that has the TAP."""

    def drop(self, hook):
        self.net.app.run('nft', 'flush', 'ruleset')
        self.net.app.run('nft', 'add', 'table', 'inet', 'test')
        self.net.app.run('nft', f'add chain inet test {hook} {{ type filter hook {hook} priority 0; }}')
        self.net.app.run('nft', 'add', 'rule', 'inet', 'test', hook, 'tcp', 'dport', PORT, 'counter', 'drop')

    def reaches(self, address):
        try:
            self.net.peer.connect(address, PORT, 2.0).close()
            return True
        except (socket.timeout, OSError) as error:
            self.assertIn(getattr(error, 'errno', None), (None, errno.ETIMEDOUT, errno.EPERM), error)
            return False

    def check(self, hook, passed):
        self.net.wait_ustcp_port(PORT, self.net.start_ustcp(PYTHON, '-u', '-c', SERVER))
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                self.assertTrue(self.reaches(address))
                self.drop(hook)
                self.assertEqual(self.reaches(address), passed)
                self.net.app.run('nft', 'flush', 'ruleset')


class FromTheMachine(Filters, harness.TestCase):
    def test_input_is_not_passed(self):
        self.check('input', passed=True)

    def test_output_is_passed(self):
        self.check('output', passed=False)


class FromElsewhere(Filters, harness.TestCase):
    TOPOLOGY = 'routed'

    def test_input_is_not_passed(self):
        self.check('input', passed=True)

    def test_forward_is_passed(self):
        self.check('forward', passed=False)


if __name__ == '__main__':
    harness.main()
