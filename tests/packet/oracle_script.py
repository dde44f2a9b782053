"""Reading packet scripts and packets for kernel_oracle.py: lines, times, constants, TCP options, IP headers."""
import errno
import re
import select
import socket
import struct

PORT = 8080


class Mismatch(Exception):
    pass


class Skip(Exception):
    pass


def constant(word):
    word = word.strip()
    extra = {'SOL_TCP': 6, 'SOL_IP': 0, 'SIOCINQ': 0x541b, 'FIONREAD': 0x541b, 'SIOCOUTQ': 0x5411, 'SIOCATMARK': 0x8905,
             'SIOCOUTQNSD': 0x894b, 'F_GETFL': 3, 'F_SETFL': 4, 'O_RDWR': 2, 'O_NONBLOCK': 0o4000, 'TCP_LINGER2': 8,
             'POLLRDHUP': 0x2000, 'EPOLL_CTL_ADD': 1, 'EPOLL_CTL_DEL': 2, 'EPOLL_CTL_MOD': 3, 'TCP_SYNCNT': 7,
             'TCP_NOTSENT_LOWAT': 25, 'TCP_WINDOW_CLAMP': 10, 'TCP_CONGESTION': 13, 'TCP_USER_TIMEOUT': 18, 'INADDR_ANY': 0}
    if word in extra:
        return extra[word]
    if '|' in word:
        value = 0
        for part in word.split('|'):
            value |= constant(part)
        return value
    for module in (socket, select, errno):
        if hasattr(module, word):
            return int(getattr(module, word))
    return int(word, 0)


def strip_comments(text):
    return re.sub(r'/\*.*?\*/|//[^\n]*', lambda m: '\n' * m.group().count('\n'), text, flags=re.S)


def logical_lines(text):
    pending, start = '', 0
    for number, raw in enumerate(strip_comments(text).split('\n'), 1):
        if not pending:
            start = number
        pending += ('\n' if pending else '') + raw
        depth = sum(pending.count(c) for c in '([{') - sum(pending.count(c) for c in ')]}')
        if depth > 0 or pending.count('`') % 2:
            continue
        if pending.strip():
            yield start, pending.strip()
        pending = ''


def parse_time(text):
    """-> (kind, from, to, blocking, rest)"""
    if text[0] == '*':
        return 'any', 0.0, 0.0, False, text[1:].strip()
    m = re.match(r'(\+?)(\d*\.?\d*?)(?:(\.\.\.)\+?(\d*\.?\d+)|~\+?(\d*\.?\d+))?\s+(.*)$', text, re.S)
    if not m:
        raise Mismatch('cannot read ' + text)
    begin = float(m[2] or 0)
    end = float(m[4] or m[5] or begin)
    return ('after' if m[1] else 'at'), begin, end, bool(m[3]), m[6]


def checksum(data):
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip_packet(source, destination, protocol, payload, tos=0):
    header = struct.pack('!BBHHHBBH4s4s', 0x45, tos, 20 + len(payload), 0, 0x4000, 64, protocol, 0,
                         socket.inet_aton(source), socket.inet_aton(destination))
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + payload


BITS = {'F': 1, 'S': 2, 'R': 4, 'P': 8, '.': 16, 'U': 32, 'E': 64, 'W': 128}


class Packet:
    pass


def parse_packet(text):
    p = Packet()
    p.port, p.ecn, p.badsum, p.doff, p.icmp = 0, None, False, None, None
    while text.startswith('['):
        tag, text = text[1:].split(']', 1)
        text = text.strip()
        if tag.startswith('port'):
            p.port = int(tag.split()[1])
        elif tag == 'badsum':
            p.badsum = True
        elif tag.startswith('doff'):
            p.doff = int(tag.split()[1])
        else:
            p.ecn = {'noecn': 0, 'ect1': 1, 'ect0': 2, 'ce': 3}[tag]
    if text.startswith('icmp'):
        m = re.match(r'icmp (\w+) ?(\w*)(?: mtu (\d+))? \[(\d+):(\d+)\((\d+)\)\]', text)
        p.icmp, p.mtu, p.seq, p.length = m[2] or m[1], int(m[3] or 0), int(m[4]), int(m[6])
        return p
    m = re.match(r'(\S+) (\d+):(\d+)\((\d+)\)(?: ack (\d+))?(?: win (\d+))?(?: urg (\d+))?(?: <(.*)>)?\s*$', text)
    if not m:
        raise Mismatch('cannot read packet ' + text)
    p.flags = m[1].replace('-', '')
    p.bits = sum(BITS[f] for f in p.flags)
    p.seq, p.length = int(m[2]), int(m[4])
    p.ack = int(m[5]) if m[5] else None
    p.win = int(m[6]) if m[6] else None
    p.urg = int(m[7]) if m[7] else 0
    p.options = m[8]
    return p


def encode_options(text, ecr_offset, sack_offset):
    out = b''
    for item in (text or '').split(','):
        words = item.split()
        if not words:
            continue
        name = words[0]
        if name == 'mss':
            out += struct.pack('!BBH', 2, 4, int(words[1]))
        elif name == 'wscale':
            out += struct.pack('!BBB', 3, 3, int(words[1]))
        elif name == 'sackOK':
            out += b'\4\2'
        elif name == 'nop':
            out += b'\1'
        elif name == 'eol':
            out += b'\0'
        elif name == 'raw':
            out += bytes.fromhex(words[1])
        elif name == 'TS':
            out += struct.pack('!BBII', 8, 10, int(words[2]), (int(words[4]) + ecr_offset) & 0xffffffff)
        elif name == 'sack':
            out += struct.pack('!BB', 5, 2 + 8 * (len(words) - 1))
            for block in words[1:]:
                begin, end = block.split(':')
                out += struct.pack('!II', (int(begin) + sack_offset) & 0xffffffff, (int(end) + sack_offset) & 0xffffffff)
    return out + b'\0' * (-len(out) % 4)


def decode_options(data, ts_offset, sack_offset):
    out, at = [], 0
    while at < len(data):
        kind = data[at]
        if kind == 0:
            break
        if kind == 1:
            out.append('nop')
            at += 1
            continue
        size = data[at + 1]
        body = data[at + 2:at + size]
        at += size
        if kind == 2:
            out.append('mss %d' % struct.unpack('!H', body))
        elif kind == 3:
            out.append('wscale %d' % body[0])
        elif kind == 4:
            out.append('sackOK')
        elif kind == 8:
            val, ecr = struct.unpack('!II', body)
            out.append('TS val %d ecr %d' % ((val - ts_offset) & 0xffffffff, ecr))
        elif kind == 5:
            blocks = struct.unpack('!%dI' % (len(body) // 4), body)
            out.append('sack ' + ' '.join('%d:%d' % ((blocks[i] - sack_offset) & 0xffffffff,
                                                     (blocks[i + 1] - sack_offset) & 0xffffffff)
                                          for i in range(0, len(blocks), 2)))
        else:
            out.append('kind%d' % kind)
    return ','.join(out)


class Map:
    def __init__(self, port):
        self.peer_port, self.local_port = port, PORT
        self.peer_offset = self.local_offset = self.ts_offset = 0
        self.peer_known = self.local_known = self.ts_known = self.relearn = False
        self.peer_syn = 0
