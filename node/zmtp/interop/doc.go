// Package interop tries the bridge against libzmq itself: programs in Python (pyzmq) and C on one side, mesh sockets on the
// other. It has tests only. Where python3 with pyzmq, or gcc with zmq.h, is missing they are skipped and say so; "make
// interop" installs both on Debian.
package interop
