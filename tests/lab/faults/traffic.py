"""Keeps a LAN busy: every 0.2 s UDP on an old and on a new port, a new TCP connection, a ping. Argument: the server's address."""
import itertools
import socket
import struct
import sys
import time

SERVER = sys.argv[1]


def echo_request(identifier):
    head = struct.pack("!BBHHH", 8, 0, 0, identifier, 1)
    total = sum(struct.unpack("!4H", head))
    return head[:2] + struct.pack("!H", 0xFFFF - (total + (total >> 16)) & 0xFFFF) + head[4:]


old = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
old.bind(("0.0.0.0", 40001))
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
opened = []
for number in itertools.count(1):
    new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    opened[-1].setblocking(False)
    for send in (
        lambda: old.sendto(b"old", (SERVER, 5353)), lambda: new.sendto(b"new", (SERVER, 5353)),
        lambda: opened[-1].connect_ex((SERVER, 80)), lambda: ping.sendto(echo_request(number & 0xFFFF), (SERVER, 0)),
    ):
        try:
            send()
        except OSError:
            pass  # the router is away
    new.close()
    if len(opened) > 10:
        opened.pop(0).close()
    time.sleep(0.2)
