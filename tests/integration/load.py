#!/usr/bin/python3
"""Fetches files over HTTP on many connections at a time and compares every body's SHA-256.

    load.py http://HOST:PORT/ NAME=SHA256... [--connections 1000] [--at-a-time 50] [--requests 1]

Each connection makes --requests requests; the last one asks for the connection to be closed. The first thing that is
not as it should be ends the program with one line and status 1.
"""

import argparse
import asyncio
import hashlib
import itertools
import ssl
import sys
import urllib.parse

PATIENCE = 60.0


class Wrong(Exception):
    pass


async def read_body(reader, headers):
    """Yields the pieces of a body, by whichever of HTTP's three ways its end is told."""
    if headers.get('transfer-encoding', '').lower() == 'chunked':
        while size := int((await reader.readline()).split(b';')[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return
    left = int(headers['content-length']) if 'content-length' in headers else None
    while left is None or left > 0:
        piece = await reader.read(1 << 16 if left is None else min(left, 1 << 16))
        if not piece:
            if left is not None:
                raise Wrong(f'the connection ended {left} bytes early')
            return
        left = None if left is None else left - len(piece)
        yield piece


async def fetch(reader, writer, host, path, digest, last):
    writer.write(f'GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {"close" if last else "keep-alive"}\r\n\r\n'.encode())
    status = await reader.readline()
    if status.split()[1:2] != [b'200']:
        raise Wrong(f'{path}: answered {status!r}')
    headers = {}
    while (line := await reader.readline()) not in (b'\r\n', b''):
        name, _, value = line.decode().partition(':')
        headers[name.lower()] = value.strip()
    body, size = hashlib.sha256(), 0
    async for piece in read_body(reader, headers):
        body.update(piece)
        size += len(piece)
    if body.hexdigest() != digest:
        raise Wrong(f'{path}: {size} bytes that are not the file')
    return size


async def connection(arguments, address, context, files):
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context, limit=1 << 18)
    size = 0
    try:
        for number in range(arguments.requests):
            name, digest = next(files)
            last = number + 1 == arguments.requests
            size += await fetch(reader, writer, address.netloc, address.path + name, digest, last)
        if rest := await reader.read():
            raise Wrong(f'{len(rest)} bytes after the last body')
    finally:
        writer.close()
    return size


async def run(arguments):
    address = urllib.parse.urlsplit(arguments.url)
    context = None
    if address.scheme == 'https':
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    files = itertools.cycle([pair.rsplit('=', 1) for pair in arguments.files])
    numbers = iter(range(arguments.connections))
    total = 0

    async def worker():
        nonlocal total
        for number in numbers:
            try:
                total += await asyncio.wait_for(connection(arguments, address, context, files), PATIENCE)
            except (OSError, ValueError, IndexError, EOFError, asyncio.TimeoutError, Wrong) as error:
                raise Wrong(f'connection {number}: {type(error).__name__}: {error}') from error

    await asyncio.gather(*[worker() for _ in range(arguments.at_a_time)])
    print(f'{arguments.connections} connections, {arguments.connections * arguments.requests} bodies, {total} bytes')


parser = argparse.ArgumentParser()
parser.add_argument('url')
parser.add_argument('files', nargs='+')
parser.add_argument('--connections', type=int, default=1000)
parser.add_argument('--at-a-time', type=int, default=50)
parser.add_argument('--requests', type=int, default=1)
try:
    asyncio.run(run(parser.parse_args()))
except Wrong as wrong:
    sys.exit(str(wrong))
