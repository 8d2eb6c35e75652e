package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// drainFor bounds how long a verb that was told to leave waits for settlement.
const drainFor = 5 * time.Second

// Why a run ends before its work is done. A *refusedError and whatever broke stdout
// are the others.
var (
	errSignal  = errors.New("told to leave")
	errTimeout = errors.New("--timeout is over")
)

// talk is what the verbs that talk have in common: a node, its events, and the ways
// a run can end.
//
//	talk -> socket -> ready -> work ... -> end
//	                             ^
//	                ctx ends: signal, --timeout, refused by all, stdout broken
type talk struct {
	app   *app
	verb  string
	name  string // of the queue, channel or service
	sends bool
	node  *node.Node

	ctx  context.Context // nothing new is taken once it has ended; its cause says why
	stop context.CancelCauseFunc
	free []func() // what to undo at the end

	shown    chan struct{} // closed when ready was printed
	hidden   chan struct{} // closed when it never will be
	met      chan struct{} // closed when there was a peer
	refusals refusals
	watching sync.WaitGroup
	control  *controlServer // nil without --dir
	lost     atomic.Int64   // losses and failed checks
}

// talk opens the node of a verb that talks; one that sends ends when all refuse it.
// What talk returns must be ended.
func (a *app) talk(ctx context.Context, verb, name string, sends bool) (*talk, error) {
	t := &talk{app: a, verb: verb, name: name, sends: sends, shown: make(chan struct{}), hidden: make(chan struct{}),
		met: make(chan struct{})}
	t.ctx, t.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	signal := context.AfterFunc(ctx, func() {
		a.note("%s: told to leave; finishing what is in hand, at most %v", verb, a.drainTime())
		t.stop(errSignal)
	})
	t.free = append(t.free, func() { signal() }, func() { t.stop(nil) })
	if d := a.global.timeout; d > 0 {
		over := time.AfterFunc(time.Until(a.began.Add(d)), func() { t.stop(errTimeout) })
		t.free = append(t.free, func() { over.Stop() })
	}
	a.events.tell(t.broken)
	n, err := node.Open(t.ctx, a.nodeConfig())
	if err != nil {
		if err = openError(a.global, err); t.ctx.Err() != nil {
			err = context.Cause(t.ctx)
		}
		t.release()
		return nil, t.explain(err)
	}
	t.node = n
	t.watching.Go(t.watch)
	return t, nil
}

// drainTime is how long the end of a verb may take.
func (a *app) drainTime() time.Duration { return cmp.Or(time.Duration(a.drain.Load()), drainFor) }

func (a *app) nodeConfig() node.Config {
	g := a.global
	return node.Config{Name: g.name, Namespace: g.namespace, Dir: g.dir, SpoolKeyFile: g.spoolKey, Mesh: g.mesh, Policy: g.policy, Roles: g.roles,
		Listen: g.listen, Peers: g.peers, NoMDNS: g.noMDNS, UDPOnly: g.udpOnly, Stripes: g.stripes, Poll: g.poll, SpoolProfile: a.spoolProfile, Logger: a.logger()}
}

// broken ends the run because stdout does not take data any more.
func (t *talk) broken(err error) { t.stop(fmt.Errorf("stdout: %w", err)) }

// ready says that the node is bound and its socket offered. Peers are told of from
// now on.
func (t *talk) ready() {
	n := t.node
	if t.app.global.dir != "" {
		t.control = t.app.serveControl(n, t.verb)
	}
	t.app.events.emit("ready", readyEvent{n.ID().String(), n.Name(), n.Addr().String(), n.Incarnation()})
	t.app.note("%s %s: node %s %s at %s", t.verb, oneLine(t.name), oneLine(n.Name()), n.ID(), n.Addr())
	close(t.shown)
}

// watch tells of peers until the node has closed.
func (t *talk) watch() {
	var refused sync.WaitGroup
	over, stop := context.WithCancel(context.Background())
	defer refused.Wait()
	defer stop()
	if t.sends {
		refused.Go(func() { t.watchRefusals(over) })
	}
	met := false
	for e := range t.node.Events(context.Background()) {
		if t.sends {
			t.refusals.note(e)
		}
		if e.State == node.Up && !met {
			met = true
			close(t.met)
		}
		select {
		case <-t.shown:
			t.tell(e)
		case <-t.hidden:
		}
	}
}

// watchRefusals ends a sender that nobody will have.
func (t *talk) watchRefusals(over context.Context) {
	tick := time.NewTicker(refusedFor / 20)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if err := t.refusals.verdict(t.node.Candidates(), now); err != nil {
				t.stop(err)
				return
			}
		case <-over.Done():
			return
		}
	}
}

// tell prints what happened to a peer.
func (t *talk) tell(e node.PeerEvent) {
	id := ""
	if !e.ID.IsZero() {
		id = e.ID.String()
	}
	t.app.events.emit("peer", peerEvent{id, e.Name, e.Addr, e.State.String(), string(e.Code), e.Reason, e.Remote})
	who := oneLine(e.Name)
	if who == "" {
		who = "unknown"
	}
	switch e.State {
	case node.Up:
		t.app.note("peer %s %s up at %s", who, id, e.Addr)
	case node.Down:
		t.app.note("peer %s %s down: %s", who, id, oneLine(e.Reason))
	case node.Refused:
		side := "we refused it"
		if e.Remote {
			side = "it refused us"
		}
		t.app.note("peer %s at %s: %s (%s): %s", who, e.Addr, side, e.Code, oneLine(e.Reason))
	}
}

// closer is how every socket ends.
type closer interface {
	Shutdown(context.Context) error
	Close() error
}

// ending is what a verb has to say at its end.
type ending struct {
	socket closer                 // nil: it was never opened
	abrupt bool                   // what is in hand will never be answered: do not wait for it
	after  func()                 // waits for what ends with the socket; may be nil
	told   func()                 // likewise for what ends with the node: fates come from its disk
	ledger func() patterns.Ledger // of a sender; may be nil
	seen   func() socket.InboxStats
}

// end ends the socket and the node as the cause demands (nil: the work is done),
// prints the summary, and returns the verb's error.
func (t *talk) end(e ending, cause error) error {
	closed := t.close(e, cause)
	if t.control != nil {
		closed = errors.Join(closed, t.control.close())
	}
	closed = errors.Join(closed, t.node.Close())
	if e.told != nil {
		e.told()
	}
	t.release()
	summary := summaryEvent{Ledger: whole(patterns.Ledger{})}
	if e.ledger != nil {
		summary.Ledger = whole(e.ledger())
	}
	if e.seen != nil {
		summary.Received = receivedOf(e.seen())
	}
	if e.socket != nil {
		t.app.events.emit("summary", summary)
		t.app.noteSummary(t.verb, summary)
	}
	switch givenUp := summary.Ledger.Dropped["shutdown"]; {
	case t.lost.Load() > 0:
		return failf(exitLoss, "%d losses or failed checks", t.lost.Load())
	case cause != nil && !errors.Is(cause, errSignal):
		return t.explain(cause)
	case givenUp > 0:
		return failf(exitFailed, "told to leave; %d messages were given up", givenUp)
	}
	return closed
}

// close ends the socket, gently where there is reason to.
func (t *talk) close(e ending, cause error) (err error) {
	switch told := errors.Is(cause, errSignal); {
	case e.socket == nil:
		return nil
	case (cause == nil || told) && !e.abrupt:
		err = t.drain(e.socket, told)
	default:
		err = e.socket.Close()
	}
	if e.after != nil {
		e.after()
	}
	return err
}

// drain finishes what is in hand.
func (t *talk) drain(s closer, told bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.app.drainTime())
	defer cancel()
	err := s.Shutdown(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, socket.ErrShutdown) {
		return err
	}
	// Of a receiver: what was answered here may be delivered again.
	err = fmt.Errorf("not every sender confirmed within %v that it has the answers", t.app.drainTime())
	if told {
		t.app.note("%s: %s", t.verb, err)
		return nil
	}
	return err
}

// release undoes what talk began, and waits for its goroutines.
func (t *talk) release() {
	select {
	case <-t.shown:
	default:
		close(t.hidden)
	}
	t.watching.Wait()
	t.app.events.tell(nil)
	for _, f := range t.free {
		f()
	}
}

// explain gives the cause of an early end its code and its cure.
func (t *talk) explain(cause error) error {
	var refused *refusedError
	switch {
	case errors.As(cause, &refused):
		return failf(exitRefused, "%w; %s", cause, cures[string(refused.one.code)])
	case !errors.Is(cause, errTimeout):
		return cause
	case t.metAny():
		return failf(exitTimeout, "%v is over and not everything is done; --timeout allows more", t.app.global.timeout)
	}
	return failf(exitUnreachable, "no peer within %v; peermesh discover --explain shows what was tried", t.app.global.timeout)
}

func (t *talk) metAny() bool {
	select {
	case <-t.met:
		return true
	default:
		return false
	}
}

// noteSummary prints the end's figures for people: only what is not zero.
func (a *app) noteSummary(verb string, s summaryEvent) {
	l := s.Ledger
	text := fmt.Sprintf("%d accepted, %d done", l.Accepted, l.Done)
	add := func(n uint64, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	if r := s.Received; r != nil {
		text = fmt.Sprintf("%d delivered, %d done", r.Delivered, r.Done)
		add(r.Nacked, "given back by the handler")
		add(r.Redelivered, "delivered again")
		add(r.Gaps, "in gaps")
	}
	add(l.Carried, "carried over")
	add(l.Handed, "handed over")
	add(l.Queued+l.Leased, "owed")
	add(l.Dead, "dead")
	add(l.Expired, "expired")
	for _, reason := range reasons(l.Dropped) {
		add(l.Dropped[reason], "dropped ("+reason+")")
	}
	a.note("%s: %s", verb, text)
}
