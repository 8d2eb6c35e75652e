//go:build !amd64

package ticks

func count() uint64 { return 0 }

const steady = false
