//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "lab: cannot make a lab here: it needs Linux")
	os.Exit(exitSkip)
}
