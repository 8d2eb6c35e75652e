package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/spf13/cobra"
)

// reqVerb is `peermesh req`.
type reqVerb struct {
	source      sourceFlags
	level       string
	deadline    time.Duration
	minRepliers int
	concurrency int
}

func reqCommand(a *app) *cobra.Command {
	var v reqVerb
	cmd := &cobra.Command{
		Use:     "req SERVICE [BODY...]",
		GroupID: groupTalk,
		Short:   "Ask a service and print the answers",
		Long: `Sends each BODY, or each line of stdin, to one replier of SERVICE and prints the answers in the
order of the requests. Fails when not every request was answered.`,
		Args: arguments(1, -1, "a SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, cmd, args[0], args[1:]) },
	}
	v.source.register(cmd)
	f := cmd.Flags()
	f.StringVar(&v.level, "level", "once", "`level`, idempotent, once or once-durable: how often a request in doubt may be executed")
	f.DurationVar(&v.deadline, "deadline", patterns.DefaultDeadline, "`time` for each request")
	f.IntVar(&v.minRepliers, "min-repliers", 0, "wait for `N` ready repliers first")
	f.IntVar(&v.concurrency, "concurrency", 1, "ask `N` requests at a time")
	return cmd
}

func (v *reqVerb) run(ctx context.Context, a *app, cmd *cobra.Command, service string, args []string) error {
	opts, err := v.check(cmd, service)
	if err != nil {
		return err
	}
	t, err := a.talk(ctx, "req", service, true)
	if err != nil {
		return err
	}
	r, err := t.node.Req(service, opts...)
	if err != nil {
		return t.end(ending{}, err)
	}
	t.ready()
	q := newAsking(t, r, v)
	err = r.WaitReady(t.ctx, v.minRepliers)
	if err == nil {
		err = q.all(v.source.open(a, cmd, args), pacer{rate: v.source.rate})
	}
	err = t.end(ending{socket: r, after: q.finish, ledger: func() patterns.Ledger { return r.Stats().Ledger }}, err)
	if err == nil && q.bad > 0 {
		return failf(exitFailed, "%d of %d requests were not answered; the first: %s", q.bad, q.asked, q.first)
	}
	return err
}

// check holds the command line to the rules before anything is opened.
func (v *reqVerb) check(cmd *cobra.Command, service string) ([]patterns.Option, error) {
	if err := checkName(wire.Req, service); err != nil {
		return nil, err
	}
	if err := v.source.check(cmd); err != nil {
		return nil, err
	}
	switch {
	case v.deadline < time.Millisecond:
		return nil, usagef("--deadline %v: at least 1ms", v.deadline)
	case v.minRepliers < 0:
		return nil, usagef("--min-repliers %d is negative; give 0 or more", v.minRepliers)
	case v.concurrency < 1 || v.concurrency > 1<<16:
		return nil, usagef("--concurrency %d: 1 to 65536", v.concurrency)
	}
	switch v.level {
	case "once":
		return []patterns.Option{patterns.Executed(patterns.Once)}, nil
	case "idempotent":
		return []patterns.Option{patterns.Executed(patterns.Idempotent)}, nil
	case "once-durable":
		return []patterns.Option{patterns.Executed(patterns.OnceDurable)}, nil
	}
	return nil, usagef("--level %q: idempotent, once or once-durable", v.level)
}

// asking is the asking of one run: up to --concurrency requests at a time, whose
// answers are printed in the order of the requests.
//
//	all --> order --> print
//	   \-> ask (one goroutine a request) -^
type asking struct {
	talk     *talk
	socket   *patterns.Req
	deadline time.Duration

	slots    chan struct{} // one for each request that is under way or not yet printed
	order    chan *question
	working  sync.WaitGroup
	printing sync.WaitGroup

	// Of the printing goroutine, until it has ended.
	asked, bad uint64
	first      string // what went wrong first
}

type question struct {
	n     uint64
	done  chan struct{}
	reply patterns.Reply
	err   error
}

func newAsking(t *talk, r *patterns.Req, v *reqVerb) *asking {
	q := &asking{talk: t, socket: r, deadline: v.deadline, slots: make(chan struct{}, v.concurrency),
		order: make(chan *question, v.concurrency)}
	q.printing.Go(q.print)
	return q
}

// all asks what the source has and waits for the answers.
func (q *asking) all(src source, p pacer) error {
	defer src.close()
	ctx := q.talk.ctx
	for n := uint64(0); ; n++ {
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		body, err := src.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			<-q.slots
			return q.await(ctx)
		case err != nil && !errors.Is(err, socket.ErrTooLarge):
			return err
		case err == nil:
			err = p.wait(ctx)
			if err != nil {
				return err
			}
		}
		one := &question{n: n, done: make(chan struct{}), err: err}
		q.order <- one // there is room: it has as many places as there are slots
		if err != nil {
			q.answered(one)
			continue
		}
		own := append([]byte(nil), body...)
		q.talk.app.emitSend(n, own)
		q.working.Go(func() { q.ask(one, own) })
	}
}

// await waits until every slot is free again.
func (q *asking) await(ctx context.Context) error {
	for range cap(q.slots) {
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// ask sends one request. Its context is not the run's: what was asked when the run
// ends may still be answered, until the socket closes.
func (q *asking) ask(one *question, body []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), q.deadline)
	defer cancel()
	one.reply, one.err = q.socket.RequestMessage(ctx, &socket.Message{Body: body})
	q.answered(one)
}

// answered tells of an outcome at once; the answer itself waits for its turn.
func (q *asking) answered(one *question) {
	if ev := q.talk.app.events; ev != nil {
		e := replyEvent{N: one.n, Outcome: patterns.OutcomeOf(one.err).String()}
		if !one.reply.By.IsZero() {
			e.By = one.reply.By.String()
		}
		if one.err == nil {
			e.Hash = hashOf(one.reply.Body)
		} else {
			e.Error = one.err.Error()
		}
		ev.emit("reply", e)
	}
	close(one.done)
}

// print prints answers in order.
func (q *asking) print() {
	for one := range q.order {
		<-one.done
		q.asked++
		if one.err != nil {
			q.bad++
			text := fmt.Sprintf("request %d: %s: %s", one.n, patterns.OutcomeOf(one.err), oneLine(one.err.Error()))
			if q.first == "" {
				q.first = text
			}
			q.talk.app.note("%s", text)
		} else if q.talk.app.events == nil {
			if _, err := q.talk.app.stdout.Write(append(one.reply.Body, '\n')); err != nil {
				q.talk.broken(err)
			}
		}
		<-q.slots
	}
}

// finish waits for what is under way; the socket must be closed.
func (q *asking) finish() {
	q.working.Wait()
	close(q.order)
	q.printing.Wait()
}

// emitSend tells that body n is about to be sent.
func (a *app) emitSend(n uint64, body []byte) {
	if a.events != nil {
		a.events.emit("send", sendEvent{n, hashOf(body), len(body)})
	}
}
