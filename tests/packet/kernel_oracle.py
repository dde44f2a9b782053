#!/usr/bin/env python3
"""Runs packet scripts against the kernel of this machine, in real time, over IPv4 in a network namespace of its own:
the second opinion on what the scripts say (README.md). Needs root.

    kernel_oracle.py [--verbose] [--limit SECONDS] [--jobs N] FILE|DIR...

Understands what ustcp_packet understands, except for the extensions that only make sense in plain memory. Scripts whose
events span more than --limit seconds are skipped.
"""
import argparse
import concurrent.futures
import ctypes
import errno
import fcntl
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time

from oracle_script import (BITS, Map, Mismatch, PORT, Packet, Skip, checksum, constant, decode_options,
                           encode_options, ip_packet, logical_lines, parse_packet, parse_time)

LOCAL, PEER = '192.168.0.1', '192.0.2.1'
FIRST_PEER_PORT = 40000
TOLERANCE = float(os.environ.get('ORACLE_TOLERANCE', '0.03'))
CLONE_NEWNET = 0x40000000

DEFAULTS = {
    'net.core.somaxconn': '4096', 'net.ipv4.tcp_max_syn_backlog': '2048',
    'net.ipv4.tcp_rmem': '4096 131072 33554432', 'net.ipv4.tcp_wmem': '4096 16384 4194304',
    'net.ipv4.tcp_timestamps': '1', 'net.ipv4.tcp_sack': '1',
}
FIELDS = ('state ca_state retransmits probes backoff options wscale app_limited rto ato snd_mss rcv_mss unacked sacked lost '
          'retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar '
          'snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans pacing_rate max_pacing_rate '
          'bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out delivery_rate '
          'busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans dsack_dups reord_seen '
          'rcv_ooopack snd_wnd').split()
FORMAT = '=8B24I4Q6I4Q2I2Q4I'
STATES = ('ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING').split()
CA_STATES = ('Open', 'Disorder', 'CWR', 'Recovery', 'Loss')


class Runner:
    def __init__(self, path, limit, verbose):
        self.path, self.limit, self.verbose = path, limit, verbose
        self.trace, self.maps, self.default_port = [], {}, FIRST_PEER_PORT
        self.last_fd, self.last_peer_port, self.fds = None, FIRST_PEER_PORT, {}
        self.sent, self.pending, self.tolerance, self.isn_growth = [], None, TOLERANCE, 0
        self.libc = ctypes.CDLL(None, use_errno=True)

    # --- the world ---
    def setup(self, sysctls):
        self.congestion = sysctls.pop('net.ipv4.tcp_congestion_control', 'cubic')
        if self.libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'unshare')
        self.tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, 0x400454ca, struct.pack('16sH22x', b'tun0', 0x1001))
        for command in ('link set lo up', 'addr add %s/16 dev tun0' % LOCAL, 'link set tun0 up',
                        'route add 192.0.2.0/24 dev tun0'):
            subprocess.run(['ip'] + command.split(), check=True)
        for name, value in {**DEFAULTS, **sysctls}.items():
            try:
                with open('/proc/sys/' + name.replace('.', '/'), 'w') as f:
                    f.write(value)
            except OSError:
                if name in sysctls:
                    raise Skip('no sysctl ' + name)
        time.sleep(0.05)
        self.drain(0)
        self.sent.clear()

    def now(self):
        return time.monotonic() - self.start

    def drain(self, until):
        while True:
            wait = max(0.0, until - self.now()) if until else 0
            ready, _, _ = select.select([self.tun], [], [], wait)
            if not ready:
                return
            while True:
                try:
                    data = os.read(self.tun, 65536)
                except BlockingIOError:
                    break
                self.seen(data)
            if not until:
                return

    def seen(self, data):
        if data[0] >> 4 != 4 or data[9] != 6:
            return
        ip = (data[0] & 15) * 4
        total = struct.unpack('!H', data[2:4])[0]
        tcp = data[ip:total]
        p = Packet()
        (p.local_port, p.peer_port, p.seq, p.ack, off, p.win, _, urg) = struct.unpack('!HHIIHHHH', tcp[:20])
        header = (off >> 12) * 4
        p.bits = off & 0xff
        p.urg = urg if p.bits & 32 else 0
        p.length = len(tcp) - header
        p.raw_options = tcp[20:header]
        p.ecn = data[1] & 3
        p.at = self.now()
        self.sent.append(p)
        self.trace.append('%.6f > %s' % (p.at, self.show(p)))

    def show(self, p):
        m = self.maps.get(p.peer_port) or Map(p.peer_port)
        flags = ''.join(f for f in 'FSRPUEW.' if p.bits & BITS[f])
        seq = (p.seq - m.local_offset) & 0xffffffff if m.local_known or not p.bits & 2 else 0
        text = '%s %d:%d(%d)' % (flags, seq, seq + p.length, p.length)
        if p.bits & 16:
            text += ' ack %d' % ((p.ack - m.peer_offset) & 0xffffffff)
        text += ' win %d' % p.win
        if p.urg:
            text += ' urg %d' % p.urg
        return text + ' <%s>' % decode_options(p.raw_options, m.ts_offset, m.peer_offset)

    def map_of(self, port):
        port = port or self.default_port
        return self.maps.setdefault(port, Map(port))

    # --- packets ---
    def send(self, p, text):
        m = self.map_of(p.port)
        self.trace.append('%.6f < %s' % (self.now(), text))
        if p.icmp:
            kinds = {'net_unreachable': (3, 0), 'host_unreachable': (3, 1), 'protocol_unreachable': (3, 2),
                     'port_unreachable': (3, 3), 'frag_needed': (3, 4), 'admin_prohibited': (3, 13),
                     'packet_too_big': (3, 4), 'ttl_exceeded': (11, 0), 'parameter_problem': (12, 0)}
            kind, code = kinds[p.icmp]
            quoted = struct.pack('!HHIIHHHH', m.local_port, m.peer_port, (p.seq + m.local_offset) & 0xffffffff, 0,
                                 0x5010, 0, 0, 0)
            inner = ip_packet(LOCAL, PEER, 6, quoted)
            inner = inner[:2] + struct.pack('!H', 40 + p.length) + inner[4:]
            inner = inner[:10] + b'\0\0' + inner[12:]
            inner = inner[:10] + struct.pack('!H', checksum(inner[:20])) + inner[12:]
            body = struct.pack('!BBHHH', kind, code, 0, 0, p.mtu) + inner
            body = body[:2] + struct.pack('!H', checksum(body)) + body[4:]
            os.write(self.tun, ip_packet(PEER, LOCAL, 1, body))
            return
        if not m.peer_known:
            m.peer_offset, m.peer_known, m.peer_syn = (0xffffffff - 500 - p.seq) & 0xffffffff, True, p.seq
        elif p.bits & 2 and not p.bits & 16 and p.seq != m.peer_syn:
            m.relearn, m.peer_syn = True, p.seq
        ack = (p.ack + m.local_offset) & 0xffffffff if p.bits & 16 else 0
        options = encode_options(p.options, m.ts_offset if p.bits & 16 and m.ts_known else 0, m.local_offset)
        words = p.doff or 5 + len(options) // 4
        header = struct.pack('!HHIIBBHHH', m.peer_port, m.local_port, (p.seq + m.peer_offset) & 0xffffffff, ack,
                             words << 4, p.bits, p.win or 0, 0, p.urg)
        segment = header + options + b'x' * p.length
        pseudo = socket.inet_aton(PEER) + socket.inet_aton(LOCAL) + struct.pack('!HH', 6, len(segment))
        value = checksum(pseudo + segment) ^ (0x5500 if p.badsum else 0)
        segment = segment[:16] + struct.pack('!H', value) + segment[18:]
        os.write(self.tun, ip_packet(PEER, LOCAL, 6, segment, p.ecn or 0))

    def catch_up(self, at):
        """This process is late itself: moves the script's clock, so that the delay does not add up."""
        late = self.now() - at
        if late > 0.001:
            self.start += late
            for p in self.sent:
                p.at -= late

    def expect(self, p, text, at, until, any_time, last_at):
        m = self.map_of(p.port)
        # The kernel's timers are coarser the longer they run.
        slack = self.tolerance + (until - last_at if until < last_at + 1e4 else 0) / 8
        end, self.slack = until + slack, slack
        while not self.sent and self.now() < end:
            self.drain(min(end, self.now() + 0.05))
        self.drain(0)
        if not self.sent:
            raise Mismatch('expected %s, nothing was sent' % text)
        s = self.sent.pop(0)
        if s.peer_port != m.peer_port:
            raise Mismatch('expected %s, got another connection: %s' % (text, self.show(s)))
        if m.local_port == 0:
            m.local_port = s.local_port
        if s.bits & 2 and (not m.local_known or (m.relearn and s.seq != (p.seq + m.local_offset) & 0xffffffff)):
            if m.local_known:   # p.seq is the number of a SYN: 0 in every script
                growth = (s.seq - p.seq - m.local_offset) & 0xffffffff
                self.isn_growth = growth - (growth >> 31 << 32)
            m.local_offset, m.local_known = (s.seq - p.seq) & 0xffffffff, True
            m.relearn = m.ts_known = False
        ts = re.search(r'TS val (\d+)', p.options or '')
        raw = re.search(r'TS val (\d+)', decode_options(s.raw_options, 0, 0))
        if ts and raw and not m.ts_known:
            m.ts_offset, m.ts_known = (int(raw[1]) - int(ts[1])) & 0xffffffff, True
        last, burst = s.at, False
        while s.length < p.length:
            if not self.sent:
                self.drain(self.now() + 0.01)
            if not self.sent or s.bits & ~8 != 16:
                break
            n = self.sent[0]
            if n.peer_port != s.peer_port or n.ack != s.ack or n.seq != (s.seq + s.length) & 0xffffffff:
                break
            self.sent.pop(0)
            s.length += n.length
            s.bits, s.urg, last, burst = n.bits, n.urg, n.at, True
        if burst and not p.bits & 8:
            s.bits &= ~8   # it may mark the end of a frame
        why = self.compare(m, p, s)
        if why:
            raise Mismatch('expected %s, got %s (%s)' % (text, self.show(s), why))
        if not any_time and (s.at < at - self.tolerance or last > until + slack):
            raise Mismatch('expected %s at %.3f, it was sent at %.3f' % (text, at, s.at))
        return s.at

    def compare(self, m, p, s):
        if p.bits != s.bits:
            return 'flags'
        if (s.seq - m.local_offset) & 0xffffffff != p.seq:
            return 'sequence number'
        if s.length != p.length:
            return 'length'
        if p.ack is not None and (s.ack - m.peer_offset) & 0xffffffff != p.ack:
            return 'acknowledgement'
        if p.win is not None and p.win != s.win:
            return 'window'
        if p.urg != s.urg:
            return 'urgent pointer'
        if p.ecn is not None and p.ecn != s.ecn:
            return 'ECN'
        want = p.options
        if want == '...':
            return ''
        got = decode_options(s.raw_options, m.ts_offset, m.peer_offset)
        a = re.sub(r'\s+', ' ', want or '').strip()
        va, vb = (re.search(r'TS val (\d+)', x) for x in (a, got))
        if va and vb and abs(int(va[1]) - int(vb[1])) > max(self.slack, 0.1) * 1000:
            return 'TS val'
        a, got = (re.sub(r'TS val \d+', 'TS val', x) for x in (a, got))
        return '' if a == got else 'options: ' + got

    # --- calls ---
    def split(self, text):
        out, depth, current = [], 0, ''
        for c in text:
            depth += c in '([{'
            depth -= c in ')]}'
            if c == ',' and depth == 0:
                out.append(current.strip())
                current = ''
            else:
                current += c
        return out + [current.strip()] if current.strip() or out else out

    def raw(self, function, *arguments):
        """A libc call: (value, errno name)."""
        value = function(*arguments)
        return (value, errno.errorcode[ctypes.get_errno()]) if value < 0 else (value, '')

    def address(self, text, remote):
        port, host = PORT, PEER if remote else (LOCAL if text == '...' else '0.0.0.0')
        if m := re.search(r'htons\((\d+)\)', text):
            port = int(m[1])
        if m := re.search(r'"([\d.]+)"', text):
            host = m[1]
        family = 0 if 'AF_UNSPEC' in text else 2
        return struct.pack('=HH4s8x', family, socket.htons(port), socket.inet_aton(host)), port

    def do_call(self, name, a, result, error='', blocking=False):
        """Returns a function that makes the call: (value, error name, mismatch)."""
        libc = self.libc
        fd = self.fds.get(a[0], int(a[0]) if re.match(r'-?\d+$', a[0]) else -1)

        def number(i):
            return constant(a[i]) if i < len(a) else 0

        def take(value):
            if value >= 0 and re.match(r'\d+$', result):
                self.fds[result] = value
                return int(result)
            return value

        def inner(text):
            return text.strip('[]') if text.startswith('[') else text

        if name == 'socket':
            kind = number(1) if a[1] != '...' else 1
            value, error = self.raw(libc.socket, 2, kind, 6)
            if value >= 0:
                # A namespace may not be allowed to make it the default.
                wanted = self.congestion.encode()
                libc.setsockopt(value, 6, 13, wanted, len(wanted))
            return lambda: (take(value), error, '')
        if name in ('bind', 'connect'):
            packed, port = self.address(a[1], name == 'connect')
            if name == 'connect' and not (error in ('EALREADY', 'EISCONN') or (result == '0' and not blocking)):
                m = self.map_of(port)
                self.default_port = self.last_peer_port = port
                self.last_fd = a[0]
                m.relearn, m.local_port = True, 0
            return lambda: (*self.raw(getattr(libc, name), fd, packed, 16), '')
        if name == 'listen':
            return lambda: (*self.raw(libc.listen, fd, number(1)), '')
        if name in ('accept', 'accept4'):
            flags = constant(a[-1]) if name == 'accept4' else 0

            def accept():
                peer, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
                value, error = self.raw(libc.accept4, fd, peer, ctypes.byref(size), flags)
                if value >= 0:
                    self.last_peer_port = struct.unpack('!H', peer.raw[2:4])[0]
                    self.last_fd = result
                return take(value), error, ''
            return accept
        if name == 'close':
            self.fds.pop(a[0], None)
            return lambda: (*self.raw(libc.close, fd), '')
        if name == 'shutdown':
            return lambda: (*self.raw(libc.shutdown, fd, number(1)), '')
        if name in ('read', 'recv', 'recvfrom', 'readv', 'recvmsg'):
            if name in ('readv', 'recvmsg'):
                size = sum(int(n) for n in re.findall(r'\.\.\., (\d+)', a[1]))
                flags = number(2) if name == 'recvmsg' else 0
            else:
                size, flags = number(2), number(3) if name != 'read' else 0
            buffer = ctypes.create_string_buffer(max(size, 1))
            return lambda: (*self.raw(libc.recv, fd, buffer, size, flags), '')
        if name in ('write', 'send', 'sendto', 'writev', 'sendmsg'):
            if name in ('writev', 'sendmsg'):
                size = sum(int(n) for n in re.findall(r'\.\.\., (\d+)', a[1]))
                flags = number(2) if name == 'sendmsg' else 0
            else:
                size, flags = number(2), number(3) if name != 'write' else 0
            return lambda: (*self.raw(libc.send, fd, b'x' * size, size, flags | 0x4000), '')
        if name == 'fcntl':
            value = number(2)
            return lambda: (*self.raw(libc.fcntl, fd, number(1), value), '')
        if name == 'ioctl':
            def ioctl():
                out = ctypes.c_int(0)
                value, error = self.raw(libc.ioctl, fd, ctypes.c_ulong(number(1)), ctypes.byref(out))
                want = inner(a[2])
                bad = '' if error or want == '...' or constant(want) == out.value else 'ioctl gave [%d]' % out.value
                return value, error, bad
            return ioctl
        if name in ('setsockopt', 'getsockopt'):
            level, option = number(1), number(2)
            if (level, option) == (1, 13):
                f = {k: int(v) for k, v in re.findall(r'(\w+) *= *(\d+)', a[3])}
                packed = struct.pack('=ii', f.get('onoff', f.get('l_onoff', 0)), f.get('linger', f.get('l_linger', 0)))
            elif (level, option) == (6, 13):
                packed = inner(a[3]).strip('"').encode()
            elif (level, option) in ((1, 20), (1, 21)):
                f = {k: int(v) for k, v in re.findall(r'(\w+) *= *(\d+)', a[3])}
                packed = struct.pack('=qq', f.get('tv_sec', 0), f.get('tv_usec', 0))
            else:
                packed = struct.pack('=i', constant(inner(a[3])) if '...' not in a[3] else 0)
            if name == 'setsockopt':
                return lambda: (*self.raw(libc.setsockopt, fd, level, option, packed, len(packed)), '')

            def getsockopt():
                out, size = ctypes.create_string_buffer(64), ctypes.c_int(16 if level == 6 and option == 13 else len(packed))
                value, error = self.raw(libc.getsockopt, fd, level, option, out, ctypes.byref(size))
                bad = ''
                if not error and '...' not in a[3] and out.raw[:len(packed)] != packed:
                    bad = 'getsockopt gave %r, not %s' % (struct.unpack('=i', out.raw[:4]), a[3])
                return value, error, bad
            return getsockopt
        if name == 'poll':
            entries = re.findall(r'fd *= *(\d+), *events *= *([\w|]+)(?:, *revents *= *([\w|]+))?', a[0])
            array = (ctypes.c_uint64 * len(entries))(*[self.fds.get(f, -1) & 0xffffffff | constant(e) << 32
                                                       for f, e, _ in entries])

            def poll():
                value, error = self.raw(libc.poll, array, len(entries), number(2))
                bad = ''.join('revents of fd %s is %d; ' % (f, array[i] >> 48) for i, (f, _, r) in enumerate(entries)
                              if r and array[i] >> 48 != constant(r))
                return value, error, bad
            return poll
        if name in ('epoll_create', 'epoll_create1'):
            value, error = self.raw(libc.epoll_create1, 0)
            return lambda: (take(value), error, '')
        if name == 'epoll_ctl':
            events, data = 0, int(a[2])
            if len(a) > 3:
                f = dict(re.findall(r'(\w+) *= *([\w|]+)', a[3]))
                events, data = self.events(f.get('events', '0')), int(f.get('fd', data))
            packed = struct.pack('=IQ', events, data)
            return lambda: (*self.raw(libc.epoll_ctl, fd, number(1), self.fds.get(a[2], -1), packed), '')
        if name == 'epoll_wait':
            def epoll_wait():
                out = ctypes.create_string_buffer(12 * max(number(2), 1))
                value, error = self.raw(libc.epoll_wait, fd, out, number(2), number(3))
                bad = ''
                for i, one in enumerate(re.findall(r'\{(.*?)\}', a[1])[:max(value, 0)]):
                    events, data = struct.unpack('=IQ', out.raw[12 * i:12 * i + 12])
                    f = dict(re.findall(r'(\w+) *= *([\w|]+)', one))
                    if 'events' in f and self.events(f['events']) != events:
                        bad = 'epoll_wait gave events %d' % events
                return value, error, bad
            return epoll_wait
        raise Skip('cannot do ' + name)

    def events(self, text):
        total = 0
        for word in text.split('|'):
            extra = {'EPOLLET': 1 << 31, 'EPOLLONESHOT': 1 << 30, 'EPOLLRDHUP': 0x2000, 'EPOLLEXCLUSIVE': 1 << 28}
            total |= extra.get(word) or constant(word)
        return total

    def call(self, text, begin, end, blocking):
        m = re.match(r'(\w+)\s*\((.*)\)\s*=\s*(\S+)(?:\s+(E\w+))?.*$', text, re.S)
        if not m:
            raise Mismatch('cannot read ' + text)
        name, arguments, want, error = m[1], self.split(m[2]), m[3], m[4] or ''
        self.trace.append('%.6f   %s' % (self.now(), text))
        action = self.do_call(name, arguments, want, error, blocking)

        def check(got, when):
            value, got_error, bad = got
            self.trace.append('%.6f   %s returned %d %s' % (when, name, value, got_error))
            if bad:
                raise Mismatch(bad)
            if want != '...' and (value != constant(want) or got_error != error):
                raise Mismatch('%s returned %d %s, expected %s %s' % (name, value, got_error, want, error))
            if blocking and abs(when - end) > self.tolerance + end / 8:
                raise Mismatch('%s returned at %.3f, expected at %.3f' % (name, when, end))

        box = []
        thread = threading.Thread(target=lambda: box.extend([action(), self.now()]), daemon=True)
        thread.start()
        if blocking:
            self.pending = (thread, box, check)
            return
        thread.join(1)
        if not box:
            raise Mismatch(name + ' blocks')
        check(*box)

    def settle(self, wait=False):
        if self.pending:
            thread, box, check = self.pending
            if wait:
                thread.join(2)
            if box and len(box) == 2:
                self.pending = None
                check(*box)
            elif wait:
                raise Mismatch('a call has not returned')

    # --- assertions ---
    def info(self, fd):
        class Names(dict):
            pass
        values = {}
        real = self.fds.get(fd)
        if real is not None:
            out, size = ctypes.create_string_buffer(256), ctypes.c_int(256)
            if self.libc.getsockopt(real, 6, 11, out, ctypes.byref(size)) == 0:
                values = dict(zip(['tcpi_' + f for f in FIELDS], struct.unpack(FORMAT, out.raw[:struct.calcsize(FORMAT)])))
                values['tcpi_snd_wscale'], values['tcpi_rcv_wscale'] = values['tcpi_wscale'] & 15, values['tcpi_wscale'] >> 4
        if not values or (values['tcpi_state'] == 7):
            values.setdefault('tcpi_state', 7)
            for line in open('/proc/net/tcp').read().split('\n')[1:]:
                words = line.split()
                if len(words) > 3 and int(words[2].split(':')[1], 16) == self.last_peer_port and real is None:
                    values['tcpi_state'] = int(words[3], 16)
        return values

    def counters(self):
        class Counters:
            pass
        c = Counters()
        for name in ('netstat', 'snmp'):
            lines = open('/proc/net/' + name).read().split('\n')
            for head, row in zip(lines[::2], lines[1::2]):
                group = head.split(':')[0]
                for key, value in zip(head.split()[1:], row.split()[1:]):
                    setattr(c, group + key, int(value))
        return c

    def check_assertions(self, code):
        names = {'TCP_' + s: i + 1 for i, s in enumerate(STATES)}
        names.update({'TCP_CA_' + s: i for i, s in enumerate(CA_STATES)})
        names.update({'TCP_INFINITE_SSTHRESH': 0x7fffffff, 'TCPI_OPT_TIMESTAMPS': 1, 'TCPI_OPT_SACK': 2,
                      'TCPI_OPT_WSCALE': 4, 'TCPI_OPT_ECN': 8})
        names.update(self.info(self.last_fd))
        names['counter'], names['isn_growth'] = self.counters(), self.isn_growth
        for fd in re.findall(r'\bfd(\d+)\.', code):
            holder = type('Info', (), {})()
            holder.__dict__.update(self.info(fd))
            names['fd' + fd] = holder
        for one in code.split('assert ')[1:]:
            expression = ' '.join(one.split(',')[0].split())
            try:
                if not eval(expression, {}, names):
                    shown = {n: eval(n, {}, names) for n in set(re.findall(r'(?:counter\.|fd\d+\.)?[A-Za-z_]\w+', expression))
                             if n not in ('and', 'or')}
                    raise Mismatch('assertion failed: %s %r' % (expression, shown))
            except (NameError, AttributeError) as e:
                raise Skip(str(e))

    # --- the script ---
    def run(self):
        text = open(self.path).read()
        lines = list(logical_lines(text))
        sysctls, events = {}, []
        for number, line in lines:
            if line.startswith('--'):
                if 'neighbors=' in line:
                    raise Skip('needs a silent neighbour')
                if 'ip_version=ipv6' in line:
                    raise Skip('IPv6')
                continue
            if line.startswith('`'):
                for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|([^\s`;]+))', line):
                    sysctls[name] = quoted or plain
                continue
            events.append((number, line))
        if any(n.startswith('ustcp.') for n in sysctls):
            raise Skip('a sysctl of our own')
        total, at = 0.0, 0.0
        for _, line in events:
            kind, begin, end, _, _ = parse_time(line)
            at = {'any': at, 'after': at + begin, 'at': begin}[kind]
            total = max(total, at, at + end - begin)
        if total > self.limit:
            raise Skip('%d s long' % total)
        self.start = time.monotonic()
        self.setup(sysctls)
        self.start = time.monotonic()
        last = 0.0
        number = 0
        try:
            for number, line in events:
                kind, begin, end, blocking, rest = parse_time(line)
                base = last if kind == 'after' else 0.0
                at, until = base + begin, base + end
                if kind == 'any':
                    at, until = self.now(), self.now() + self.limit
                if rest.startswith('>'):
                    seen = self.expect(parse_packet(rest[1:].strip()), rest, at, until, kind == 'any', last)
                    last = seen if kind == 'any' or begin != end else at
                    self.settle()
                    continue
                self.drain(at)
                self.catch_up(at)
                self.settle()
                last = at
                if rest.startswith('<'):
                    self.send(parse_packet(rest[1:].strip()), rest[1:].strip())
                elif rest.startswith('%{'):
                    self.check_assertions(rest[2:rest.rindex('}%')])
                elif rest.startswith('`'):
                    for name, value in re.findall(r'([\w.]+)=([^\s`;]+)', rest):
                        with open('/proc/sys/' + name.replace('.', '/'), 'w') as f:
                            f.write(value)
                else:
                    self.call(rest, at, until, blocking)
            self.drain(self.now() + 0.02)
            self.settle(wait=True)
            if self.sent:
                raise Mismatch('not expected: ' + self.show(self.sent[0]))
        except Mismatch as e:
            self.drain(0)
            return '%s:%d: %s' % (self.path, number, e)
        return ''


def run_one(path, limit, verbose):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        runner = Runner(path, limit, verbose)
        try:
            why = runner.run()
            text = ('FAIL\n' + why if why else 'ok\n' + path)
            if why or verbose:
                text += '\n' + '\n'.join('    ' + t for t in runner.trace)
        except Skip as e:
            text = 'skip\n%s: %s' % (path, e)
        except Exception as e:  # a mistake of the runner's, to be seen
            text = 'FAIL\n%s: %s: %s\n' % (path, type(e).__name__, e) + '\n'.join('    ' + t for t in runner.trace)
        os.write(write, text.encode()[:60000])
        os._exit(0)
    os.close(write)
    out = b''
    while chunk := os.read(read, 65536):
        out += chunk
    os.close(read)
    os.waitpid(pid, 0)
    return out.decode().split('\n', 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--verbose', action='store_true')
    parser.add_argument('--limit', type=float, default=20)
    parser.add_argument('--jobs', type=int, default=8)
    parser.add_argument('paths', nargs='+')
    options = parser.parse_args()
    files = []
    for path in options.paths:
        if os.path.isdir(path):
            files += [os.path.join(d, f) for d, _, names in os.walk(path) for f in names if f.endswith('.pkt')]
        else:
            files.append(path)
    counts = {'ok': 0, 'skip': 0, 'FAIL': 0}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for kind, text in pool.map(lambda f: run_one(f, options.limit, options.verbose), sorted(files)):
            counts[kind] += 1
            if kind != 'ok' or options.verbose:
                print(kind, text)
    print(counts)
    return 1 if counts['FAIL'] else 0


if __name__ == '__main__':
    sys.exit(main())
