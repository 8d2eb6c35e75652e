package zmtp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

func TestWhatAPeerMayNotHaveReadGoesToAnother(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH})
	deaf := l.peer(PULL, "")
	deaf.deaf = true
	push := l.push()
	l.sendTo(push, "a")
	deaf.expect("a") // and its library does not say so
	other := l.peer(PULL, "")
	deaf.leave()
	other.expect("a")
	other.confirmed(1)
	other.silent()
	l.await("it is done", func(Stats) bool { return push.Stats().Ledger.Done == 1 })
}

func TestWhatWasNotSentGoesToAnother(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH, Queue: 6})
	deaf := l.peer(PULL, "")
	deaf.deaf = true
	push := l.push()
	l.sendTo(push, slices.Repeat([]string{block}, 6)...)
	l.await("some wait", func(s Stats) bool { return s.Waiting > 0 && s.Waiting+s.Owed == 6 })
	other := l.peer(PULL, "")
	deaf.leave()
	for range 6 {
		other.expect(block)
	}
	other.confirmed(6)
	other.silent()
	l.await("all are done", func(Stats) bool { return push.Stats().Ledger.Done == 6 })
}

func TestAMessageThatCameBeforeTheLaneOfItsConnectionIsQueuedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(Endpoint{Type: PUSH, Profile: Classic, Queue: 2, QueueBytes: 10})
		queued := make(chan error, 1)
		go func() {
			_, err := h.assign(t.Context(), []outgoing{{message: message{[]byte("a")}, bytes: 1}}, false)
			queued <- err
		}()
		synctest.Wait() // it waits
		h.standing()
		if err := <-queued; err != nil || h.snapshot().Waiting != 1 {
			t.Errorf("got %v, %+v", err, h.snapshot())
		}
	})
}

func TestWithoutAPeerWorkIsForOthers(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH})
	q := l.peer(PULL, "")
	push := l.push()
	l.sendTo(push, "first")
	q.expect("first")
	q.confirmed(1)
	l.await("it is done", func(Stats) bool { return push.Stats().Ledger.Done == 1 })
	q.leave()
	pull := l.neighbour().pull()
	for range 10 {
		l.sendTo(push, "work")
	}
	for _, m := range l.received(pull.Recv, 10) {
		if m.Redelivered() {
			t.Errorf("message %d went to the bridge first", m.Seq())
		}
	}
}

// neighbour is another node of the mesh, without a bridge.
func (l *lab) neighbour() *lab {
	l.Helper()
	n, err := node.Open(l.Context(), node.Config{MeshPEM: testMesh(), NoMDNS: true, Listen: "127.0.0.1:0", Peers: []string{l.n.Addr().String()}})
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		if err := n.Close(); err != nil {
			l.Error(err)
		}
	})
	return &lab{T: l.T, n: n}
}

func TestShutdownWaitsForPeersAndForTheMesh(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH})
	q := l.peer(PULL, "")
	push := l.push()
	for _, n := range numbered(100) {
		l.sendTo(push, n)
	}
	l.await("the last one is there", func(s Stats) bool { return s.Waiting+s.Owed == 100 })
	done := make(chan error, 1)
	go func() { done <- l.b.Shutdown(t.Context()) }()
	for _, n := range numbered(100) {
		q.expect(n)
	}
	for q.poll(patience) == nil { // answers PINGs to the end
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := push.Stats().Ledger; got.Done != 100 {
		t.Errorf("got %+v", got)
	}
}

func TestTheLedgerHasWhatPeersHaveBrought(t *testing.T) {
	l := begin(t, Endpoint{Type: PULL})
	q := l.peer(PUSH, "")
	q.send("a")
	q.send("b")
	pull := l.pull()
	l.received(pull.Recv, 2)
	if err := l.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.b.Ledger(); got.Accepted != 2 || got.Done != 2 {
		t.Errorf("got %+v, want 2 done", got)
	}
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH})
	q := l.peer(PULL, "")
	q.deaf = true
	l.sendTo(l.push(), "a")
	q.expect("a")
	ctx, cancel := context.WithTimeout(t.Context(), quiet)
	defer cancel()
	if err := l.b.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPeersWaitWhileTheDiskIsFull(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{MeshPEM: testMesh(), NoMDNS: true, Listen: "127.0.0.1:0", Dir: t.TempDir(), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	b, err := New(n, Config{Endpoints: []Endpoint{{Bind: "ipc://" + folder(t) + "/b", Type: PULL, Name: "name"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	l := &lab{T: t, n: n, b: b}
	q := l.peer(PUSH, "")
	done := make(chan error, 1)
	go func() {
		_, err := q.net.Write(bytes.Repeat(appendMessage(nil, raw([]string{block})), 12))
		done <- err
	}()
	l.await("the disk is full", func(s Stats) bool { return s.Stalled > 0 })
	l.received(must(n.Pull("name")).Recv, 12)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := l.stats(); len(got.Dropped) > 0 {
		t.Errorf("dropped: %v", got.Dropped)
	}
}

func TestWhatTheMeshDoesNotTakeIsDroppedAndCounted(t *testing.T) {
	l := begin(t, Endpoint{Type: PULL, MaxMessage: 32 << 20})
	q := l.peer(PUSH, "")
	q.send(strings.Repeat("x", node.DefaultMaxMessage+1))
	q.send("small")
	l.received(l.pull().Recv, 1)
	if got := l.stats().Dropped; got[DropRefused] != 1 {
		t.Errorf("dropped: %v", got)
	}
}

func TestAFailedRequestIsAnsweredOnlyIfAsked(t *testing.T) {
	for _, said := range []bool{false, true} {
		e := Endpoint{Type: ROUTER, Timeout: quiet}
		if said {
			e.ErrorReply = func(err error) [][]byte { return [][]byte{[]byte("ERR"), []byte(err.Error())} }
		}
		l := begin(t, e)
		q := l.peer(DEALER, "")
		q.send("", "for nobody")
		if !said {
			l.await("it is counted", func(s Stats) bool { return s.Dropped[DropRequestFail] == 1 })
			continue
		}
		if got := q.recv(); len(got) != 3 || got[1] != "ERR" || !strings.Contains(got[2], patterns.ErrNotExecuted.Error()) {
			t.Errorf("got %q", got)
		}
	}
}

func TestWhatAKilledProcessLeavesOfASocketIsNotInTheWay(t *testing.T) {
	path := folder(t) + "/b"
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen("ipc://" + path); err == nil {
		t.Error("a socket that is in use is taken away")
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listen("ipc://" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhetherARequestWasExecutedIsNotKnownWhenItsPeerLeaves(t *testing.T) {
	for _, p := range []Profile{Durable, Classic} {
		for _, kind := range []Type{REQ, DEALER} {
			l := begin(t, Endpoint{Type: kind, Profile: p})
			q := l.peer(REP, "")
			answers := l.ask(l.req(), "question")
			q.unwrapped()
			q.leave()
			if got := <-answers; !errors.Is(got.err, patterns.ErrIndeterminate) {
				t.Errorf("%v, %v: got %v", p, kind, got.err)
			}
		}
	}
}

// The peer has room for two, and reads none of them.
func TestRequestsThatNoPeerWasAskedAreForOthers(t *testing.T) {
	l := begin(t, Endpoint{Type: DEALER, Concurrency: 10})
	deaf := l.peer(REP, "")
	deaf.deaf = true
	answers := l.ask(l.req(), slices.Repeat([]string{block}, 6)...)
	waiting := l.unwritten(6)
	l.neighbour().service(func(string) string { return "from the mesh" }) // it gets nothing yet: all are begun
	deaf.leave()
	good := 0
	for range 6 {
		switch a := <-answers; {
		case a.err == nil && a.body == "from the mesh":
			good++
		case !errors.Is(a.err, patterns.ErrIndeterminate):
			t.Errorf("got %.40q, %v", a.body, a.err)
		}
	}
	if good != waiting {
		t.Errorf("%d answered, %d were not written", good, waiting)
	}
}

func TestWhatAClassicPeerWasNotSentWasNotExecuted(t *testing.T) {
	l := begin(t, Endpoint{Type: DEALER, Profile: Classic, Concurrency: 10})
	deaf := l.peer(REP, "")
	deaf.deaf = true
	answers := l.ask(l.req(), slices.Repeat([]string{block}, 6)...)
	l.await("some wait", func(s Stats) bool { return s.Waiting > 0 && s.Waiting+s.Owed+int(s.Confirmed) == 6 })
	deaf.leave()
	got := map[socket.Outcome]int{}
	for range 6 {
		got[patterns.OutcomeOf((<-answers).err)]++
	}
	if want := l.stats().Dropped[DropPeerGone]; want == 0 || got[wire.Failed] != int(want) || got[wire.Indeterminate] != 6-int(want) {
		t.Errorf("got %v, and %d were discarded", got, want)
	}
}

func TestGivingBackWithoutAPeerUsesNothingUp(t *testing.T) {
	n := openNode(t)
	l := &lab{T: t, n: n}
	push := l.push(patterns.MaxDeliver(1))
	l.sendTo(push, "a", "b")
	p := &pusher{hub: newHub(Endpoint{Type: PUSH, Profile: Durable}), pull: l.pull(patterns.Prefetch(1))}
	for range 12 {
		m, err := p.pull.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != "a" {
			t.Fatalf("got %q before what was given back", m.Body)
		}
		ms := []*socket.Message{m}
		if err := p.assign(t.Context(), appendOutgoing(nil, ms), ms); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range l.received(p.pull.Recv, 2) {
		if m.Redelivered() != (string(m.Body) == "a") {
			t.Errorf("%q: redelivered %v", m.Body, m.Redelivered())
		}
	}
	if got := push.Stats().Ledger; got.Dead > 0 {
		t.Errorf("got %+v", got)
	}
}
