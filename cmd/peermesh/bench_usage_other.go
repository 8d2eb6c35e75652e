//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris)

package main

// usageNow tells nothing here: this system has no getrusage.
func usageNow() usage { return usage{} }
