"""What a client of a customer edge tries; runs in the client's node, prints one JSON object.

Arguments: the server's addresses of IPv4 and IPv6, source port of the first flows, epoch second at which to start.
"""
import hashlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time

SERVER, SERVER6, SOURCE_PORT, START = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
CLOSED_PORT, ECHO_PORT = 9999, 5353
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_MTU = 10, 2, 0, 14


def connection():
    return http.client.HTTPConnection(SERVER, timeout=60, source_address=("0.0.0.0", SOURCE_PORT))


def download_and_upload():
    """1 MB down, the same up again, on one connection."""
    http_connection = connection()
    http_connection.request("GET", "/mb")
    response = http_connection.getresponse()
    peer, body = response.headers["X-Peer"], response.read()
    http_connection.request("PUT", "/mb", body)
    answer = http_connection.getresponse().read().decode().split()
    return {"peer": peer, "length": len(body), "sha256": hashlib.sha256(body).hexdigest(), "put": answer}


def udp_socket(discover=IP_PMTUDISC_DONT, bind=False):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
    udp.settimeout(10)
    if bind:
        udp.bind(("0.0.0.0", SOURCE_PORT))
    udp.connect((SERVER, ECHO_PORT))
    return udp


def echoed(udp, data):
    udp.send(data)
    peer, body = udp.recv(65535).split(b" ", 1)
    return {"peer": peer.decode(), "intact": body == data}


def udp_small():
    return echoed(udp_socket(bind=True), b"small datagram")


def udp_fragments():
    return echoed(udp_socket(), bytes(range(256)) * 12)


def port_unreachable():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(10)
    udp.connect((SERVER, CLOSED_PORT))
    udp.send(b"anybody?")
    try:
        udp.recv(1)
    except OSError as exc:
        return type(exc).__name__
    return "answered"


def path_mtu():
    """Sends 1500 bytes with DF until the path says no; then what fits still passes."""
    udp = udp_socket(IP_PMTUDISC_DO)
    refused = None
    for _attempt in range(5):
        try:
            udp.send(bytes(1472))
            udp.settimeout(1)
            udp.recv(65535)
        except OSError as exc:
            if exc.errno == 90:  # EMSGSIZE
                refused = udp.getsockopt(socket.IPPROTO_IP, IP_MTU)
                break
    return {"refused_with_mtu": refused, "what_fits": fits(udp, (refused or 1500) - 28)}


def fits(udp, length):
    """The answer is longer than the question: until the server knows the path's MTU, it is refused and lost."""
    udp.settimeout(3)
    for _attempt in range(4):
        try:
            return echoed(udp, bytes(length))["intact"]
        except TimeoutError:
            continue
    return False


def ping(*options):
    done = subprocess.run(["ping", "-c", "3", "-i", "0.3", "-W", "10", *options, SERVER], capture_output=True, text=True)
    return int(re.search(r"(\d+) received", done.stdout).group(1))


def ping_in_fragments():
    return ping("-s", "3000")


def traceroute():
    done = subprocess.run(["traceroute", "-n", "-q", "2", "-w", "5", "-m", "8", SERVER], capture_output=True, text=True)
    return [line.split()[1] for line in done.stdout.splitlines()[1:]]


def native_ipv6():
    done = subprocess.run(["ping", "-6", "-c", "1", "-W", "10", SERVER6], capture_output=True, text=True)
    return done.returncode == 0


time.sleep(max(0.0, START - time.time()))
result = {}
for check in (download_and_upload, udp_small, udp_fragments, ping, ping_in_fragments, port_unreachable, traceroute, path_mtu, native_ipv6):
    begun = time.time()
    try:
        result[check.__name__] = check()
    except Exception as exc:  # the test that asks for this result shows it
        result[check.__name__] = "failed: %r" % exc
    print("%s %.1f s" % (check.__name__, time.time() - begun), file=sys.stderr)
print(json.dumps(result))
