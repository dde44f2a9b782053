#!/usr/bin/python3
"""An interface with one queue: made by others (`ip tuntap add`), or opened by a parent and handed in (USTCP_TAP_FD).

One process reads the queue, all write to it; when the reader goes, the keeper passes the reading on (DESIGN.md, hazards).
"""

import fcntl
import os
import signal
import struct
import time

import harness
from harness import GATEWAY4, GATEWAY6, HOST4, HOST6, INTERFACE
from nginx import Nginx, check_connections, check_keep_alive, check_pages, wrk_result

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454ca, 2, 0x1000, 0x4000


class SingleQueue(harness.TestCase):
    def bring_up(self):
        for words in (['addr', 'add', f'{GATEWAY4}/24', 'dev', INTERFACE],
                      ['addr', 'add', f'{GATEWAY6}/64', 'dev', INTERFACE], ['link', 'set', INTERFACE, 'up']):
            self.net.app.ip(*words)

    def replace_interface(self):
        self.net.app.ip('link', 'del', INTERFACE)
        self.net.app.ip('tuntap', 'add', 'dev', INTERFACE, 'mode', 'tap')
        self.bring_up()

    def open_interface(self):
        """A descriptor of a TAP that lives as long as its descriptors."""
        def attach():
            fd = os.open('/dev/net/tun', os.O_RDWR)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', INTERFACE.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
            return fd
        self.net.app.ip('link', 'del', INTERFACE)
        fd = self.net.app.call(attach)
        self.addCleanup(os.close, fd)
        os.set_inheritable(fd, True)
        self.bring_up()
        return fd

    def check_site(self, site):
        for address in (HOST4, HOST6):
            with self.subTest(address=address):
                check_pages(self, self.net.kernel, site, address)
                check_keep_alive(self, self.net.kernel, site, address)
                check_connections(self, self.net.kernel, site, address, 300)
                output = self.net.kernel('wrk', '-t', 1, '-c', 32, '-d', '2s', '--timeout', '5s',
                                         harness.url(address, 80, 'small'))
                requests, errors = wrk_result(output)
                self.assertEqual(errors, [])
                self.assertGreater(requests, 500)
        self.assertEqual(site.complaints(), [])

    def test_interface_of_others(self):
        self.replace_interface()
        site = Nginx(self.net, self.net.start_ustcp, big_bytes=8 << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        self.check_site(site)
        # Whoever reads the queue goes; both workers in turn, so that it was one of them.
        for victim in site.workers():
            os.kill(victim, signal.SIGKILL)
            harness.wait_until(lambda: len(site.workers()) == 2 and victim not in site.workers(), 10, 'another worker')
            for address in (HOST4, HOST6):
                check_keep_alive(self, self.net.kernel, site, address, 50)
        # A client beside the server, through the same queue.
        far = Nginx(self.net, self.net.start_kernel, port=8080, name='kernel-nginx')
        far.start()
        self.net.wait_kernel_port(8080, far.process)
        for address in (GATEWAY4, GATEWAY6):
            check_pages(self, self.net.ustcp, far, address)
        self.net.query('ss', '--check')

    def test_keeper_is_killed(self):
        self.replace_interface()
        site = Nginx(self.net, self.net.start_ustcp, big_bytes=1 << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        words = self.net.query('hosts').replace(',', '').split()
        for role in ('broker', 'driver'):
            os.kill(int(words[words.index(role) + 1]), signal.SIGKILL)
        for address in (HOST4, HOST6):
            check_keep_alive(self, self.net.kernel, site, address)
        time.sleep(0.5)  # a new keeper has the queue
        os.kill(site.workers()[0], signal.SIGKILL)
        for address in (HOST4, HOST6):
            check_keep_alive(self, self.net.kernel, site, address)

    def test_descriptor_handed_in(self):
        fd = self.open_interface()
        site = Nginx(self.net, lambda *words: self.net.start_ustcp('env', f'USTCP_TAP_FD={fd}', *words, pass_fds=[fd]),
                     big_bytes=8 << 20)
        site.start()
        self.net.wait_ustcp_port(80, site.process)
        self.check_site(site)


if __name__ == '__main__':
    harness.main()
