package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitKept   = 0
	exitBroken = 1
	exitUsage  = 2
	exitSkip   = 77 // as test harnesses have it
)

const usage = `usage: prove kill|power|full|poison|backlog|requests|pipeline|subscribers|all [flags], or prove check FOLDER; prove VERB -h lists the flags
`

// errSkip says why something cannot be tried on this machine.
type errSkip struct{ why string }

func (e errSkip) Error() string { return e.why }

// scenarios are what can be proved.
var scenarios = map[string]func(*flag.FlagSet) func(context.Context, *bed) error{
	"kill":     killFlags,
	"power":    powerFlags,
	"full":     fullFlags,
	"poison":   poisonFlags,
	"backlog":  backlogFlags,
	"requests": requestsFlags,
	"pipeline": pipelineFlags,

	"subscribers": subscribersFlags,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole command; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "check":
		return check(args[1:], stdout, stderr)
	case "all":
		return all(ctx, args[1:], stdout, stderr)
	case partVerb:
		return playPart(ctx, args[1:], stdout, stderr)
	}
	scenario, ok := scenarios[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "prove: no %q\n%s", args[0], usage)
		return exitUsage
	}
	flags := flag.NewFlagSet("prove "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	var c bedConfig
	flags.StringVar(&c.binary, "binary", "", "peermesh command (default: built from this module)")
	flags.StringVar(&c.dir, "work", "", "work folder, which must not exist (default: a temporary one)")
	flags.Uint64Var(&c.seed, "seed", 1, "what happens when")
	keep := flags.Bool("keep", false, "keep the work folder in any case")
	play := scenario(flags)
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		if errors.Is(err, flag.ErrHelp) {
			return exitKept
		}
		fmt.Fprintln(stderr, "prove:", flags.Args())
		return exitUsage
	}
	c.out, c.progress = stdout, stderr
	b, err := newBed(ctx, c)
	if err != nil {
		fmt.Fprintln(stderr, "prove:", err)
		return exitBroken
	}
	err = b.prove(ctx, play)
	code := exitOf(err)
	if err != nil {
		fmt.Fprintf(stderr, "prove %s: %v\n", args[0], err)
	}
	if code == exitBroken || *keep {
		fmt.Fprintf(stderr, "all logs are in %s\n", b.dir)
		if len(b.run.Lives) > 0 {
			fmt.Fprintf(stderr, "prove check %s judges them again\n", b.dir)
		}
		return code
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(stderr, "prove:", err)
		return exitBroken
	}
	return code
}

func exitOf(err error) int {
	if err == nil {
		return exitKept
	}
	if _, skip := errors.AsType[errSkip](err); skip {
		return exitSkip
	}
	return exitBroken
}

// check judges the logs of an earlier run.
func check(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: prove check FOLDER")
		return exitUsage
	}
	report, err := judgeFolder(args[0])
	if err != nil {
		fmt.Fprintln(stderr, "prove:", err)
		return exitBroken
	}
	fmt.Fprint(stdout, report)
	if !report.OK() {
		return exitBroken
	}
	return exitKept
}
