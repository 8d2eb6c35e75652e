// Package probe measures what a node needs of its host and network: whether UDP gets through to an address and how
// large its packets may be, socket buffers and offloads, multicast on each interface, and a directory's disk. It judges
// nothing: package insight does, which makes lines of the doctor of it. Nothing here needs a node to run.
package probe
