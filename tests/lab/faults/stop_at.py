"""Stops one program of a router at one point of its work, which the program does not know of.

Lies in the node's dist-packages with a .pth file that imports it, so every Python there runs it. /run/stop/at holds
the name of an audit event (docs.python.org/3/library/audit_events.html) and, on the next line, a regular expression for
its arguments. The first program that raises it stops: it writes into the FIFO /run/stop/reached, which waits for a
reader, and goes on when somebody writes into the FIFO /run/stop/go.
"""
import os
import re
import sys

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
            os.rename(DIRECTORY + "/at", DIRECTORY + "/was")  # only one program stops, and only once
        except OSError:
            return
        with open(DIRECTORY + "/reached", "w") as stream:
            stream.write("here\n")
        with open(DIRECTORY + "/go") as stream:
            stream.read()

    sys.addaudithook(hook)


armed()
