//go:build !linux

package main

import "time"

// nap sleeps as finely as the system lets Go.
func nap(d time.Duration) { time.Sleep(d) }
