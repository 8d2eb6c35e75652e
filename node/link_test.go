package node_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/socket"
)

// again is another connection of the same rogue.
func (r *rogue) again() *rogue {
	twin := *r
	twin.conn, twin.ctl = nil, nil
	return &twin
}

// try dials and says the HELLO as edited. It returns what the node answers after its
// own.
func (r *rogue) try(name string, edit func(*wire.Hello)) (wire.Type, []byte) {
	r.s.Helper()
	h := r.myHello(name)
	edit(&h)
	r.dial().open(wire.AppendHello(nil, h))
	if t, _ := r.hear(); t != wire.TypeHello {
		r.s.Fatalf("frame %#x, want HELLO", t)
	}
	return r.hear()
}

// refusedWith asserts that the answer is a refusal with that code, and that the node
// then ends the connection with the same.
func (r *rogue) refusedWith(t wire.Type, payload []byte, code identity.Code) wire.Refused {
	r.s.Helper()
	f, err := wire.ParseRefused(payload)
	if t != wire.TypeRefused || err != nil || f.Code != string(code) || f.Reason == "" || !printable(f.Reason) {
		r.s.Errorf("frame %#x %+v, %v, want REFUSED (%s)", t, f, err, code)
	}
	if got, text := r.ended(); got < codeRefused || text != f.Reason {
		r.s.Errorf("closed with %d %q, want a refusal for %q", got, text, f.Reason)
	}
	return f
}

func TestHelloThatContradictsTheCertificateIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code identity.Code
		edit func(*wire.Hello)
	}{
		"another node":         {identity.CodeIdentity, func(h *wire.Hello) { h.Node[0]++ }},
		"another name":         {identity.CodeIdentity, func(h *wire.Hello) { h.Name = "somebody" }},
		"NUL in the name":      {identity.CodeIdentity, func(h *wire.Hello) { h.Name += "\x00" }},
		"ANSI in the name":     {identity.CodeIdentity, func(h *wire.Hello) { h.Name = "\x1b]0;owned\x07" }},
		"another namespace":    {identity.CodeIdentity, func(h *wire.Hello) { h.Namespace = "other" }},
		"ANSI for a namespace": {identity.CodeIdentity, func(h *wire.Hello) { h.Namespace = "\x1b[2J" }},
		"another mesh":         {identity.CodeMesh, func(h *wire.Hello) { h.Mesh[0]++ }},
		"another version":      {identity.CodeVersion, func(h *wire.Hello) { h.Version++ }},
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow)
				typ, payload := r.try("r", c.edit)
				r.refusedWith(typ, payload, c.code)
				if e := s.last(r.id); e.State != node.Refused || e.Code != c.code || e.Reason == "" || e.Remote || e.Name != "r" {
					t.Errorf("event %+v", e)
				}
			})
		})
	}
}

func TestPeersOwnWordsAreCleanedBeforeTheyAreTold(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		ugly := "\x1b[31m\x00\x07ugly\r\n\u202e"
		r.say(wire.AppendRefused(nil, wire.Refused{Code: ugly, Reason: ugly}))
		if e := s.last(r.id); e.State != node.Refused || !e.Remote || e.Reason == "" {
			t.Errorf("event %+v", e)
		}
		r.conn.CloseWithError(3, ugly)
		if e := s.last(r.id); e.State != node.Down {
			t.Errorf("event %+v", e)
		}
		r = r.again().dial()
		r.open(wire.AppendRefused(nil, wire.Refused{Code: ugly, Reason: ugly}))
		r.ended()
		r = r.again().dial()
		r.conn.CloseWithError(codeRefused, ugly)
		s.last(r.id)
	})
}

func TestRefusalFloodPushesOutNobodysEvents(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		for range 5000 {
			r.say(wire.AppendRefused(nil, wire.Refused{Code: "policy", Reason: "no"}))
		}
		count := 0
		for _, e := range s.told() {
			if e.State == node.Refused {
				count++
			}
		}
		if count == 0 || count > 200 {
			t.Errorf("%d of 5000 refusals were told", count)
		}
		if n := s.n.EventsDropped(); n != 0 {
			t.Errorf("%d events were dropped", n)
		}
		if !r.linked() {
			t.Error("the link was cut")
		}
	})
}

func TestOfTwoLinksOfOneProcessTheNewerNumberStays(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		number := func(n uint64) func(*wire.Hello) { return func(h *wire.Hello) { h.Link = n } }
		first := s.rogue("r", higher).link("r", number(5)) // the node decides
		for _, n := range []uint64{0, 1, 4, 5} {
			r := first.again()
			typ, payload := r.try("r", number(n))
			r.refusedWith(typ, payload, identity.CodeSuperseded)
		}
		if first.conn.Context().Err() != nil {
			t.Fatal("an older number ended the link")
		}
		second := first.again()
		if typ, _ := second.try("r", number(6)); typ != wire.TypeWelcome {
			t.Fatalf("frame %#x, want WELCOME", typ)
		}
		if code, _ := first.ended(); code != codeRefused+8 {
			t.Errorf("the older link was closed with %d, want superseded", code)
		}
		for _, e := range s.told() {
			if e.ID == first.id && e.State != node.Up {
				t.Errorf("the peer never was away, but %+v", e)
			}
		}
		if n, _, up := s.n.LinkTo(first.id); n != 6 || !up {
			t.Errorf("link %d, up %v", n, up)
		}
	})
}

func TestWelcomeOfAnOlderLinkThatComesLateIsRefused(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", lower) // it decides
		late := r.again().dial()
		h := r.myHello("r")
		late.open(wire.AppendHello(nil, h))
		late.hear()
		r.link("r", func(h *wire.Hello) { h.Link = 2 })
		late.say(wire.AppendWelcome(nil, wire.Welcome{}))
		typ, payload := late.hear()
		late.refusedWith(typ, payload, identity.CodeSuperseded)
		if n, _, up := s.n.LinkTo(r.id); n != 2 || !up {
			t.Errorf("link %d, up %v, want the newer", n, up)
		}
	})
}

func TestTheSameIdentityTwice(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		as := func(incarnation uint64, nonce byte) func(*wire.Hello) {
			return func(h *wire.Hello) { h.Incarnation, h.Nonce, h.Link = incarnation, [16]byte{nonce}, 9 }
		}
		first := s.rogue("r", higher).link("r", as(5, 1))
		for _, c := range []struct {
			incarnation uint64
			code        identity.Code
		}{{5, identity.CodeDuplicate}, {4, identity.CodeIncarnation}, {1, identity.CodeIncarnation}, {0, identity.CodeIncarnation}} {
			r := first.again()
			typ, payload := r.try("r", as(c.incarnation, 2))
			if f := r.refusedWith(typ, payload, c.code); f.Seen != 5 {
				t.Errorf("incarnation %d: told %d as the highest seen, want 5", c.incarnation, f.Seen)
			}
		}
		if first.conn.Context().Err() != nil {
			t.Fatal("a duplicate ended the link")
		}
		second := first.again()
		if typ, _ := second.try("r", as(6, 2)); typ != wire.TypeWelcome {
			t.Fatalf("frame %#x, want WELCOME", typ)
		}
		if code, _ := first.ended(); code != codeRefused+8 {
			t.Errorf("the earlier life was closed with %d, want superseded", code)
		}
		var states []node.PeerState
		for _, e := range s.told() {
			if e.ID == first.id && e.State != node.Refused {
				states = append(states, e.State)
			}
		}
		if fmt.Sprint(states) != "[up down up]" {
			t.Errorf("events %v, want up, down and up", states)
		}
	})
}

func TestOldCopyOfANodeThatLeftIsRefusedWithTheHighestSeen(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		as := func(incarnation uint64, nonce byte) func(*wire.Hello) {
			return func(h *wire.Hello) { h.Incarnation, h.Nonce = incarnation, [16]byte{nonce} }
		}
		r := s.rogue("r", higher).link("r", as(5, 1))
		r.conn.CloseWithError(codeBye, "")
		settle()
		for _, incarnation := range []uint64{5, 4, 1, 0} {
			r = r.again()
			typ, payload := r.try("r", as(incarnation, 2))
			if f := r.refusedWith(typ, payload, identity.CodeIncarnation); f.Seen != 5 {
				t.Errorf("incarnation %d: told %d as the highest seen, want 5", incarnation, f.Seen)
			}
		}
		for _, h := range []func(*wire.Hello){as(5, 1), as(6, 2)} { // the same process, and the next
			r = r.again()
			r.link("r", h, func(h *wire.Hello) { h.Link = 99 })
			r.conn.CloseWithError(codeBye, "")
			settle()
		}
	})
}

func TestUpAndDownTakeTurns(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow)
		const count = 50
		for range count {
			r = r.again().link("r", func(h *wire.Hello) { h.Link = 1 << 20 })
			r.conn.CloseWithError(codeBye, "")
			settle()
		}
		want := node.Up
		n := 0
		for _, e := range s.told() {
			if e.ID != r.id {
				continue
			}
			if e.State != want {
				t.Fatalf("event %d is %v, want %v", n, e.State, want)
			}
			n++
			if want = node.Down; e.State == node.Down {
				want = node.Up
			}
		}
		if n != 2*count {
			t.Errorf("%d events, want %d", n, 2*count)
		}
	})
}

func TestPeerOfAnotherNamespaceReachesNoSocket(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		other := s.mesh.Node("other", func(c *node.Config) { c.Namespace = "elsewhere" })
		s.mesh.AwaitLinks(s.n, other)
		req, err := other.Req("echo")
		if err != nil {
			t.Fatal(err)
		}
		if err := req.WaitReady(within(t, time.Minute), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a service of another namespace: %v, want none", err)
		}
		// Nor by the back door.
		r := s.rogue("r", anyhow)
		var err2 error
		pub, key := newKey(t)
		r.id, r.key = identity.IDOf(pub), key
		if r.chain, err2 = meshOf(t, s.pem).Issue(pub, identity.Claims{Namespace: "elsewhere", Name: "r"}, time.Now(), time.Hour); err2 != nil {
			t.Fatal(err2)
		}
		r.link("r", func(h *wire.Hello) { h.Namespace = "elsewhere" })
		st := r.stream(wire.AppendAttach(nil, r.attach(wire.Offer{Socket: 1, Kind: wire.Rep, Name: "echo"})))
		if typ, _, err := socket.ReadFrame(st, 1<<10); err != nil || typ != wire.TypeRejected {
			t.Errorf("frame %#x, %v, want REJECTED", typ, err)
		}
	})
}

func TestPeersThatLeaveAreGivenTimeAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
		a, b := m.Node("a"), m.Node("b")
		jobs, err := a.Push("jobs")
		if err != nil {
			t.Fatal(err)
		}
		work, err := b.Pull("jobs")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := jobs.Send(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		begun, err := work.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(30*time.Second, func() { begun.Ack() })
		began := time.Now()
		if err := b.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("it took %v to finish what was begun, want some 30 s", took)
		}
		if l := jobs.Stats().Ledger; l.Done != 1 || l.Queued != 9 || !l.Balanced() {
			t.Errorf("ledger %+v, want what was begun done and the rest back", l)
		}
	})
}

func TestCloseDoesNotWaitForPeersThatNeverAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, mesh: meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})}
		s.n = s.mesh.Node("n", func(c *node.Config) { s.pem = c.MeshPEM })
		if _, err := s.n.Pull("jobs"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.n.Push("x"); err != nil {
			t.Fatal(err)
		}
		r := s.rogue("r", anyhow).link("r")
		r.pipe("jobs")
		r.receiver(wire.Offer{Socket: 1, Kind: wire.Pull, Name: "x"}, func(a wire.Attach) wire.Attached {
			return wire.Attached{Number: a.Number, Store: r.nonce, Nonce: r.nonce}
		})
		r.stream([]byte{byte(wire.TypeAttach)})
		s.rogue("r2", lower).dial().open(nil)
		r3 := s.rogue("r3", lower)
		r3.dial().open(wire.AppendHello(nil, r3.myHello("r3")))
		settle()
		began := time.Now()
		if err := s.n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("close took %v", took)
		}
		if err := s.n.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
		if code, _ := r.ended(); code != codeBye {
			t.Errorf("the link was closed with %d", code)
		}
	})
}

func TestIdleLinkLastsForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: 20 * time.Millisecond, Loss: 0.05}})
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		since := a.Peers()[0].Since
		time.Sleep(time.Hour)
		if p := a.Peers(); len(p) != 1 || !p[0].Since.Equal(since) {
			t.Errorf("after an hour a has %+v, want the link since %v", p, since)
		}
		if rtt := a.Peers()[0].RTT; rtt < 40*time.Millisecond || rtt > time.Second {
			t.Errorf("round trip %v, want some 40ms", rtt)
		}
		// Events begin with those who are there.
		for e := range a.Events(t.Context()) {
			if e.State != node.Up || e.ID != b.ID() {
				t.Errorf("first event %+v", e)
			}
			break
		}
	})
}

func TestALinkAtRestHasFewGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
		a := m.Node("a", func(c *node.Config) { c.Peers = []string{m.Addr("b")} })
		b := m.Node("b", func(c *node.Config) { c.Peers = nil })
		m.AwaitLinks(a, b)
		time.Sleep(time.Minute + time.Second) // heartbeats come and go
		synctest.Wait()
		text := make([]byte, 1<<20)
		text = text[:runtime.Stack(text, true)]
		bubble := regexp.MustCompile(`synctest bubble \d+`).Find(text) // the first goroutine is this one
		var found []string
		for _, g := range strings.Split(string(text), "\n\n") {
			head, _, _ := strings.Cut(g, "\n")
			if strings.Contains(head, string(bubble)+"]") && (strings.Contains(g, "node.(*link).") || strings.Contains(g, "node.(*Node).findLink")) {
				found = append(found, g)
			}
		}
		if len(found) != 4 {
			t.Errorf("%d goroutines, want two at each end:\n%s", len(found), strings.Join(found, "\n\n"))
		}
	})
}

// collect gathers a node's events until it closes.
func collect(n *node.Node) func() []node.PeerEvent {
	var mu sync.Mutex
	var all []node.PeerEvent
	go func() {
		for e := range n.Events(context.Background()) {
			mu.Lock()
			all = append(all, e)
			mu.Unlock()
		}
	}()
	return func() []node.PeerEvent {
		mu.Lock()
		defer mu.Unlock()
		return append([]node.PeerEvent(nil), all...)
	}
}

func TestPairsThatDialAtOnceHaveOneLinkAndTheSame(t *testing.T) {
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(uint64(round), 7))
			m := meshtest.New(t, meshtest.Config{Seed: uint64(round), Link: meshtest.Link{
				Delay: time.Duration(chance.IntN(300)) * time.Millisecond, Jitter: time.Duration(chance.IntN(5)) * time.Millisecond}})
			first := m.Node("a", func(c *node.Config) { c.Peers = []string{m.Addr("b")} })
			told := []func() []node.PeerEvent{collect(first)}
			time.Sleep(time.Duration(chance.IntN(3)) * 100 * time.Millisecond)
			second := m.Node("b")
			told = append(told, collect(second))
			time.Sleep(20 * time.Second)
			na, da, upA := first.LinkTo(second.ID())
			nb, db, upB := second.LinkTo(first.ID())
			if !upA || !upB || na != nb || da == db {
				t.Fatalf("round %d: a has link %d (dialled %v, up %v), b link %d (dialled %v, up %v)", round, na, da, upA, nb, db, upB)
			}
			for i, f := range told {
				if e := f(); len(e) != 1 || e[0].State != node.Up {
					t.Errorf("round %d: node %d saw %+v, want one up", round, i, e)
				}
			}
			if a, b := first.Peers()[0].Since, second.Peers()[0].Since; a.Sub(b).Abs() > 2*time.Second {
				t.Errorf("round %d: up since %v and %v", round, a, b)
			}
		})
	}
}

func TestPeerRestartedAtItsAddressIsLinkedAgainSoon(t *testing.T) {
	for _, c := range []struct {
		name   string
		kill   bool
		within time.Duration
	}{
		{"after a close", false, 3 * time.Second},
		{"after a crash", true, 14 * time.Second}, // 10 s until it is noticed
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: 5 * time.Millisecond}})
				a := m.Node("a", func(c *node.Config) { c.Peers = []string{m.Addr("b")} })
				b := m.Node("b", func(c *node.Config) { c.Peers = nil })
				m.AwaitLinks(a, b)
				if c.kill {
					m.Kill(b)
				} else if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = m.Node("b", func(c *node.Config) { c.Peers = nil }) // only a dials
				began := time.Now()
				m.AwaitLinks(a, b)
				if took := time.Since(began); took > c.within {
					t.Errorf("linked again after %v, want within %v", took, c.within)
				}
			})
		})
	}
}

func TestPing(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		if rtt, err := s.n.Ping(within(t, time.Second), s.honest.ID()); err != nil || rtt < 2*time.Millisecond || rtt > 100*time.Millisecond {
			t.Errorf("ping: %v, %v, want some 2ms", rtt, err)
		}
		if _, err := s.n.Ping(within(t, time.Second), node.ID{1}); err == nil {
			t.Error("ping of a stranger succeeded")
		}
		var wg sync.WaitGroup
		for range 500 { // each gets its own answer, however many are out
			wg.Go(func() {
				if _, err := s.n.Ping(within(t, 10*time.Second), s.honest.ID()); err != nil {
					t.Errorf("ping: %v", err)
				}
			})
		}
		wg.Wait()
		r := s.rogue("r", anyhow).link("r") // never answers
		if _, err := s.n.Ping(within(t, time.Second), r.id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ping without an answer: %v", err)
		}
		time.AfterFunc(time.Second, func() { r.conn.CloseWithError(codeBye, "") })
		if _, err := s.n.Ping(within(t, time.Minute), r.id); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ping over a link that ended: %v", err)
		}
	})
}

func TestNodeThatClosesInMidHandshakeIsNotTakenForUp(t *testing.T) {
	for range 10 { // whichever of the two has the lower id
		synctest.Test(t, func(t *testing.T) {
			m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: 20 * time.Millisecond}})
			b := m.Node("b")
			a := m.Node("a")
			var up time.Time
			for e := range a.Events(within(t, time.Minute)) {
				if e.State == node.Up {
					up = time.Now()
					go b.Close()
					continue
				}
				if took := time.Since(up); e.State != node.Down || took > 5*time.Second {
					t.Errorf("%+v after %v", e, took)
				}
				return
			}
			t.Errorf("%v after it closed a is linked to %+v", time.Since(up), a.Peers())
		})
	}
}
