//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const usage = `usage: lab COMMAND ...       (environment LAB names the lab, default "pm")

  check                         can a lab be made here? exit 77 if not
  up N | up SPEC                make a lab: N hosts in one subnet, or one item
                                per subnet, e.g. "3,2,nat:2"
  down                          remove the lab and all that runs in it
  list                          hosts, subnets, addresses, links with faults
  exec HOST CMD ARG...          run a command on a host (h1, h2, ..., router)
  ns HOST                       print the name of a host's namespace
  addr HOST [4|6|ll]            print a host's address (default 4)
  partition A B [--oneway]      drop everything between A and B (A to B only);
                                A, B: a host, a list h1,h2 or "all"
  heal [A B]                    undo partitions (those between A and B)
  impair A B [--oneway] FLAGS   make the link between A and B worse (see below)
  impair A B clear | impair clear
  link HOST down|up [--admin]   pull or plug the cable (--admin: ip link set)
  change-address HOST           give the host other IPv4 and IPv6 addresses
  attach HOST SUBNET            give the host one more interface (eth1, ...)
  stats                         packets seen, dropped, ... per faulty link

impair flags: --loss 5% --dup 1% --reorder 2% --corrupt 1% --delay 20ms
  --jitter 5ms --rate 10mbit --queue 100ms --mtu 1300 --seed 1
`

// skipError says why no lab can be made on this machine.
type skipError struct{ why string }

func (e skipError) Error() string { return e.why }

// usageError says what was wrong with the command line.
type usageError struct{ what string }

func (e usageError) Error() string { return e.what }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func main() {
	if len(os.Args) < 2 || os.Args[1] == "help" || os.Args[1] == "--help" || os.Args[1] == "-h" {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	os.Exit(exitCode(run(os.Args[1], os.Args[2:])))
}

// exitCode reports err on standard error and tells how the command ends.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[skipError](err); ok {
		fmt.Fprintln(os.Stderr, "lab: cannot make a lab here:", err)
		return exitSkip
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// A command works on a lab that exists. min is how many arguments it needs.
type command struct {
	min int
	run func(l *Lab, args []string) error
}

func commands() map[string]command {
	return map[string]command{
		"list":           {0, (*Lab).list},
		"exec":           {2, (*Lab).exec},
		"ns":             {1, (*Lab).printNamespace},
		"addr":           {1, (*Lab).printAddress},
		"partition":      {2, func(l *Lab, args []string) error { return l.breakLinks("partition", args) }},
		"heal":           {0, func(l *Lab, args []string) error { return l.breakLinks("heal", args) }},
		"impair":         {1, func(l *Lab, args []string) error { return l.breakLinks("impair", args) }},
		"link":           {2, (*Lab).link},
		"change-address": {1, (*Lab).changeAddress},
		"attach":         {2, (*Lab).attach},
		"stats":          {0, (*Lab).printStats},
	}
}

func run(cmd string, args []string) error {
	name := os.Getenv("LAB")
	if name == "" {
		name = "pm"
	}
	if !validName(name) {
		return usagef("LAB=%q: want at most 8 letters and digits", name)
	}
	if cmd == "relay" && len(args) == 1 { // not for users: the process that startRelay starts
		return relayMain(args[0])
	}
	if err := checkTools(); err != nil {
		return err
	}
	if cmd == "check" {
		return checkKernel()
	}
	// The lock ends with this process; exec too drops it, as its file is closed on exec.
	unlock, err := lock(name)
	if err != nil {
		return err
	}
	defer unlock()

	switch {
	case cmd == "down":
		return down(name)
	case cmd == "up" && len(args) == 1:
		return up(name, args[0])
	case cmd == "up":
		return usagef("up: want one argument; try: lab help")
	}
	c, known := commands()[cmd]
	if !known {
		return usagef("unknown command %q; try: lab help", cmd)
	}
	if len(args) < c.min {
		return usagef("%s: too few arguments; try: lab help", cmd)
	}
	l, err := load(name)
	if err != nil {
		return err
	}
	return c.run(l, args)
}

// validName keeps names short enough for what is named after the lab, and free of what the shell reads.
func validName(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= 8 && strings.Trim(s, allowed) == ""
}
