package zmtp

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/patterns"
	"peermesh/socket"
)

var reqrepRules = []rule{
	{28, REQ, "SHALL send and then receive exactly one message at a time", reqIsInLockStep, ""},
	{28, REQ, "the request and reply messages SHALL have a delimiter, an empty frame, and one or more data frames", reqDelimits, ""},
	{28, REQ, "SHALL prefix the outgoing message with an empty delimiter frame", reqDelimits, ""},
	{28, REQ, "SHALL route outgoing messages to connected peers using a round-robin strategy", askingTakesTurns(REQ), ""},
	{28, REQ, "SHALL block on sending, or return a suitable error, when it has no connected peers", askingWaitsForPeers(REQ), ""},
	{28, REQ, "SHALL NOT discard messages that it cannot send to a connected peer", askingWaitsForPeers(REQ), ""},
	{28, REQ, "SHALL accept an incoming message only from the last peer that it sent a request to", reqHearsOnlyWhoWasAsked, ""},
	{28, REQ, "SHALL discard silently any messages received from other peers", reqHearsOnlyWhoWasAsked, ""},

	{28, REP, "SHALL not filter or modify outgoing or incoming messages in any way", answeringChangesNothing(REP), ""},
	{
		28, REP, "SHALL receive and then send exactly one message at a time",
		repIsInLockStep, "requests are asked side by side, Concurrency at a time: each is a request of the mesh of its own",
	},
	{28, REP, "SHALL receive incoming messages from its peers using a fair-queuing strategy", answeringTakesTurns(REP), ""},
	{28, REP, "SHALL remove and store the address envelope, including the delimiter", repKeepsTheEnvelope, ""},
	{28, REP, "SHALL pass the remaining data frames to its calling application", repKeepsTheEnvelope, ""},
	{28, REP, "SHALL wait for a single reply message from its calling application", repIsInLockStep, ""},
	{28, REP, "SHALL prepend the address envelope and delimiter", repKeepsTheEnvelope, ""},
	{28, REP, "SHALL deliver this message back to the originating peer", answersGoBack(REP), ""},
	{28, REP, "SHALL silently discard the reply, or return an error, if the originating peer is no longer connected", answersOfThoseWhoLeft(REP), ""},
	{28, REP, "SHALL not block on sending", answeringNeverWaits(REP), ""},

	{28, DEALER, "SHALL not filter or modify outgoing or incoming messages in any way", dealerChangesNothing, ""},
	{28, DEALER, "SHALL maintain a double queue for each connected peer", dealerQueuesForEach, ""},
	{
		28, DEALER, "SHALL create a double queue when initiating an outgoing connection, and maintain it whether or not that is established",
		dealerQueuesBeforeTheConnection, "a request waits in the mesh, for any replier, until a peer is connected",
	},
	{
		28, DEALER, "SHALL create a double queue when a peer connects; if it disconnects, SHALL destroy it and discard its messages",
		dealerDiscardsWithThePeer, "a request that was not written to the peer goes to another one",
	},
	{28, DEALER, "SHALL consider a peer as available only when it has an outgoing queue that is not full", dealerQueuesForEach, ""},
	{28, DEALER, "SHALL route outgoing messages to available peers using a round-robin strategy", askingTakesTurns(DEALER), ""},
	{28, DEALER, "SHALL block on sending, or return a suitable error, when it has no available peers", askingWaitsForPeers(DEALER), ""},
	{28, DEALER, "SHALL not accept further messages when it has no available peers", askingWaitsForPeers(DEALER), ""},
	{28, DEALER, "SHALL NOT discard messages that it cannot queue", askingWaitsForPeers(DEALER), ""},
	{28, DEALER, "SHALL receive incoming messages from its peers using a fair-queuing strategy", dealerHearsInTurns, ""},
	{28, DEALER, "SHALL deliver these to its calling application", dealerChangesNothing, ""},

	{28, ROUTER, "SHALL maintain a double queue for each connected peer", answersGoBack(ROUTER), ""},
	{28, ROUTER, "SHALL create a double queue when initiating an outgoing connection, and maintain it whether or not that is established", routerConnects, ""},
	{28, ROUTER, "SHALL create a double queue when a peer connects; if it disconnects, SHALL destroy it and discard its messages", answersOfThoseWhoLeft(ROUTER), ""},
	{28, ROUTER, "SHALL identify each double queue using a unique identity binary string", routerIdentifies, ""},
	{28, ROUTER, "SHALL receive incoming messages from its peers using a fair-queuing strategy", answeringTakesTurns(ROUTER), ""},
	{28, ROUTER, "SHALL prefix each incoming message with the identity of the originating double queue", routerIdentifies, ""},
	{28, ROUTER, "SHALL deliver the resulting messages to its calling application", routerIdentifies, ""},
	{28, ROUTER, "SHALL remove the first frame from each outgoing message and use it as the identity of a double queue", routerGoesByIdentity, ""},
	{28, ROUTER, "SHALL route the message to the outgoing queue if that queue exists, and has space", routerGoesByIdentity, ""},
	{28, ROUTER, "SHALL either silently drop the message, or return an error, if the queue does not exist, or is full", routerDrops, ""},
	{28, ROUTER, "SHALL NOT block on sending", answeringNeverWaits(ROUTER), ""},
}

// asked is what became of a request of the mesh.
type asked struct {
	body string
	err  error
}

// ask asks in the mesh, n requests side by side, numbered.
func (l *lab) ask(req *patterns.Req, bodies ...string) <-chan asked {
	out := make(chan asked, len(bodies))
	for _, body := range bodies {
		go func() {
			ctx, cancel := context.WithTimeout(l.Context(), patience)
			defer cancel()
			answer, err := req.Request(ctx, []byte(body))
			out <- asked{string(answer), err}
		}()
	}
	return out
}

func (l *lab) req() *patterns.Req { return must(l.n.Req("name", patterns.Queue(1000, 64<<20))) }

// answered waits for n answers.
func (l *lab) answered(from <-chan asked, n int) (all []string) {
	l.Helper()
	for range n {
		a := <-from
		if a.err != nil {
			l.Fatal(a.err)
		}
		all = append(all, a.body)
	}
	slices.Sort(all)
	return all
}

// unwrapped is what the peer of a REQ or DEALER is asked.
func (p *peer) unwrapped() (envelope, data []string) {
	p.Helper()
	m := p.recv()
	at := slices.Index(m, "")
	if at < 0 {
		p.Fatalf("got %.60q, without a delimiter", m)
	}
	return m[:at+1], m[at+1:]
}

func (p *peer) serve() {
	p.Helper()
	envelope, data := p.unwrapped()
	p.send(append(envelope, "answer to "+strings.Join(data, "|"))...)
}

func reqIsInLockStep(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: REQ, Profile: p})
	q := l.peer(REP, "")
	answers := l.ask(l.req(), numbered(3)...)
	var want []string
	for i := range 3 {
		envelope, data := q.unwrapped()
		q.silent() // nothing more before the answer
		q.send(append(envelope, "answer to "+data[0])...)
		want = append(want, fmt.Sprint("answer to ", i))
	}
	if got := l.answered(answers, 3); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func reqDelimits(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: REQ, Profile: p})
	q := l.peer(REP, "")
	answers := l.ask(l.req(), string(Join([]byte("a"), nil, []byte("b"))))
	q.expect("", "a", "", "b")
	q.send("no delimiter")
	q.send("", "c", "d")
	if got := l.answered(answers, 1); got[0] != string(Join([]byte("c"), []byte("d"))) {
		t.Errorf("got %q", got)
	}
	if l.stats().Dropped[DropMalformed] != 1 {
		t.Errorf("dropped: %v", l.stats().Dropped)
	}
}

func askingTakesTurns(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p})
		peers := []*peer{l.peer(REP, ""), l.peer(REP, ""), l.peer(REP, "")}
		req := l.req()
		first := -1
		for turn := range 9 {
			answers := l.ask(req, fmt.Sprint(turn))
			if first < 0 { // whoever is first, it goes on in turns
				first = l.asked()
			}
			peers[(first+turn)%3].serve()
			l.answered(answers, 1)
		}
	}
}

func askingWaitsForPeers(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p})
		answers := l.ask(l.req(), numbered(3)...)
		select {
		case a := <-answers:
			t.Fatalf("got %v without a peer", a)
		case <-time.After(quiet):
		}
		q := l.peer(REP, "")
		for range 3 {
			q.serve()
		}
		if got := l.answered(answers, 3); len(got) != 3 || len(l.stats().Dropped) > 0 {
			t.Errorf("got %q, dropped %v", got, l.stats().Dropped)
		}
	}
}

// asked waits until a first request was sent, and returns to which peer, in the order of their coming.
func (l *lab) asked() int {
	l.Helper()
	l.await("one is asked", func(s Stats) bool { return s.Sent == 1 })
	h := l.b.runs[0].hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.turn - 1
}

func reqHearsOnlyWhoWasAsked(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: REQ, Profile: p})
	a, b := l.peer(REP, ""), l.peer(REP, "")
	answers := l.ask(l.req(), "question")
	if l.asked() == 1 {
		a, b = b, a
	}
	b.send("", "of somebody else")
	l.await("it is dropped", func(s Stats) bool { return s.Dropped[DropUnasked] == 1 })
	a.serve()
	if got := l.answered(answers, 1); got[0] != "answer to question" {
		t.Errorf("got %q", got)
	}
}

// service is a replier in the mesh whose handler is given.
func (l *lab) service(handler func(body string) string, opts ...patterns.Option) {
	l.Helper()
	rep := must(l.n.Rep("name", opts...))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		_ = rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) { // it ends with the test
			return []byte(handler(string(m.Body))), nil
		})
	})
	l.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func same(body string) string { return body }

func answeringChangesNothing(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p})
		l.service(same)
		q := l.peer(REQ, "")
		for _, parts := range [][]string{{"a"}, {"a", "b"}, {"a", "", "b"}, {"\x00\xff"}, {block, block}} {
			q.send(append([]string{""}, parts...)...)
			q.expect(append([]string{""}, parts...)...)
		}
	}
}

func repIsInLockStep(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: REP, Profile: p})
	under, gate := make(chan string, 3), make(chan bool)
	l.service(func(body string) string {
		under <- body
		<-gate
		return body
	})
	q := l.peer(DEALER, "")
	for _, n := range numbered(3) {
		q.send("", n)
	}
	<-under
	if p == Durable {
		<-under
		<-under
		close(gate)
	} else {
		q.silent()
		if len(under) > 0 {
			t.Error("a second request is asked before the first is answered")
		}
		close(gate)
	}
	var got []string
	for range 3 {
		got = append(got, q.recv()[1])
	}
	if p == Classic && !slices.Equal(got, numbered(3)) {
		t.Errorf("got %v", got)
	}
	q.silent() // one answer for each
}

func answeringTakesTurns(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p, Concurrency: 1})
		gate := make(chan bool)
		l.service(func(body string) string {
			<-gate
			return body
		})
		blocker := l.peer(DEALER, "")
		blocker.send("", "first")
		l.await("it is under way", func(s Stats) bool { return s.Received == 1 && s.Incoming == 0 })
		a, b := l.peer(DEALER, ""), l.peer(DEALER, "")
		for _, q := range []*peer{a, b} {
			before := l.stats().Received
			for _, n := range numbered(5) {
				q.send("", n)
			}
			l.await("all have come", func(s Stats) bool { return s.Received == before+5 })
		}
		gate <- true
		blocker.expect("", "first")
		// In turns: after so many answers, each has half of them.
		for i := range 5 {
			gate <- true
			gate <- true
			a.expect("", fmt.Sprint(i))
			b.expect("", fmt.Sprint(i))
		}
	}
}

func repKeepsTheEnvelope(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: REP, Profile: p})
	l.service(func(body string) string {
		parts := Split([]byte(body))
		for i := range parts {
			parts[i] = bytes.ToUpper(parts[i])
		}
		return string(Join(parts...))
	})
	q := l.peer(DEALER, "")
	q.send("id one", "id two", "", "data", "", "more")
	q.expect("id one", "id two", "", "DATA", "", "MORE")
	q.send("no delimiter")
	q.send("nothing behind it", "")
	l.await("they are dropped", func(s Stats) bool { return s.Dropped[DropMalformed] == 2 })
}

func answersGoBack(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p})
		l.service(same)
		peers := []*peer{l.peer(DEALER, ""), l.peer(REQ, ""), l.peer(DEALER, "")}
		for i, q := range peers {
			q.send("", fmt.Sprint(i))
		}
		for i, q := range peers {
			q.expect("", fmt.Sprint(i))
			q.silent()
		}
	}
}

func answersOfThoseWhoLeft(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p})
		under, gate := make(chan bool), make(chan bool)
		l.service(func(body string) string {
			if body == "slow" {
				under <- true
				<-gate
			}
			return body
		})
		q := l.peer(DEALER, "")
		q.send("", "slow")
		<-under
		q.leave()
		other := l.peer(DEALER, "")
		close(gate)
		l.await("the answer is dropped", func(s Stats) bool { return s.Dropped[DropPeerGone] == 1 })
		other.send("", "mine")
		other.expect("", "mine")
		other.silent()
	}
}

func answeringNeverWaits(kind Type) func(*testing.T, Profile) {
	return func(t *testing.T, p Profile) {
		l := begin(t, Endpoint{Type: kind, Profile: p, Queue: 2})
		l.service(func(string) string { return block })
		deaf := l.peer(DEALER, "")
		deaf.deaf = true
		for range 20 {
			deaf.send("", "more")
		}
		l.await("answers are dropped", func(s Stats) bool { return s.Dropped[DropQueueFull] >= 5 })
		q := l.peer(DEALER, "")
		q.send("", "mine")
		q.expect("", block)
	}
}

func dealerChangesNothing(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: DEALER, Profile: p})
	q := l.peer(ROUTER, "")
	req := l.req()
	for _, parts := range [][]string{{"a"}, {"a", "b"}, {"a", "", "b"}, {"\x00\xff"}, {block, block}} {
		answers := l.ask(req, string(Join(raw(parts)...)))
		envelope, data := q.unwrapped()
		if len(envelope) != 2 || !slices.Equal(data, parts) {
			t.Errorf("got %.60q %.60q, want %.60q", envelope, data, parts)
		}
		q.send(append(envelope, data...)...)
		if got := l.answered(answers, 1)[0]; !slices.Equal(texts(Split([]byte(got))), parts) {
			t.Errorf("got %.60q, want %.60q", got, parts)
		}
	}
}

func dealerQueuesForEach(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: DEALER, Profile: p, Queue: 2, Concurrency: 20})
	deaf := l.peer(REP, "")
	deaf.deaf = true
	q := l.peer(REP, "")
	answers := l.ask(l.req(), slices.Repeat([]string{block}, 20)...)
	for range 14 { // two in the deaf one's queue, and some that were written to it
		q.serve()
	}
	l.answered(answers, 14)
}

func dealerQueuesBeforeTheConnection(t *testing.T, p Profile) {
	e := Endpoint{Type: DEALER, Profile: p, Connect: "ipc://" + folder(t) + "/c"}
	l := beginAt(t, e)
	req := l.req()
	answers := l.ask(req, "a")
	if p == Classic {
		l.await("it is queued for a peer that is not there yet", func(s Stats) bool { return s.Waiting == 1 })
	} else if s := l.stats(); s.Waiting > 0 {
		t.Errorf("got %+v, want it to wait in the mesh", s)
	}
	l.listen()
	l.peer(REP, "").serve()
	if got := l.answered(answers, 1); got[0] != "answer to a" {
		t.Errorf("got %q", got)
	}
}

func dealerDiscardsWithThePeer(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: DEALER, Profile: p, Concurrency: 10})
	deaf := l.peer(REP, "")
	deaf.deaf = true
	answers := l.ask(l.req(), slices.Repeat([]string{block}, 6)...)
	waiting := l.unwritten(6)
	deaf.leave()
	if p == Classic {
		for range 6 {
			if a := <-answers; a.err == nil {
				t.Error("a request that was discarded is answered")
			}
		}
		return
	}
	q := l.peer(REP, "")
	for range waiting {
		q.serve()
	}
	good := 0
	for range 6 {
		if a := <-answers; a.err == nil {
			good++
		}
	}
	if good != waiting {
		t.Errorf("%d answered, %d were not written", good, waiting)
	}
}

// unwritten waits until n messages are queued for a peer that reads nothing and one of them is being written, which has no end,
// and returns how many are not.
func (l *lab) unwritten(n int) int {
	l.Helper()
	l.await("they are queued", func(s Stats) bool { return s.Waiting > 0 && s.Owed > 0 && s.Waiting+s.Owed+int(s.Confirmed) == n })
	return l.stats().Waiting
}

func dealerHearsInTurns(t *testing.T, p Profile) {
	h := newHub(Endpoint{Type: DEALER, Profile: p, Queue: 10, QueueBytes: 100})
	lanes := []*lane{{id: "a"}, {id: "b"}}
	for _, l := range lanes {
		h.give(l, slices.Repeat([]message{raw([]string{"x", "", "y"})}, 3))
	}
	got, err := h.take(t.Context(), nil, 6)
	if err != nil || len(got) != 6 {
		t.Fatalf("got %d, %v", len(got), err)
	}
	for i, a := range got {
		if a.from != lanes[i%2] {
			t.Errorf("message %d is of peer %s", i, a.from.id)
		}
	}
}

func routerConnects(t *testing.T, p Profile) {
	l := connecting(t, Endpoint{Type: ROUTER, Profile: p})
	l.service(same)
	q := l.peer(DEALER, "")
	q.send("", "a")
	q.expect("", "a")
	q.leave()
	q = l.peer(DEALER, "")
	q.send("", "b")
	q.expect("", "b")
}

func routerIdentifies(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: ROUTER, Profile: p})
	seen := make(chan string, 3)
	rep := must(l.n.Rep("name"))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) { // it ends with the test
			seen <- m.Headers[HeaderIdentity]
			return m.Body, nil
		})
	})
	defer func() {
		cancel()
		wg.Wait()
	}()
	for _, id := range []string{"ada", "", "bob"} {
		q := l.peer(DEALER, id)
		q.send("", "x")
		q.expect("", "x")
		if got := <-seen; got != id {
			t.Errorf("got identity %q, want %q", got, id)
		}
	}
	l.peer(DEALER, "ada") // taken: it gets another one
	ids := make(map[string]bool)
	h := l.b.runs[0].hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, lane := range h.lanes {
		ids[lane.id] = true
	}
	if len(ids) != 4 || !ids["ada"] || !ids["bob"] {
		t.Errorf("4 peers have identities %v", ids)
	}
}

func routerGoesByIdentity(t *testing.T, p Profile) {
	l := begin(t, Endpoint{Type: ROUTER, Profile: p})
	under, gate := make(chan bool), make(chan bool)
	l.service(func(body string) string {
		under <- true
		<-gate
		return body
	})
	q := l.peer(DEALER, "ada")
	l.peer(DEALER, "bob").send("", "other")
	<-under
	q.send("", "slow")
	<-under
	q.leave()
	q = l.peer(DEALER, "ada") // the same, as far as a ROUTER knows
	close(gate)
	q.expect("", "slow")
	q.silent()
}

func routerDrops(t *testing.T, p Profile) {
	answersOfThoseWhoLeft(ROUTER)(t, p)
	answeringNeverWaits(ROUTER)(t, p)
}
