package zmtp

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// upstreamLife is one life of a node with an XSUB endpoint and a Push to its upstream.
type upstreamLife struct {
	*lab
	up *patterns.Push
}

func (l *upstreamLife) end() {
	l.Helper()
	if err := errors.Join(l.up.Flush(l.Context()), l.b.Close(), l.n.Close()); err != nil {
		l.Fatal(err)
	}
}

// upstreamAt begins one; what it is told by its own Push comes from a node that is the same in all lives.
func upstreamAt(t *testing.T, dir string, topics ...string) *upstreamLife {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{MeshPEM: testMesh(), NoMDNS: true, Listen: "127.0.0.1:0", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(n, Config{Endpoints: []Endpoint{{Bind: "ipc://" + folder(t) + "/b", Type: XSUB, Name: "name", Upstream: "up", Topics: topics}}})
	if err != nil {
		t.Fatal(err)
	}
	return &upstreamLife{&lab{T: t, n: n, b: b}, must(n.Push("up"))}
}

// hears waits until a publisher was told so many things, and shows them.
func (p *peer) hears(n int) string {
	p.Helper()
	for until := time.Now().Add(patience); len(p.heard) < n; { // PINGs come all the time
		if err := p.poll(time.Until(until)); err != nil {
			p.Fatalf("%v, after %q", err, p.heard)
		}
	}
	return fmt.Sprintf("%q", p.heard)
}

func TestAnXSubRemembersWhatItWasToldWhenItStartsAgain(t *testing.T) {
	dir := t.TempDir()
	l := upstreamAt(t, dir, "own")
	q := l.peer(XPUB, "")
	l.sendTo(l.up, "\x01a", "\x01b", "\x01a", "\x00b", "\x01c")
	if got, want := q.hears(5), `[{"SUBSCRIBE" "own"} {"SUBSCRIBE" "a"} {"SUBSCRIBE" "b"} {"CANCEL" "b"} {"SUBSCRIBE" "c"}]`; got != want {
		t.Errorf("got %s", got)
	}
	l.end()
	l = upstreamAt(t, dir, "own")
	q = l.peer(XPUB, "")
	if got, want := q.hears(3), `[{"SUBSCRIBE" "a"} {"SUBSCRIBE" "c"} {"SUBSCRIBE" "own"}]`; got != want {
		t.Errorf("after a restart: got %s, want %s", got, want)
	}
	l.sendTo(l.up, "\x00a", "\x00c", "\x00a", "\x01d")
	if got, want := q.hears(6), `[{"SUBSCRIBE" "a"} {"SUBSCRIBE" "c"} {"SUBSCRIBE" "own"} {"CANCEL" "c"} {"CANCEL" "a"} {"SUBSCRIBE" "d"}]`; got != want {
		t.Errorf("got %s, want a cancelled as often as it was subscribed to", got)
	}
	l.end()
	l = upstreamAt(t, dir, "own")
	defer l.end()
	q = l.peer(XPUB, "")
	if got, want := q.hears(2), `[{"SUBSCRIBE" "d"} {"SUBSCRIBE" "own"}]`; got != want {
		t.Errorf("after another: got %s, want %s", got, want)
	}
}

// Its peers subscribe again when they come back, and would be counted twice.
func TestWhatAnEarlierLifeOfAnXPubToldIsOver(t *testing.T) {
	l := upstreamAt(t, t.TempDir())
	defer l.end()
	l.sendTo(l.up, "\x01a", "\x01b")
	q := l.peer(XPUB, "")
	q.hears(2)
	q.heard = nil
	for range 3 {
		if _, err := l.up.SendMessage(t.Context(), &socket.Message{Body: []byte("\x01c"), Headers: begins}); err != nil {
			t.Fatal(err)
		}
	}
	l.sendTo(l.up, "\x00c")
	told := q.hears(8)[len(`[{"CANCEL" "a"} {"CANCEL" "b"} `):] // in any order
	if want := `{"SUBSCRIBE" "c"} {"CANCEL" "c"} {"SUBSCRIBE" "c"} {"CANCEL" "c"} {"SUBSCRIBE" "c"} {"CANCEL" "c"}]`; told != want {
		t.Errorf("got %s, want %s", told, want)
	}
}

func TestAnXPubSaysThatItBegins(t *testing.T) {
	l, pub, up := xpubLab(t, Durable)
	l.subscriber(pub, "a", "a", "b")
	for i, m := range l.received(up.Recv, 2) {
		if got := m.Headers[headerBegins] != ""; got != (i == 0) {
			t.Errorf("message %d: %v", i, m.Headers)
		}
	}
}
