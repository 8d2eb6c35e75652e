package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // as long as the process
		<-signals
		cancel()
		os.Exit(exitSignal + int((<-signals).(syscall.Signal))) // a second one leaves at once
	}()
	// A reader of stdout that went away is an error of the write, not the end of the
	// process: what is in hand is given back first. Caught rather than ignored, because
	// what is ignored stays so in the commands that --exec runs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// exitSignal and the number of a signal are the exit code of who was ended by it, as
// shells count.
const exitSignal = 128

// run is the whole command: it executes args and returns the exit code. The end of
// ctx is what Ctrl-C is: drain, then leave. environ is as of os.Environ.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	a := newApp(stdin, stdout, stderr, environ)
	root := rootCommand(a)
	root.SetArgs(args)
	verb, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	a.complain(verb.CommandPath(), err)
	return exitCode(err)
}
