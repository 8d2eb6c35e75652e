package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// everything is what `prove all` proves, in this order.
var everything = [][]string{
	{"kill"},
	{"kill", "--pullers", "1"},
	{"kill", "--size", "8000"}, // groups large enough for segments of the spool
	{"power"},
	{"full"},
	{"poison"},
	{"poison", "--hard"},
	{"backlog"},
	{"requests"},
	{"requests", "--level", "idempotent"},
	{"pipeline"},
	{"subscribers"},
}

// all proves everything with one build of the command. Flags given to it go to each proof. It does not stop at what is
// broken; what cannot be tried here is passed over with its reason.
func all(ctx context.Context, flags []string, stdout, stderr io.Writer) (code int) {
	dir, err := os.MkdirTemp("", "prove-all-")
	if err != nil {
		fmt.Fprintln(stderr, "prove:", err)
		return exitBroken
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(stderr, "prove:", err)
			code = exitBroken
		}
	}()
	binary := filepath.Join(dir, "peermesh")
	if err := build(ctx, binary); err != nil {
		fmt.Fprintln(stderr, "prove:", err)
		return exitBroken
	}
	var lines []string
	for _, args := range everything {
		name := strings.Join(args, " ")
		fmt.Fprintf(stdout, "== prove %s\n", name)
		began := time.Now()
		args := append(append(args[:len(args):len(args)], "--binary", binary), flags...)
		verdict := "kept"
		switch run(ctx, args, stdout, stderr) {
		case exitKept:
		case exitSkip:
			verdict = "not tried"
		case exitUsage:
			return exitUsage
		default:
			verdict, code = "BROKEN", exitBroken
		}
		lines = append(lines, fmt.Sprintf("%-20s %-10s %v", name, verdict, time.Since(began).Round(time.Second)))
	}
	fmt.Fprintf(stdout, "== all\n%s\n", strings.Join(lines, "\n"))
	return code
}
