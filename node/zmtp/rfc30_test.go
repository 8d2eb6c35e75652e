package zmtp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"peermesh/patterns"
)

// block is a body of which a Unix socket holds one or two at most.
var block = strings.Repeat("x", 256<<10)

var pipelineRules = []rule{
	{30, PUSH, "SHALL only send messages", pushOnlySends, ""},
	{30, PUSH, "SHALL not filter or modify outgoing messages in any way", pushSendsUnchanged, ""},
	{30, PUSH, "SHALL maintain an outgoing message queue for each connected peer", pushQueuesForEach, ""},
	{
		30, PUSH, "SHALL create this queue when initiating an outgoing connection, and maintain it whether or not that is established",
		pushQueuesBeforeTheConnection, "a message waits in the mesh, for any puller, until a peer is connected",
	},
	{
		30, PUSH, "SHALL create this queue when a peer connects; if it disconnects, SHALL destroy it and discard its messages",
		pushDiscardsWithThePeer, "what the peer's library has not read goes to another peer or back to the mesh",
	},
	{30, PUSH, "SHALL consider a peer as available only when it has an outgoing queue that is not full", pushFillsNoFullQueue, ""},
	{30, PUSH, "SHALL route outgoing messages to available peers using a round-robin strategy", pushTakesTurns, ""},
	{30, PUSH, "SHALL block on sending, or return a suitable error, when it has no available peers", pushWaitsForPeers, ""},
	{30, PUSH, "SHALL not accept further messages when it has no available peers", pushFillsNoFullQueue, ""},
	{30, PUSH, "SHALL NOT discard messages that it cannot queue", pushFillsNoFullQueue, ""},

	{30, PULL, "SHALL only receive messages", pullOnlyReceives, ""},
	{30, PULL, "SHALL not filter or modify incoming messages in any way", pullTakesUnchanged, ""},
	{30, PULL, "SHALL maintain an incoming queue for each connected peer", pullQueuesForEach, ""},
	{
		30, PULL, "SHALL create this queue when initiating an outgoing connection, and maintain it whether or not that is established",
		pullKeepsTheQueueOfAConnection, "",
	},
	{
		30, PULL, "SHALL create this queue when a peer connects; if it disconnects, SHALL destroy it and discard its messages",
		pullDiscardsWithThePeer, "what was read from a peer goes to the mesh, whether the peer is there or not",
	},
	{30, PULL, "SHALL receive incoming messages from its peers using a fair-queuing strategy", pullTakesTurns, ""},
	{30, PULL, "SHALL deliver these to its calling application", pullTakesUnchanged, ""},
}

func pushOnlySends(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p})
	q := l.peer(PULL, "")
	q.send("a message against the stream")
	l.await("it is dropped", func(s Stats) bool { return s.Dropped[DropUnasked] == 1 })
	l.sendTo(l.push(), "still there")
	q.expect("still there")
}

func pushSendsUnchanged(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p})
	q := l.peer(PULL, "")
	push := l.push()
	for _, parts := range [][]string{{"a"}, {""}, {"a", "b"}, {"", "\x00\xff", ""}, {block, block}} {
		l.sendTo(push, string(Join(raw(parts)...)))
		q.expect(parts...)
	}
}

func pushQueuesForEach(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p, Queue: 2})
	deaf := l.peer(PULL, "")
	deaf.deaf = true
	q := l.peer(PULL, "")
	push := l.push()
	l.sendTo(push, slices.Repeat([]string{block}, 20)...)
	// The other one gets all that the queue of the deaf one does not hold: two, and two that were written to it.
	for range 16 {
		q.expect(block)
	}
}

func pushQueuesBeforeTheConnection(t *testing.T, p Profile) {
	e := Endpoint{Type: PUSH, Profile: p, Connect: "ipc://" + folder(t) + "/c"}
	l := beginAt(t, e)
	push := l.push()
	l.sendTo(push, "a")
	if p == Classic {
		l.await("it is queued for a peer that is not there yet", func(s Stats) bool { return s.Waiting == 1 })
		if err := push.Flush(l.Context()); err != nil {
			t.Fatal(err)
		}
		l.listen()
		l.peer(PULL, "").expect("a")
		return
	}
	if s := l.stats(); s.Waiting+s.Owed != 0 || push.Stats().Ledger.Done != 0 {
		t.Errorf("got %+v, %+v; want it to wait in the mesh", s, push.Stats().Ledger)
	}
	l.listen()
	l.peer(PULL, "").expect("a")
}

func pushDiscardsWithThePeer(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p, Queue: 4})
	deaf := l.peer(PULL, "")
	deaf.deaf = true
	push := l.push()
	l.sendTo(push, slices.Repeat([]string{block}, 4)...)
	if p == Durable {
		l.await("all are queued", func(s Stats) bool { return s.Waiting+s.Owed == 4 })
		deaf.leave()
		q := l.peer(PULL, "")
		for range 4 {
			q.expect(block)
		}
		return
	}
	if err := push.Flush(l.Context()); err != nil { // they were accepted
		t.Fatal(err)
	}
	l.discards(deaf, 4)
	l.peer(PULL, "").silent()
}

func pushFillsNoFullQueue(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p, Queue: 2})
	deaf := l.peer(PULL, "")
	deaf.deaf = true
	push := l.push(patterns.Queue(100, 64<<20))
	l.sendTo(push, slices.Repeat([]string{block}, 10)...)
	l.await("the queue is full", func(s Stats) bool { return s.Waiting+s.Owed == 2 && s.Waiting > 0 || p == Durable && s.Owed == 2 })
	// Two in the queue; at profile classic those beside that are written, and one of which nobody knows: in the bridge's hand.
	if l := push.Stats().Ledger; l.Done > 7 || p == Durable && l.Done > 0 {
		t.Errorf("%d of 10 are done, though the peer reads nothing", l.Done)
	}
	deaf.deaf = false
	deaf.write(appendCommand(nil, cmdPong, []byte("\x00\x00\x00\x00\x00\x00\x00\x01"))) // for the PING that was ignored
	for range 10 {
		deaf.expect(block)
	}
	if got := l.stats().Dropped; len(got) > 0 {
		t.Errorf("dropped: %v", got)
	}
}

func pushTakesTurns(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p})
	peers := []*peer{l.peer(PULL, ""), l.peer(PULL, ""), l.peer(PULL, "")}
	push := l.push()
	l.sendTo(push, numbered(30)...)
	for turn := range 10 {
		var got []string
		for _, q := range peers {
			got = append(got, q.recv()...)
		}
		slices.Sort(got)
		want := []string{fmt.Sprint(3 * turn), fmt.Sprint(3*turn + 1), fmt.Sprint(3*turn + 2)}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("turn %d: got %v, want %v", turn, got, want)
		}
	}
}

func pushWaitsForPeers(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PUSH, Profile: p})
	push := l.push()
	l.sendTo(push, numbered(10)...)
	if got := push.Stats().Ledger; got.Done != 0 {
		t.Errorf("got %+v, want nothing done", got)
	}
	q := l.peer(PULL, "")
	for _, n := range numbered(10) {
		q.expect(n)
	}
}

func pullOnlyReceives(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PULL, Profile: p})
	q := l.peer(PUSH, "")
	pull := l.pull()
	q.send("a")
	l.received(pull.Recv, 1)
	q.silent()
}

func pullTakesUnchanged(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: PULL, Profile: p})
	q := l.peer(PUSH, "")
	pull := l.pull()
	for _, parts := range [][]string{{"a"}, {""}, {"a", "b"}, {"", "\x00\xff", ""}, {block, block}} {
		q.send(parts...)
		if got := texts(Split(l.received(pull.Recv, 1)[0].Body)); !slices.Equal(got, parts) {
			t.Errorf("got %.60q, want %.60q", got, parts)
		}
	}
}

// fill sends two messages, of which the mesh has room for one. The other stays in the endpoint's hand, so what comes from now
// on waits in the queues of the peers.
func (p *peer) fill(parts ...string) {
	p.Helper()
	p.send(parts...)
	p.send(parts...)
	p.await("the mesh is full", func(s Stats) bool { return s.Received == 2 && s.Incoming == 0 && p.b.Ledger().Accepted == 1 })
}

// discards waits until n messages are queued for a peer that reads nothing, has it leave, and waits until all that were not
// written to it are counted.
func (l *lab) discards(deaf *peer, n int) {
	l.Helper()
	l.await("they are queued", func(s Stats) bool { return s.Waiting > 0 && s.Waiting+s.Owed+int(s.Confirmed) == n })
	deaf.leave()
	l.await("what was not written is discarded", func(s Stats) bool {
		gone := int(s.Dropped[DropPeerGone])
		return gone > 0 && gone+int(s.Confirmed) == n
	})
}

// stopped is a PULL endpoint whose mesh socket has no room for more than one message.
func stopped(t *testing.T, e Endpoint, open func(*testing.T, Endpoint) *lab) *lab {
	e.Type, e.Options = PULL, []patterns.Option{patterns.Queue(1, 1<<20)}
	return open(t, e)
}

func pullQueuesForEach(t *testing.T, p Profile) {
	l := stopped(t, Endpoint{Profile: p, Queue: 4}, begin)
	a, b := l.peer(PUSH, ""), l.peer(PUSH, "")
	for i := range 4 {
		a.send(fmt.Sprint("a", i))
	}
	l.await("the first one's have come", func(s Stats) bool { return s.Received == 4 })
	for i := range 4 {
		b.send(fmt.Sprint("b", i))
	}
	l.await("the second one's have too", func(s Stats) bool { return s.Received == 8 })
	if got := bodies(l.received(l.pull().Recv, 8)); !slices.Contains(got, "a3") || !slices.Contains(got, "b3") {
		t.Errorf("got %v", got)
	}
}

func pullKeepsTheQueueOfAConnection(t *testing.T, p Profile) {
	l := stopped(t, Endpoint{Profile: p}, connecting)
	q := l.peer(PUSH, "")
	for _, n := range numbered(10) {
		q.send(n)
	}
	l.await("all have come", func(s Stats) bool { return s.Received == 10 })
	q.leave()
	if got := bodies(l.received(l.pull().Recv, 10)); !slices.Equal(got, numbered(10)) {
		t.Errorf("got %v", got)
	}
}

func pullDiscardsWithThePeer(t *testing.T, p Profile) {
	l := stopped(t, Endpoint{Profile: p}, begin)
	l.peer(PUSH, "").fill("filler")
	q := l.peer(PUSH, "")
	for _, n := range numbered(10) {
		q.send(n)
	}
	l.await("all have come", func(s Stats) bool { return s.Incoming == 10 })
	q.leave()
	if p == Durable {
		if got := bodies(l.received(l.pull().Recv, 12)); !slices.Equal(got[2:], numbered(10)) {
			t.Errorf("got %v", got)
		}
		return
	}
	if got := l.stats(); got.Incoming != 0 || got.Dropped[DropPeerGone] != 10 {
		t.Errorf("got %+v, want 10 discarded", got)
	}
}

func pullTakesTurns(t *testing.T, p Profile) {
	l := stopped(t, Endpoint{Profile: p}, begin)
	l.peer(PUSH, "").fill("filler")
	peers := []*peer{l.peer(PUSH, ""), l.peer(PUSH, ""), l.peer(PUSH, "")}
	for i, q := range peers {
		for range 50 {
			q.send(fmt.Sprint(i))
		}
	}
	l.await("all have come", func(s Stats) bool { return s.Incoming == 150 })
	order := bodies(l.received(l.pull().Recv, 152))[2:] // without the fillers
	// Each run of three has one of each.
	for i := 0; i < len(order); i += 3 {
		run := slices.Sorted(slices.Values(order[i : i+3]))
		if !slices.Equal(run, []string{"0", "1", "2"}) {
			t.Fatalf("messages %d to %d are of peers %v; all: %v", i, i+2, run, order)
		}
	}
}
