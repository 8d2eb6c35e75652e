package zmtp

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/patterns"
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
	other.silent() // it answers PINGs
	if got := push.Stats().Ledger; got.Done != 1 {
		t.Errorf("got %+v", got)
	}
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
	other.silent() // it answers PINGs
	if got := push.Stats().Ledger; got.Done != 6 {
		t.Errorf("got %+v", got)
	}
}

func TestWithoutAPeerWorkIsForOthers(t *testing.T) {
	l := begin(t, Endpoint{Type: PUSH})
	q := l.peer(PULL, "")
	push := l.push()
	l.sendTo(push, "first")
	q.expect("first")
	q.silent()
	q.leave()
	other, err := node.Open(t.Context(), node.Config{MeshPEM: testMesh(), NoMDNS: true, Listen: "127.0.0.1:0", Peers: []string{l.n.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}()
	pull := must(other.Pull("name"))
	for range 10 {
		l.sendTo(push, "work")
	}
	for _, m := range l.received(pull.Recv, 10) {
		if m.Redelivered() {
			t.Errorf("message %d went to the bridge first", m.Seq())
		}
	}
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
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 12 {
			q.send(block)
		}
	}()
	l.await("the disk is full", func(s Stats) bool { return s.Stalled > 0 })
	l.received(must(n.Pull("name")).Recv, 12)
	<-done
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
