//go:build !linux

package spool

import "os"

// syncData makes what was written to f durable.
func syncData(f *os.File) error { return f.Sync() }

// fileSystem says nothing: here no room is reserved.
func fileSystem(string) (total, free int64, ok bool) { return 0, 0, false }

// memory says nothing.
func memory() int64 { return 0 }

// allocate does nothing.
func allocate(string, int64) error { return nil }

// extend is for Linux.
func extend(*os.File, int64) {}
