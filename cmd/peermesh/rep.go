package main

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/spf13/cobra"
)

// repVerb is `peermesh rep`.
type repVerb struct {
	receiveFlags
	execFlags
	echo        bool
	concurrency int
}

func repCommand(a *app) *cobra.Command {
	var v repVerb
	cmd := &cobra.Command{
		Use:     "rep SERVICE --echo|--exec COMMAND",
		GroupID: groupTalk,
		Short:   "Answer requests",
		Long: `Answers the requests to SERVICE: with the request itself, or with what a command prints that is
run for each. A command that fails is the outcome "error" at the requester.`,
		Args: arguments(1, 1, "one SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, cmd, args[0]) },
	}
	v.receiveFlags.register(cmd)
	v.execFlags.register(cmd, "run `command` for each request, body on its stdin, answer on its stdout")
	f := cmd.Flags()
	f.BoolVar(&v.echo, "echo", false, "answer with the request")
	f.IntVar(&v.concurrency, "concurrency", 0, "answer `N` requests at a time (default: 64 with --echo, one for each processor with --exec)")
	return cmd
}

func (v *repVerb) run(ctx context.Context, a *app, cmd *cobra.Command, service string) error {
	opts, err := v.check(cmd, service)
	if err != nil {
		return err
	}
	program, err := v.execFlags.open(cmd, a.stderr)
	if err != nil {
		return err
	}
	log, err := v.openLog()
	if err != nil {
		return err
	}
	return errors.Join(v.answer(ctx, a, service, opts, program, log), log.close())
}

// answer opens the socket and answers what comes.
func (v *repVerb) answer(ctx context.Context, a *app, service string, opts []patterns.Option, program *program, log *execLog) error {
	t, err := a.talk(ctx, "rep", service, false)
	if err != nil {
		return err
	}
	r := newReceiver(t, &v.receiveFlags)
	rep, err := t.node.Rep(service, append(opts, r.options(false)...)...)
	if err != nil {
		return t.end(ending{}, err)
	}
	t.ready()
	var serving sync.WaitGroup
	serving.Go(func() { // until the socket closes, so that what is begun when the run ends is still answered
		_ = rep.ServeRequests(context.Background(), func(ctx context.Context, m *socket.Message) ([]byte, error) {
			r.delivered(m)
			if err := log.note(m); err != nil {
				t.stop(err)
				return nil, err
			}
			if program == nil {
				return m.Body, nil
			}
			answer := bounded{limit: maxBody}
			err := program.run(ctx, m.Body, &answer)
			return answer.buf.Bytes(), err
		})
	})
	<-t.ctx.Done()
	return t.end(ending{socket: rep, after: serving.Wait, seen: rep.Stats}, context.Cause(t.ctx))
}

// check holds the command line to the rules before anything is opened.
func (v *repVerb) check(cmd *cobra.Command, service string) ([]patterns.Option, error) {
	if err := checkName(wire.Rep, service); err != nil {
		return nil, err
	}
	executes := cmd.Flags().Changed("exec")
	switch {
	case v.echo == executes:
		return nil, usagef("say how to answer: either --echo or --exec COMMAND")
	case cmd.Flags().Changed("concurrency") && (v.concurrency < 1 || v.concurrency > 1<<16):
		return nil, usagef("--concurrency %d: 1 to 65536", v.concurrency)
	}
	most := v.concurrency
	if most == 0 {
		most = patterns.DefaultConcurrency
		if executes {
			most = runtime.NumCPU()
		}
	}
	opts, err := v.options(cmd)
	return append(opts, patterns.Concurrency(most)), err
}
