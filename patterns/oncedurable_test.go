package patterns

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// asking makes a request in the background.
func asking(ctx context.Context, q *Req, body string) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		got, err := q.Request(ctx, []byte(body))
		out <- answer{got, err}
	}()
	return out
}

type answer struct {
	body []byte
	err  error
}

// echo executes: it counts, and answers. What a killed process does never happened.
func echo(ran *executions) func(*life) ReplyFunc {
	return func(l *life) ReplyFunc {
		return func(_ context.Context, m *socket.Message) ([]byte, error) {
			if l.dead() {
				return nil, errDead
			}
			ran.count(m.Body)
			return append([]byte("re: "), m.Body...), nil
		}
	}
}

// A replier is killed at each step of a request, and comes back.
func TestAKilledReplierNeverExecutesTwiceAndTellsTheTruth(t *testing.T) {
	for _, c := range []struct {
		name string
		land []int // what comes to the disk and is told, step by step
		dies int   // what comes to the disk with its death
		want socket.Outcome
		runs int // in the first life
		all  int // in both
	}{
		{"before STARTED is on disk", nil, 0, wire.OK, 0, 1},
		{"between STARTED and the execution", nil, 1, wire.Indeterminate, 0, 0},
		{"after the execution, before the reply is on disk", []int{1}, 0, wire.Indeterminate, 1, 1},
		{"after the reply is on disk, before it is sent", []int{1}, 1, wire.OK, 1, 1},
		{"after the reply is sent", []int{1, 1}, 0, wire.OK, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var ran executions
				a, b := newNode(t, 'a'), newNode(t, 'b')
				q := a.req(Executed(OnceDurable))
				l := born(b, 1, newDisk(), a, q, echo(&ran))
				ready(t, q, 1)
				l.disk.hold()
				got := asking(long(t), q, "x")
				synctest.Wait()
				for _, n := range c.land {
					l.disk.land(n)
					synctest.Wait()
				}
				equal(t, "executed before", ran.of("x"), c.runs)
				next := l.kill(c.dies)
				time.Sleep(time.Minute)
				l2 := born(b, 2, next, a, q, echo(&ran))
				r := <-got
				outcome(t, "the request", r.err, c.want)
				if c.want == wire.OK {
					equal(t, "reply", string(r.body), "re: x")
				}
				equal(t, "executed", ran.of("x"), c.all)
				time.Sleep(time.Minute)
				l2.link.cut()
				time.Sleep(time.Minute)
				same(t, "on disk at the end", l2.disk.requests(), map[uint64]byte{})
				equal(t, "answered afterwards", (<-asking(long(t), q, "y")).err, nil)
				balanced(t, q)
			})
		})
	}
}

func TestARequestIsIndeterminateWhenItsReplierDiesWithTheHandlerRunning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran executions
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q := a.req(Executed(OnceDurable))
		slow := func(l *life) ReplyFunc {
			return func(ctx context.Context, m *socket.Message) ([]byte, error) {
				if !l.dead() {
					ran.count(m.Body)
				}
				time.Sleep(time.Second)
				return nil, nil
			}
		}
		l := born(b, 1, newDisk(), a, q, slow)
		ready(t, q, 1)
		got := asking(long(t), q, "x")
		time.Sleep(time.Second / 2)
		next := l.kill(9)
		time.Sleep(5 * time.Minute) // nothing but the replier or the deadline says what became of it
		select {
		case r := <-got:
			t.Fatalf("it ended with %v while the replier was away", r.err)
		default:
		}
		born(b, 2, next, a, q, slow)
		outcome(t, "the request", (<-got).err, wire.Indeterminate)
		equal(t, "executed", ran.of("x"), 1)
	})
}

// Only what the same store says is not there may be asked again.
func TestARequestInDoubtIsAskedAgainOnlyWhenTheSameStoreSaysThatItIsNotThere(t *testing.T) {
	for _, c := range []struct {
		name string
		disk func(*disk) *disk
		want socket.Outcome
		runs int
	}{
		{"the same store", func(d *disk) *disk { return d }, wire.OK, 1},
		{"the same store, which has lost its records", func(*disk) *disk { return newDisk() }, wire.Indeterminate, 0},
		{"another store", nil, wire.Indeterminate, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var ran executions
				a, b, other := newNode(t, 'a'), newNode(t, 'b'), newNode(t, 'c')
				q := a.req(Executed(OnceDurable))
				l := born(b, 1, newDisk(), a, q, echo(&ran))
				ready(t, q, 1)
				l.disk.hold()
				got := asking(long(t), q, "x")
				synctest.Wait()
				next := l.kill(0)
				born(other, 1, newDisk(), a, q, echo(&ran))
				ready(t, q, 1)
				time.Sleep(time.Minute)
				equal(t, "executed by another while it is in doubt", ran.of("x"), 0)
				if c.disk == nil {
					b.local.Store[5]++
					l2 := newNode(t, 'b')
					l2.local.Store, l2.local.Incarnation, l2.local.Nonce[2] = b.local.Store, 2, 2
					connect(a, q, l2, storing(l2))
				} else {
					born(b, 2, c.disk(next), a, q, echo(&ran))
				}
				r := <-got
				outcome(t, "the request", r.err, c.want)
				equal(t, "executed", ran.of("x"), c.runs)
			})
		})
	}
}

// storing is a replier with an empty disk.
func storing(n *node) *Rep {
	env := n.env()
	return made(n.TB, &Rep{&receiver{env: env, kind: wire.Rep, name: "x", box: socket.NewInbox(socket.InboxConfig{
		Local: n.local, Kind: wire.Rep, Name: "x", Replies: newDisk(), NoteName: diskName})}}, nil)
}

func TestAReplierWithoutADirectoryRefusesOnceDurable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q, r := a.req(Executed(OnceDurable)), b.rep()
		l := connect(a, q, b, r)
		_, err := q.Request(within(t, time.Second), nil)
		outcome(t, "the request", err, wire.Failed)
		l.mu.Lock()
		defer l.mu.Unlock()
		var refusal *socket.Rejection
		if len(l.errs) == 0 || !errors.As(l.errs[0], &refusal) || refusal.Code != socket.CodeNoDir || !refusal.Remote {
			t.Errorf("the pipe ended with %v", l.errs)
		}
	})
}

func TestAReplierWhoseDiskFailsExecutesNothingMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran executions
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q := a.req(Executed(OnceDurable))
		l := born(b, 1, newDisk(), a, q, echo(&ran))
		ready(t, q, 1)
		equal(t, "before", (<-asking(long(t), q, "x")).err, nil)
		l.disk.killed(0)
		_, err := q.Request(within(t, time.Second), []byte("y"))
		outcome(t, "the request", err, wire.Indeterminate)
		equal(t, "executed", ran.of("y"), 0)
		matches(t, "ServeRequests", l.rep.ServeRequests(t.Context(), nil), socket.ErrStorage)
	})
}

func TestARequestWhoseDeadlinePassesWhileItIsWrittenDownIsNotExecuted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran executions
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q := a.req(Executed(OnceDurable))
		l := born(b, 1, newDisk(), a, q, echo(&ran))
		ready(t, q, 1)
		l.disk.hold()
		_, err := q.Request(within(t, time.Second), []byte("x"))
		outcome(t, "the request", err, wire.Indeterminate)
		matches(t, "the request", err, context.DeadlineExceeded)
		l.disk.release()
		time.Sleep(time.Minute)
		equal(t, "executed", ran.of("x"), 0)
		equal(t, "answered afterwards", (<-asking(long(t), q, "y")).err, nil)
	})
}

func TestAReplierThatShutsDownWaitsUntilItsRepliesAreOnDiskAndRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran executions
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q := a.req(Executed(OnceDurable))
		l := born(b, 1, newDisk(), a, q, echo(&ran))
		ready(t, q, 1)
		l.disk.hold()
		got := asking(long(t), q, "x")
		synctest.Wait()
		l.disk.land(1) // STARTED
		ended := make(chan error, 1)
		go func() { ended <- l.rep.Shutdown(long(t)) }()
		time.Sleep(time.Minute)
		if len(ended) > 0 {
			t.Fatalf("it ended with %v and a reply that is not on disk", <-ended)
		}
		l.disk.release()
		r := <-got
		equal(t, "reply", fmt.Sprint(string(r.body), " ", r.err), "re: x <nil>")
		equal(t, "Shutdown", <-ended, nil)
		l2 := born(b, 2, l.kill(0), a, q, echo(&ran)) // it had left before the requester could confirm
		time.Sleep(time.Minute)
		same(t, "on disk when the requester has met its next life", l2.disk.requests(), map[uint64]byte{})
	})
}

// Requests wait for their service at every level.
func TestRequestsToAServiceThatIsDownAreAnsweredWhenItIsBack(t *testing.T) {
	for _, level := range []Execution{Once, Idempotent, OnceDurable} {
		bubble(t, func(t *testing.T) {
			var ran executions
			a, b := newNode(t, 'a'), newNode(t, 'b')
			q := a.req(Executed(level))
			l := born(b, 1, newDisk(), a, q, echo(&ran))
			ready(t, q, 1)
			next := l.kill(0)
			var got []<-chan answer
			for i := range 10 {
				got = append(got, asking(long(t), q, fmt.Sprint(i)))
			}
			time.Sleep(20 * time.Minute)
			_, err := q.Request(within(t, time.Second), []byte("short"))
			outcome(t, "one that could not wait", err, wire.Failed)
			born(b, 2, next, a, q, echo(&ran))
			for i, r := range got {
				r := <-r
				same(t, fmt.Sprint("level ", level, ", request ", i), fmt.Sprintf("%s, %v", r.body, r.err), fmt.Sprintf("re: %d, <nil>", i))
				equal(t, "executed", ran.of(fmt.Sprint(i)), 1)
			}
			equal(t, "executed", ran.of("short"), 0)
			balanced(t, q)
		})
	}
}

func (k *kept) req(opts ...Option) *Req {
	k.Helper()
	env := k.env()
	env.Seqs = k.store
	s, err := NewReq(env, "x", opts...)
	return made(k.TB, s, err)
}

func (k *kept) rep(opts ...Option) *Rep {
	k.Helper()
	s, err := NewRep(k.env(), "x", opts...)
	return made(k.TB, s, err)
}

// A requester's own end is the end of its requests; its replier's disk does not keep them.
func TestAKilledRequesterLeavesNothingAndUsesNoSeqTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		seqs := map[uint64]string{}
		handler := func(_ context.Context, m *socket.Message) ([]byte, error) {
			if before, twice := seqs[m.Seq()]; twice {
				t.Errorf("seq %d is %q and %q", m.Seq(), before, m.Body)
			}
			seqs[m.Seq()] = string(m.Body)
			return make([]byte, 3<<20), nil // some parts, more than the requester has room for
		}
		r := b.rep()
		serving(t, r, handler)
		for i := range 3 {
			q := a.req(Executed(OnceDurable))
			l := connect(a.node, q, b.node, r)
			ready(t, q, 1)
			body, err := q.Request(long(t), fmt.Append(nil, i))
			if err != nil || len(body) != 3<<20 {
				t.Fatalf("%d bytes, %v", len(body), err)
			}
			asking(within(t, 5*time.Minute), q, fmt.Sprint(i, " too"))
			synctest.Wait()
			next := a.killed()
			l.part()
			a = next
		}
		q := a.req(Executed(OnceDurable))
		connect(a.node, q, b.node, r)
		ready(t, q, 1)
		time.Sleep(5 * time.Second)
		n := 0
		for range b.store.Notes(queueName("rep", "test", "x")) {
			n++
		}
		equal(t, "notes on the replier's disk: the stream's", n, 1)
	})
}

func TestAStoredReplyOutlivesItsReplierOnARealDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran executions
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		stored, hang := make(chan struct{}), make(chan struct{})
		q, r := a.req(Executed(OnceDurable)), b.rep(OnDone(func(m *socket.Message) {
			if string(m.Body) == "stored" {
				close(stored)
			}
		}))
		serving(t, r, func(_ context.Context, m *socket.Message) ([]byte, error) {
			ran.count(m.Body)
			if string(m.Body) == "stored" {
				<-hang
			} else {
				<-t.Context().Done()
			}
			return make([]byte, 5<<20), nil
		})
		l := connect(a.node, q, b.node, r)
		ready(t, q, 1)
		first, second := asking(long(t), q, "stored"), asking(long(t), q, "running")
		synctest.Wait()
		l.part()
		close(hang)
		<-stored
		b2 := b.killed()
		r2 := b2.rep()
		serving(t, r2, func(_ context.Context, m *socket.Message) ([]byte, error) {
			ran.count(m.Body)
			return nil, nil
		})
		connect(a.node, q, b2.node, r2)
		got := <-first
		if got.err != nil || len(got.body) != 5<<20 {
			t.Errorf("the stored one: %d bytes, %v", len(got.body), got.err)
		}
		outcome(t, "the running one", (<-second).err, wire.Indeterminate)
		equal(t, "executed", ran.of("stored")+ran.of("running"), 2)
		equal(t, "and then", (<-asking(long(t), q, "next")).err, nil)
	})
}
