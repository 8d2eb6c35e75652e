package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/spf13/cobra"
)

// receiveFlags are what pull, sub and rep have in common.
type receiveFlags struct {
	prefetch int
	verify   uint64
	verifies bool
}

func (r *receiveFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&r.prefetch, "prefetch", 0, "at most `N` messages of each sender here and not yet handled (default: adapts)")
	f.Uint64Var(&r.verify, "verify-seed", 0, "check that bodies are those which --count and --seed `S` generate")
}

// options checks the flags and makes socket options of them.
func (r *receiveFlags) options(cmd *cobra.Command) ([]patterns.Option, error) {
	r.verifies = cmd.Flags().Changed("verify-seed")
	if !cmd.Flags().Changed("prefetch") {
		return nil, nil
	}
	if r.prefetch < 1 || r.prefetch > 1<<16 {
		return nil, usagef("--prefetch %d: 1 to 65536 messages", r.prefetch)
	}
	return []patterns.Option{patterns.Prefetch(r.prefetch)}, nil
}

// receiver prints what a receiving socket tells, and checks bodies. Safe for
// concurrent use.
type receiver struct {
	talk *talk

	mu     sync.Mutex
	verify *bodies // nil: nothing is checked
}

func newReceiver(t *talk, r *receiveFlags) *receiver {
	rec := &receiver{talk: t}
	if r.verifies {
		rec.verify = &bodies{seed: r.verify}
	}
	return rec
}

// options make a socket tell.
func (r *receiver) options(gaps bool) []patterns.Option {
	ev := r.talk.app.events
	var opts []patterns.Option
	if gaps {
		opts = append(opts, patterns.OnGap(r.gap))
	}
	if ev == nil {
		return opts
	}
	opts = append(opts, patterns.OnDone(func(m *socket.Message) { ev.emit("done", answeredEvent{m.Stream(), m.Seq()}) }))
	if gaps {
		opts = append(opts, patterns.OnNack(func(m *socket.Message) { ev.emit("nack", answeredEvent{m.Stream(), m.Seq()}) }))
	}
	return opts
}

// gap tells of a hole in a stream. One that the promises do not allow is a loss.
func (r *receiver) gap(g socket.Gap) {
	t := r.talk
	t.app.events.emit("gap", holeEvent{g.Stream, g.From, g.To, g.Reason})
	if g.Reason == "corrupt" {
		t.lost.Add(1)
		t.app.events.emit("loss", holeEvent{g.Stream, g.From, g.To, g.Reason})
	}
	t.app.note("gap: %d messages of %s will not come: %s", g.To-g.From+1, oneLine(g.Stream), g.Reason)
}

// delivered tells of a message and checks its body.
func (r *receiver) delivered(m *socket.Message) {
	ev := r.talk.app.events
	hash := ""
	if ev != nil {
		hash = hashOf(m.Body)
		ev.emit("deliver", deliverEvent{m.From().String(), m.Stream(), m.Seq(), m.Attempt(), m.Redelivered(), hash, len(m.Body), m.Topic})
	}
	if r.recognises(m.Body) {
		return
	}
	r.talk.lost.Add(1)
	ev.emit("mismatch", mismatchEvent{m.Stream(), m.Seq(), hash, len(m.Body)})
	r.talk.app.note("message %d of %s is not a body of that seed", m.Seq(), oneLine(m.Stream()))
}

func (r *receiver) recognises(body []byte) bool {
	if r.verify == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verify.recognises(body)
}

// incoming is a socket that messages are taken from.
type incoming interface {
	closer
	Recv(context.Context) (*socket.Message, error)
	Stats() socket.InboxStats
}

// taking is the taking of messages of one run: pull's and sub's.
type taking struct {
	*receiver
	socket    incoming
	count     uint64 // done at the end; 0: no end
	never     bool   // nothing is acknowledged
	failEvery uint64 // each so manieth delivery is given back; 0: none
	separator byte
	work      time.Duration
	program   *program
	log       *execLog
	most      int // at a time

	deliveries atomic.Uint64
	out        sync.Mutex // whole bodies on stdout
	working    sync.WaitGroup
	hard       context.Context // ends what is in hand
	abandon    context.CancelCauseFunc
}

// all takes messages until there were enough, or the run ends.
func (t *taking) all() error {
	t.hard, t.abandon = context.WithCancelCause(context.Background())
	if t.talk.app.events == nil && t.program == nil && t.work == 0 && t.most == 1 {
		return t.stream()
	}
	return t.each()
}

// finish waits for what was in hand; the socket must be closed.
func (t *taking) finish() {
	t.abandon(errAbandoned)
	t.working.Wait()
}

// errAbandoned is why a message is given back that was in hand at the end.
var errAbandoned = errors.New("the time to finish it is over")

// errFailEvery is why --fail-every gives a message back.
var errFailEvery = errors.New("--fail-every")

// fails reports whether this delivery is one to be given back.
func (t *taking) fails() bool {
	return t.failEvery > 0 && t.deliveries.Add(1)%t.failEvery == 0
}

// each takes messages one by one, as many at a time as --concurrency says.
func (t *taking) each() error {
	q := newQuota(t.most, t.count)
	for {
		more, err := q.take(t.talk.ctx)
		if !more {
			return err
		}
		m, err := t.socket.Recv(t.talk.ctx)
		if err != nil {
			return err
		}
		t.delivered(m)
		t.working.Go(func() {
			q.put(t.handle(m))
		})
	}
}

// handle does what is to be done for a message, answers it, and reports whether it
// is done.
func (t *taking) handle(m *socket.Message) (done bool) {
	failure := t.do(m)
	switch {
	case failure == nil && t.never:
		return true
	case failure == nil:
		return m.Ack() == nil // closed meanwhile: it goes elsewhere
	case !errors.Is(failure, errFailEvery):
		t.talk.app.note("message %d of %s given back: %s", m.Seq(), oneLine(m.Stream()), oneLine(failure.Error()))
	}
	_ = m.Nack(failure) // closed meanwhile: it goes elsewhere without our word
	return false
}

// do does what is to be done for a message. What would fail for every other message
// too ends the run.
func (t *taking) do(m *socket.Message) error {
	fails := t.fails()
	if err := pause(t.hard, t.work); err != nil {
		return err
	}
	switch {
	case fails:
		return errFailEvery
	case t.program != nil:
		if err := t.log.note(m); err != nil {
			t.talk.stop(err)
			return err
		}
		return t.program.run(t.hard, m.Body, t.programOutput())
	case t.talk.app.events == nil:
		if err := t.print(m.Body); err != nil {
			t.talk.stop(err)
			return err
		}
	}
	return nil
}

// programOutput is where what a program prints goes: to stdout, unless that carries
// events.
func (t *taking) programOutput() io.Writer {
	if t.talk.app.events != nil {
		return t.talk.app.stderr
	}
	return writerFunc(func(p []byte) (int, error) {
		t.out.Lock()
		defer t.out.Unlock()
		return t.talk.app.stdout.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// print writes one body and its end in one write.
func (t *taking) print(body []byte) error {
	t.out.Lock()
	defer t.out.Unlock()
	if _, err := t.talk.app.stdout.Write(append(body[:len(body):len(body)], t.separator)); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	return nil
}
