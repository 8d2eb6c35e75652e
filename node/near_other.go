//go:build !linux

package node

import "errors"

// hostOfNodes fails: abstract Unix sockets are Linux's.
func hostOfNodes([16]byte) (host [16]byte, err error) { return host, errors.ErrUnsupported }

// writeNow and readNow are not called where no door opens.
func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
func readNow(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
