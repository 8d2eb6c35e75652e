//go:build !linux

package node_test

import "testing"

func smallBuffers(t *testing.T) said {
	t.Skip("this system grants buffers or says no")
	return said{}
}
