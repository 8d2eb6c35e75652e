package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

func TestJudge(t *testing.T) {
	one, two := [16]byte{1}, [16]byte{2}
	for _, c := range []struct {
		name     string
		up       *standing
		newcomer standing
		want     verdict
	}{
		{"no link yet", nil, standing{one, 1, 1}, verdict{keep: true}},
		{"no link yet, whatever the number", nil, standing{one, 0, 0}, verdict{keep: true}},
		{"redial of the same process", &standing{one, 5, 1}, standing{one, 5, 2}, verdict{keep: true}},
		{"crossed first dials", &standing{one, 5, 1}, standing{one, 5, 1}, verdict{code: identity.CodeSuperseded}},
		{"an older dial arrives late", &standing{one, 5, 7}, standing{one, 5, 6}, verdict{code: identity.CodeSuperseded}},
		{"the highest number stays", &standing{one, 5, 1<<64 - 1}, standing{one, 5, 1<<64 - 1}, verdict{code: identity.CodeSuperseded}},
		{"its process was restarted", &standing{one, 5, 9}, standing{two, 6, 1}, verdict{keep: true}},
		{"a copy of the directory", &standing{one, 5, 1}, standing{two, 5, 9}, verdict{code: identity.CodeDuplicate}},
		{"an old copy of the directory", &standing{one, 5, 1}, standing{two, 4, 9}, verdict{code: identity.CodeIncarnation}},
		{"the same process with another incarnation", &standing{one, 5, 1}, standing{one, 6, 1}, verdict{code: identity.CodeSuperseded}},
	} {
		if got := judge(c.up, c.newcomer); got != c.want {
			t.Errorf("%s: judge(%+v, %+v) = %+v, want %+v", c.name, c.up, c.newcomer, got, c.want)
		}
	}
}

func TestEveryRefusalCodeCrossesTheWire(t *testing.T) {
	for _, code := range refusalCodes {
		err := explain(&quic.ApplicationError{Remote: true, ErrorCode: closeCode(code), ErrorMessage: "\x1b[31mwhy"})
		if r := refusal(err); r == nil || r.Code != code || !r.Remote || r.Reason != "?[31mwhy" {
			t.Errorf("%s came as %+v", code, err)
		}
	}
	if got := closeCode("unheard of"); got != closeProtocol {
		t.Errorf("an unknown code is closed with %d", got)
	}
}

func TestExplainIsNotFooledByCodesBeyondTheTable(t *testing.T) {
	for _, code := range []quic.ApplicationErrorCode{1, 2, 15, closeRefused + quic.ApplicationErrorCode(len(refusalCodes)),
		closeRefused + 1<<31, closeRefused + 1<<32 - 1, closeRefused + 1<<32, 1<<62 - 1} {
		err := explain(&quic.ApplicationError{Remote: true, ErrorCode: code, ErrorMessage: "\x00"})
		if refusal(err) != nil || errors.Is(err, socket.ErrGone) || strings.ContainsRune(err.Error(), 0) {
			t.Errorf("code %d: %q", code, err)
		}
	}
}

func TestOnlyBYEFreesWhatThePeerHeld(t *testing.T) {
	for _, c := range []struct {
		err  error
		gone bool
	}{
		{&quic.ApplicationError{ErrorCode: closeBye}, true},
		{&quic.ApplicationError{ErrorCode: closeProtocol}, false},
		{&quic.ApplicationError{ErrorCode: closeOverloaded}, false},
		{&quic.IdleTimeoutError{}, false},
		{&quic.StatelessResetError{}, false},
		{&quic.HandshakeTimeoutError{}, false},
		{&quic.TransportError{ErrorCode: quic.ProtocolViolation}, false},
		{context.DeadlineExceeded, false},
		{net.ErrClosed, false},
		{io.EOF, false},
	} {
		if got := errors.Is(explain(c.err), socket.ErrGone); got != c.gone {
			t.Errorf("%v: gone %v, want %v", c.err, got, c.gone)
		}
	}
}

func TestCleanLeavesNothingForATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"plain, with spaces":                "plain, with spaces",
		"zürich 東京":                         "zürich 東京",
		"\x1b]0;title\x07\r\n\t":            "?]0;title????",
		"\x00\x7f\u0085\u009b31m":           "????31m",
		"\xff\xc3\x28":                      "??(",
		"a\u202eb\u2066c\u200bd":            "a?b?c?d",
		"a\u00a0b":                          "a?b",
		strings.Repeat("x", 600):            strings.Repeat("x", 512),
		strings.Repeat("x", 511) + "\u00e9": strings.Repeat("x", 511) + "?",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestHearsayOfWhatIsNoHostIsImplausible(t *testing.T) {
	for addr, want := range map[string][2]bool{ // from a peer on this host, from another
		"192.0.2.1:4477":              {true, true},
		"[2001:db8::1]:4477":          {true, true},
		"127.0.0.1:4477":              {true, false},
		"[::1]:4477":                  {true, false},
		"[::ffff:127.0.0.1]:4477":     {true, false},
		"[::ffff:192.0.2.1]:4477":     {true, true},
		"192.0.2.1:0":                 {false, false},
		"0.0.0.0:4477":                {false, false},
		"[::]:4477":                   {false, false},
		"224.0.0.251:5353":            {false, false},
		"[ff02::fb]:5353":             {false, false},
		"255.255.255.255:4477":        {false, false},
		"[::ffff:255.255.255.255]:99": {false, false},
		"[fe80::1%eth0]:4477":         {false, false},
	} {
		ap := netip.MustParseAddrPort(addr)
		if near, far := plausible(ap, true), plausible(ap, false); near != want[0] || far != want[1] {
			t.Errorf("%s: near %v, far %v, want %v", addr, near, far, want)
		}
	}
}

func TestBucketAllowsABurstAndThenItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket{burst: 10, perSecond: 2}
		takes := func() (n int) {
			for range 100 {
				if b.take() {
					n++
				}
			}
			return n
		}
		for _, c := range []struct {
			wait time.Duration
			want int
		}{{0, 10}, {0, 0}, {time.Second, 2}, {2 * time.Second, 4}, {time.Hour, 10}} {
			time.Sleep(c.wait)
			if got := takes(); got != c.want {
				t.Errorf("after %v: %d, want %d", c.wait, got, c.want)
			}
		}
	})
}

func TestOldestHandshakesMakeRoomForNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		var all []context.Context
		var overs []func()
		for range maxShaking + 10 {
			ctx, over := u.begin(t.Context(), time.Minute)
			all, overs = append(all, ctx), append(overs, over)
		}
		for i, ctx := range all {
			if got, want := context.Cause(ctx), i < 10; errors.Is(got, errCrowded) != want {
				t.Fatalf("handshake %d: %v", i, got)
			}
		}
		for _, over := range overs {
			over()
		}
		if n := u.list.Len(); n != 0 {
			t.Errorf("%d handshakes are left", n)
		}
		slow, over := u.begin(t.Context(), time.Minute)
		defer over()
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := context.Cause(slow); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a minute's handshake after a minute: %v", err)
		}
	})
}

func TestPastIsBoundedButForWhoIsLinked(t *testing.T) {
	n := &Node{past: map[ID]past{}, links: map[ID]*link{}}
	linked := ID{0xff}
	n.links[linked] = &link{}
	n.noteNumber(linked, 7)
	for i := range 5*maxLinks + 1 {
		n.noteNumber(ID{byte(i), byte(i >> 8), byte(i >> 16), 1}, 1)
	}
	if len(n.past) > 4*maxLinks+1 {
		t.Errorf("%d nodes remembered", len(n.past))
	}
	if got := n.past[linked].number; got != 7 {
		t.Errorf("the linked node's number is %d", got)
	}
}

func TestRumoursAreBoundedButNotWhatDiscoveryShows(t *testing.T) {
	n := &Node{rumours: maxRumours - 1, targets: map[string]*target{}, verdicts: map[verdictKey]Candidate{}, links: map[ID]*link{}}
	n.ctx, n.cancel = context.WithCancelCause(t.Context())
	n.cancel(errClosing) // nobody dials
	at := func(i byte, source string) place {
		return place{net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 1)), source, ""}
	}
	aim := func(i byte, source string) { id := ID{i}; n.aim(id.String(), id, at(i, source)) }
	aim(1, sourcePeers)
	aim(2, sourcePeers) // one too many
	aim(3, "mdns")
	aim(1, "mdns") // what was hearsay is shown now
	aim(4, sourcePeers)
	aim(5, sourcePeers) // one too many
	n.wg.Wait()
	for id, want := range map[byte]bool{1: true, 2: false, 3: true, 4: true, 5: false} {
		if got := n.targets[ID{id}.String()] != nil; got != want {
			t.Errorf("node %d is a target: %v, want %v", id, got, want)
		}
	}
	if n.rumours != maxRumours || len(n.verdicts) != 3 {
		t.Errorf("%d rumours, %d candidates, want %d and 3", n.rumours, len(n.verdicts), maxRumours)
	}
	for _, target := range n.targets {
		n.dropTarget(target)
	}
	if n.rumours != maxRumours-1 || len(n.targets) != 0 || len(n.verdicts) != 0 {
		t.Errorf("%d rumours, %d targets, %d candidates are left", n.rumours, len(n.targets), len(n.verdicts))
	}
}

func TestListenersAtTheBoundLoseTheOldestAndCount(t *testing.T) {
	var h hub
	slow, fast := h.listen(nil, false), h.listen(nil, false)
	seen := 0
	for i := range eventBuffer + 100 {
		h.emit(PeerEvent{Name: fmt.Sprint(i)})
		seen += len(h.take(fast))
	}
	if seen != eventBuffer+100 {
		t.Errorf("the fast listener saw %d", seen)
	}
	got := h.take(slow)
	if len(got) != eventBuffer || got[0].Name != "100" || got[len(got)-1].Name != fmt.Sprint(eventBuffer+99) || h.dropped != 100 {
		t.Errorf("the slow listener has %d from %s on, %d dropped", len(got), got[0].Name, h.dropped)
	}
	h.leave(slow)
	h.emit(PeerEvent{})
	if len(h.take(slow)) != 0 {
		t.Error("who left is told")
	}
}

func TestFewOfTheDialsAreNewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{turns: make(chan struct{}, dialTurns)}
		turn := func() (over func(), waited time.Duration) {
			began := time.Now()
			over, err := n.turn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return over, time.Since(began)
		}
		overs := make([]func(), dialTurns)
		for i := range overs {
			var waited time.Duration
			if overs[i], waited = turn(); waited != 0 {
				t.Errorf("number %d of %d waited %v", i, dialTurns, waited)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := n.turn(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("in a context that had ended: %v", err)
		}
		overs[0]()
		over, waited := turn()
		if waited != 0 {
			t.Errorf("one more waited %v when one was over", waited)
		}
		if _, waited := turn(); waited != dialTurn {
			t.Errorf("one more waited %v, want %v", waited, dialTurn)
		}
		for _, f := range append(overs[1:], over) { // nobody waits for these any more
			f()
		}
		time.Sleep(dialTurn + 1)
		if len(n.turns) != 0 {
			t.Errorf("%d places are taken when all is over", len(n.turns))
		}
	})
}

func TestNoDialWaitsLongForThoseOfManyDeadAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{turns: make(chan struct{}, dialTurns)}
		began := time.Now()
		var waits sync.WaitGroup
		var mu sync.Mutex
		var longest time.Duration
		for range 10 * dialTurns * int(dialPatience/dialTurn) {
			waits.Go(func() { // none of these is ever over
				if _, err := n.turn(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(began))
			})
		}
		waits.Wait()
		if longest != dialPatience {
			t.Errorf("the last waited %v, want %v", longest, dialPatience)
		}
		time.Sleep(dialTurn + 1)
		if len(n.turns) != 0 {
			t.Errorf("%d places are taken", len(n.turns))
		}
	})
}
