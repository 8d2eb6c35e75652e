# What each Python program of the tests begins with. It ends when its standard input does.
import json, os, sys, threading, time
import zmq

ctx = zmq.Context()


def sock(kind, how, addr, **options):
    s = ctx.socket(getattr(zmq, kind))
    for name, value in options.items():
        s.setsockopt(getattr(zmq, name), value)
    getattr(s, how)(addr)
    return s


def say(*what):
    print(*what, flush=True)


def stay():
    """Waits until the test has done with this program; what is sent is written meanwhile."""
    sys.stdin.read()
    os._exit(0)


def number(n, size):
    """A message that can be told from all others, of that many bytes."""
    text = b"%d " % n
    return text + b"." * (size - len(text))


args = sys.argv[1:]
