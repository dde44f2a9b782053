#!/usr/bin/python3
"""kill -9 at random moments, again and again on one host: workers, clients and both processes of the keeper (T14).

A round starts load, kills somebody in the middle of it, and looks at who is left:

    within a second   every peer of the dead has seen FIN or RST
    all along         the survivors answer
    after the load    no connection is left whose peer is gone, and `ustcp ss --check` finds nothing

`--seconds N` runs for longer, `--seed N` repeats a run's choices (not its timing), `--only worker,client,...` narrows them.
"""

import argparse
import os
import random
import re
import select
import signal
import sys
import time

import harness
from harness import GATEWAY4, GATEWAY6, HOST4, HOST6, INTERFACE
from nginx import Nginx

KERNEL_PORT = 8080
REQUEST = b'GET /small HTTP/1.1\r\nHost: test\r\n\r\n'
VICTIMS = ('worker', 'client', 'driver', 'broker', 'keeper', 'worker', 'client')

ARGUMENTS = argparse.Namespace(seconds=20.0, seed=None, only=None)


def split_endpoint(text):
    """('10.117.0.2', 80) of 10.117.0.2:80, [::ffff:10.117.0.2]:80 and the like."""
    address, _, port = text.rpartition(':')
    address = address.strip('[]').removeprefix('::ffff:').partition('%')[0]
    return address, int(port)


class KillStress(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.seed = ARGUMENTS.seed if ARGUMENTS.seed is not None else random.randrange(1 << 32)
        self.random = random.Random(self.seed)
        self.site = Nginx(self.net, self.net.start_ustcp, big_bytes=1 << 20)
        self.site.start()
        self.net.wait_ustcp_port(80, self.site.process)
        self.far = Nginx(self.net, self.net.start_kernel, port=KERNEL_PORT, name='kernel-nginx')
        self.far.start()
        self.net.wait_kernel_port(KERNEL_PORT, self.far.process)

    # -- load

    def start_load(self, address):
        close = ['-H', 'Connection: close'] if self.random.random() < 0.4 else []
        page = self.random.choice(['small', '1k', 'big'])
        return self.net.start_kernel('wrk', '-t', 1, '-c', self.random.choice([8, 32, 64]), '-d', '60s', '--timeout', '5s',
                                     *close, harness.url(address, 80, page))

    def start_client(self, address):
        close = ['-H', 'Connection: close'] if self.random.random() < 0.4 else []
        page = self.random.choice(['small', '1k', 'big'])
        return self.net.start_ustcp('wrk', '-t', 1, '-c', self.random.choice([8, 32]), '-d', '60s', '--timeout', '5s',
                                    *close, harness.url(address, KERNEL_PORT, page))

    def ask(self, connection):
        """One request; the number of the worker that answered, or None when the connection is at its end."""
        try:
            connection.sendall(REQUEST)
            answer = b''
            while b'a small page' not in answer:
                piece = connection.recv(4096)
                if not piece:
                    return None
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            return None
        return int(re.search(rb'X-Worker: (\d+)', answer).group(1))

    def probes(self, address, count=24):
        """Idle keep-alive connections, with the worker of each."""
        connections = {}
        for _ in range(count):
            connection = self.net.peer.connect(address, 80)
            connection.settimeout(5)
            connections[connection] = self.ask(connection)
        return connections

    # -- what must hold

    def kernel_connections(self):
        """{(local, peer): state} of the kernel's connections to and from the host."""
        found = {}
        for line in self.net.peer.run('ss', '-Htan').splitlines():
            words = line.split()
            if words[0] != 'LISTEN':
                found[split_endpoint(words[3]), split_endpoint(words[4])] = words[0]
        return found

    def host_connections(self):
        """The same of the host's, from its own side."""
        found = {}
        for line in self.net.query('ss', '-Htanpo').splitlines():
            words = line.split()
            if words[0] != 'LISTEN':
                found[split_endpoint(words[3]), split_endpoint(words[4])] = line
        return found

    def stale(self):
        """Lines of the host's open connections whose peer does not exist any more."""
        mine = {places: line for places, line in self.host_connections().items()
                if line.split()[0] in ('ESTAB', 'CLOSE-WAIT')}
        theirs = self.kernel_connections()
        return [line for (local, peer), line in mine.items() if (peer, local) not in theirs]

    def deserted(self, port=None):
        """The kernel's open connections with the host (those of one port of its own) that the host does not have."""
        theirs = self.kernel_connections()
        mine = self.host_connections()
        return [f'{local} - {peer}: {state}' for (local, peer), state in theirs.items()
                if state == 'ESTAB' and peer[0] in (HOST4, HOST6) and port in (None, local[1]) and (peer, local) not in mine]

    def unread_queues(self):
        """More queues of the interface than the keeper and the members have."""
        there = self.net.app.run('sh', '-c', f'ls /sys/class/net/{INTERFACE}/queues').count('rx-')
        known = int(re.search(r'(\d+) queues', self.net.query('hosts')).group(1))
        return [f'{there} queues, of which the keeper knows {known}'] if there > max(known, 1) else []

    def until_empty(self, look, seconds, what):
        deadline = time.monotonic() + seconds
        while left := look():
            if time.monotonic() > deadline:
                self.fail(f'{what}:\n' + '\n'.join(left[:20]) + f'\n({len(left)} in all)')
            time.sleep(0.1)

    def see_end(self, connections):
        """Connections of these that show neither FIN nor RST within a second."""
        open_still, deadline = list(connections), time.monotonic() + 1.0
        while open_still and time.monotonic() < deadline:
            for connection in select.select(open_still, [], [], 0.05)[0]:
                try:
                    if connection.recv(4096) == b'':
                        open_still.remove(connection)
                except ConnectionResetError:
                    open_still.remove(connection)
        return open_still

    def keeper(self):
        """(broker, driver), process numbers, once a keeper is there."""
        pattern = r'broker (\d+), driver (\d+)'
        harness.wait_until(lambda: re.search(pattern, self.net.query('hosts')), 5, 'a keeper')
        return tuple(int(word) for word in re.search(pattern, self.net.query('hosts')).groups())

    # -- one round

    def kill_worker(self, probes):
        workers = self.site.workers()
        victim = self.random.choice(workers)
        os.kill(victim, signal.SIGKILL)
        left = self.see_end([c for c, worker in probes.items() if worker == victim])
        self.assertEqual(len(left), 0, 'connections of the killed worker that saw neither FIN nor RST')
        return victim

    def round(self, kind):
        address = self.random.choice([HOST4, HOST6])
        harness.wait_until(lambda: len(self.site.workers()) == 2, 10, 'two workers')
        probes = self.probes(address)
        load = self.start_load(address)
        client = self.start_client(self.random.choice([GATEWAY4, GATEWAY6]))
        time.sleep(0.3 + self.random.random())
        dead = None
        if kind == 'worker':
            dead = self.kill_worker(probes)
        elif kind == 'client':
            client.stop(signal.SIGKILL)
            self.until_empty(lambda: self.deserted(KERNEL_PORT), 1.5, 'connections of the killed client that the kernel believes open')
        else:
            broker, driver = self.keeper()
            for pid in {'driver': [driver], 'broker': [broker], 'keeper': [broker, driver]}[kind]:
                os.kill(pid, signal.SIGKILL)
        time.sleep(self.random.random() * 0.5)
        for connection, worker in probes.items():
            if worker != dead:
                self.assertEqual(self.ask(connection), worker, 'a survivor does not answer')
        fresh = self.net.peer.connect(address, 80)
        fresh.settimeout(5)
        self.assertIsNotNone(self.ask(fresh), 'a new connection is not served')
        fresh.close()
        how = self.random.choice([signal.SIGKILL, signal.SIGINT])
        load.stop(how)
        client.stop(how)
        for connection in probes:
            connection.close()
        self.until_empty(self.stale, 3, 'connections whose peer is gone')
        self.until_empty(self.deserted, 3, 'connections that the kernel alone has')
        self.net.query('ss', '--check')
        # A queue that the keeper does not know of is read by nobody, and the interface gives it its share of what is new.
        self.until_empty(self.unread_queues, 3, 'queues of the interface that nobody reads')
        # Members find the keeper's successor by themselves: without them it cannot drive for them.
        harness.wait_until(lambda: int(re.search(r'(\d+) connections', self.net.query('hosts')).group(1)) >= 2, 3,
                           'the workers know the keeper')

    def show_state(self):
        """What both sides believe, for whoever has to find out why."""
        for words in (['ss', '-Htanpoie'], ['ss', '--engine'], ['hosts']):
            print(self.net.query(*words), file=sys.stderr)
        print(self.net.peer.run('ss', '-Htanpo'), self.net.peer.run('ip', 'neigh'), file=sys.stderr)
        print(f'workers {self.site.workers()}', file=sys.stderr)

    def test_random_kills(self):
        end = time.monotonic() + ARGUMENTS.seconds
        kinds = ARGUMENTS.only.split(',') if ARGUMENTS.only else VICTIMS
        done = []
        while time.monotonic() < end:
            kind = self.random.choice(kinds)
            done.append(kind)
            try:
                self.round(kind)
            except BaseException:
                print(f'seed {self.seed}, round {len(done)} ({kind}) of {done}', file=sys.stderr)
                self.show_state()
                raise
        print(f'seed {self.seed}: {len(done)} rounds: ' + ', '.join(f'{done.count(k)} {k}' for k in sorted(set(done))))
        self.assertEqual([], [])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--seed', type=int)
    parser.add_argument('--only')
    _, rest = parser.parse_known_args(namespace=ARGUMENTS)
    sys.argv[1:] = rest
    harness.main()
