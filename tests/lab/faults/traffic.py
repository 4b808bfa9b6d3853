"""Keeps a LAN busy: UDP on an old port every 0.2 s, and every 2 s UDP on a new one, a new TCP connection, a new ping.

Argument: the server's address. Not more, since a customer edge with few ports has to have some left.
"""
import itertools
import socket
import sys
import time

from packets import IPV4_HEADER, echo

SERVER = sys.argv[1]

old = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
old.bind(("0.0.0.0", 40001))
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
opened = []
for number in itertools.count():
    flows = [lambda: old.sendto(b"old", (SERVER, 5353))]
    if number % 10 == 0:
        new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        opened = [*opened[-10:], new, connection]
        flows += [lambda: new.sendto(b"new", (SERVER, 5353)), lambda: connection.connect_ex((SERVER, 80)),
                  lambda: ping.sendto(echo("0.0.0.0", SERVER, number & 0xFFFF)[IPV4_HEADER:], (SERVER, 0))]
    for send in flows:
        try:
            send()
        except OSError:
            pass  # the router is away
    time.sleep(0.2)
