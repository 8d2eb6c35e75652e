//go:build !linux

package main

import (
	"context"
	"flag"
)

// What needs file systems of its own is proved on Linux only.

func powerFlags(*flag.FlagSet) func(context.Context, *bed) error   { return onlyLinux }
func fullFlags(*flag.FlagSet) func(context.Context, *bed) error    { return onlyLinux }
func backlogFlags(*flag.FlagSet) func(context.Context, *bed) error { return onlyLinux }

func onlyLinux(context.Context, *bed) error { return errSkip{"this is proved on Linux only"} }
