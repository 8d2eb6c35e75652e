//go:build !unix

package main

import "os/exec"

func shell(command string) []string { return []string{"cmd", "/C", command} }

// ownGroup leaves a program in the group of this process: there is no other way to
// end its children here than to let them be.
func ownGroup(*exec.Cmd) {}
