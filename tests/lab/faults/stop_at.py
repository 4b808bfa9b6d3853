"""Stops one program of a router at one point of its work, which the program does not know of.

Lies in the node's dist-packages with a .pth file that imports it, so every Python there runs it. /run/stop/at holds
the name of an audit event (docs.python.org/3/library/audit_events.html) and, on the next line, a regular expression for
its arguments. The first program that raises it stops: its process id is in /run/stop/reached. It goes on once /run/stop/go exists.
"""
import os
import re
import sys
import time

DIRECTORY = "/run/stop"


def words(argument):
    return " ".join(map(os.fsdecode, argument)) if isinstance(argument, (list, tuple)) else str(argument)


def armed():
    try:
        with open(DIRECTORY + "/at") as stream:
            event, pattern = stream.read().splitlines()
    except OSError:
        return

    def hook(name, arguments):
        if name != event or not re.search(pattern, " ".join(map(words, arguments[:2]))):
            return
        try:
            # Only one program stops, and only once.
            os.rename(DIRECTORY + "/at", DIRECTORY + "/reached.new")
        except OSError:
            return
        with open(DIRECTORY + "/reached.new", "w") as stream:
            stream.write(str(os.getpid()))
        os.rename(DIRECTORY + "/reached.new", DIRECTORY + "/reached")
        while not os.path.exists(DIRECTORY + "/go"):
            time.sleep(0.05)

    sys.addaudithook(hook)


armed()
