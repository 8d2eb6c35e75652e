//go:build !linux

package spool

var rolesHere map[string]func(dir string)
