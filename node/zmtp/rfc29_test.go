package zmtp

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"peermesh/patterns"
)

var pubsubRules = slices.Concat(pubRules(PUB), pubRules(XPUB), subRules(SUB), subRules(XSUB), []rule{
	{29, PUB, "SHALL only send messages", pubIsDeaf, ""},
	{29, PUB, "SHALL silently discard any messages that subscribers send it", pubIsDeaf, ""},
	{29, PUB, "SHALL NOT deliver these commands to its calling application", pubIsDeaf, ""},

	{29, XPUB, "SHALL receive incoming messages from its subscribers using a fair-queuing strategy", xpubTakesTurns, ""},
	{29, XPUB, "SHALL deliver these messages to its calling application", xpubHears, ""},
	{29, XPUB, "SHALL deliver these commands to its calling application", xpubHears, ""},
	{29, XPUB, "SHALL, if the subscriber peer disconnects prematurely, generate a suitable unsubscribe request", xpubUnsubscribes, ""},

	{29, SUB, "SHALL only receive messages", subOnlyReceives, ""},

	{29, XSUB, "SHALL send all messages to all connected publishers", xsubSendsToAll, ""},
	{29, XSUB, "SHALL silently drop the message if the outgoing queue for a publisher is full", xsubNeverWaits, ""},
	{29, XSUB, "SHALL NOT block on sending", xsubNeverWaits, ""},
	{29, XSUB, "SHALL not modify outgoing messages in any way", xsubSendsToAll, ""},
	{29, XSUB, "SHALL accept subscription commands from its calling application", xsubSubscribes, ""},
	{29, XSUB, "SHALL send subscribe and unsubscribe requests to publishers", xsubSubscribes, ""},
})

// Those that PUB and XPUB have in common.
func pubRules(kind Type) []rule {
	of := func(f func(*testing.T, Profile, Type)) func(*testing.T, Profile) {
		return func(t *testing.T, p Profile) { f(t, p, kind) }
	}
	return []rule{
		{29, kind, "SHALL maintain an outgoing message queue for each connected subscriber", of(pubQueuesForEach), ""},
		{
			29, kind, "SHALL create a queue when initiating an outgoing connection, and maintain it whether or not that is established",
			of(pubKeepsTheQueueOfAConnection), "a message is for those who have subscribed and are connected; while nobody is, it waits in the mesh",
		},
		{29, kind, "SHALL create a queue when a subscriber connects; if it disconnects, SHALL destroy it and discard its messages", of(pubDiscardsWithThePeer), ""},
		{29, kind, "SHALL not modify outgoing messages in any way", of(pubSendsUnchanged), ""},
		{29, kind, "SHALL perform a binary comparison of the subscription against the start of the first frame", of(pubComparesBytes), ""},
		{29, kind, "SHALL silently drop the message if the queue for a subscriber is full", of(pubNeverWaits), ""},
		{29, kind, "SHALL NOT block on sending", of(pubNeverWaitsForSubscribers), "while nobody here has subscribed, the subscription in the mesh is paused; else it never waits"},
		{29, kind, "SHALL receive subscribe and unsubscribe requests from subscribers", of(pubHearsSubscriptions), ""},
	}
}

// Those that SUB and XSUB have in common.
func subRules(kind Type) []rule {
	of := func(f func(*testing.T, Profile, Type)) func(*testing.T, Profile) {
		return func(t *testing.T, p Profile) { f(t, p, kind) }
	}
	return []rule{
		{29, kind, "SHALL maintain an incoming message queue for each connected publisher", of(subQueuesForEach), ""},
		{29, kind, "SHALL create a queue when initiating an outgoing connection, and maintain it whether or not that is established", of(subKeepsTheQueueOfAConnection), ""},
		{
			29, kind, "SHALL create a queue when a publisher connects; if it disconnects, SHALL destroy it and discard its messages",
			of(subDiscardsWithThePeer), "what was read from a publisher is published, whether that is still there or not",
		},
		{
			29, kind, "SHALL silently discard messages if the incoming queue for a publisher is full",
			of(subDiscardsWhenFull), "the publisher is not read, so its own queue fills and it decides",
		},
		{29, kind, "SHALL receive incoming messages from its publishers using a fair-queuing strategy", of(subTakesTurns), ""},
		{29, kind, "SHALL not modify incoming messages in any way", of(subTakesUnchanged), ""},
		{29, kind, "SHALL deliver messages to its calling application", of(subTakesUnchanged), ""},
	}
}

// pubLab is a PUB endpoint and a Pub that its subscription is attached to.
func pubLab(t *testing.T, e Endpoint, open func(*testing.T, Endpoint) *lab) (*lab, *patterns.Pub) {
	t.Helper()
	l := open(t, e)
	pub, err := l.n.Pub("name", patterns.OnOverflow(patterns.Block))
	if err != nil {
		t.Fatal(err)
	}
	if e.Profile == Classic {
		if err := pub.WaitReady(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	return l, pub
}

// subscriber is a peer with subscriptions that are in force.
func (l *lab) subscriber(pub *patterns.Pub, prefixes ...string) *peer {
	l.Helper()
	q := l.peer(SUB, "")
	q.subscribe(pub, prefixes...)
	return q
}

func (p *peer) subscribe(pub *patterns.Pub, prefixes ...string) {
	p.Helper()
	for _, s := range prefixes {
		p.write(appendCommand(nil, cmdSubscribe, []byte(s)))
	}
	// A PONG says that all before it was heard.
	p.write(appendPing(nil, 0, []byte("subscribed")))
	for len(p.heard) == 0 {
		if err := p.poll(patience); err != nil {
			p.Fatal(err)
		}
	}
	p.heard = nil
	if err := pub.WaitReady(p.Context(), 1); err != nil {
		p.Fatal(err)
	}
}

func (l *lab) publish(pub *patterns.Pub, parts ...string) {
	l.Helper()
	if _, err := pub.PublishMessage(l.Context(), Publication(raw(parts)...)); err != nil {
		l.Fatal(err)
	}
}

func pubQueuesForEach(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p, Queue: 2}, begin)
	deaf := l.subscriber(pub, "")
	deaf.deaf = true
	q := l.subscriber(pub, "")
	for n := range uint64(10) {
		l.publish(pub, "a", block)
		q.expect("a", block)
		q.confirmed(n + 1) // until then it counts as queued
	}
}

func pubKeepsTheQueueOfAConnection(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p, Queue: 20}, connecting)
	deaf := l.subscriber(pub, "")
	deaf.deaf = true
	for range 10 {
		l.publish(pub, "a", block)
	}
	if p == Durable {
		l.await("all are queued", func(s Stats) bool { return s.Waiting+s.Owed == 10 })
		deaf.leave()
		l.await("none are", func(s Stats) bool { return s.Waiting+s.Owed == 0 && s.Dropped[DropPeerGone] == 10 })
		l.publish(pub, "b", "while nobody is there")
		l.subscriber(pub, "").expect("b", "while nobody is there")
		return
	}
	if err := pub.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting := l.stats().Waiting
	if waiting == 0 {
		t.Fatal("nothing waits for a peer that reads nothing")
	}
	deaf.leave()
	q := l.peer(SUB, "")
	for range l.stats().Waiting - 1 {
		q.expect("a", block)
	}
}

func pubDiscardsWithThePeer(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p, Queue: 20}, begin)
	deaf := l.subscriber(pub, "")
	deaf.deaf = true
	for range 10 {
		l.publish(pub, "a", block)
	}
	l.discards(deaf, 10)
	if err := pub.Flush(t.Context()); err != nil { // they are dealt with
		t.Fatal(err)
	}
	l.subscriber(pub, "").silent()
}

func pubSendsUnchanged(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p}, begin)
	q := l.subscriber(pub, "")
	for _, parts := range [][]string{{"a", "b"}, {"a"}, {""}, {"", ""}, {"a.b", "", "c"}, {"\x00\xff", "x"}, {"topic", block}} {
		l.publish(pub, parts...)
		q.expect(parts...)
	}
	// One that a Go program publishes.
	if err := pub.Publish(t.Context(), "zurich.temp", []byte("21")); err != nil {
		t.Fatal(err)
	}
	q.expect("zurich.temp", "21")
}

func pubComparesBytes(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p}, begin)
	q := l.subscriber(pub, "zur", "\xff\x00", "b.")
	for _, topic := range []string{"zurich", "zu", "Zurich", "xzur", "\xff\x00\x01", "\xff", "b", "b.c", "zur"} {
		l.publish(pub, topic, "x")
	}
	for _, topic := range []string{"zurich", "\xff\x00\x01", "b.c", "zur"} {
		q.expect(topic, "x")
	}
	q.silent()
}

func pubNeverWaits(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p, Queue: 2}, begin)
	deaf := l.subscriber(pub, "")
	deaf.deaf = true
	for range 10 {
		l.publish(pub, "a", block)
	}
	l.await("some are dropped", func(s Stats) bool { return s.Dropped[DropQueueFull] >= 5 })
}

func pubNeverWaitsForSubscribers(t *testing.T, p Profile, kind Type) {
	pubNeverWaits(t, p, kind)
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p}, begin)
	if p == Classic {
		l.publish(pub, "a", "for nobody")
		l.await("it is dropped", func(s Stats) bool { return s.Dropped[DropUnmatched] == 1 })
		return
	}
	l.subscriber(pub, "").leave() // attached once
	l.publish(pub, "a", "for the next one")
	l.subscriber(pub, "").expect("a", "for the next one")
}

func pubHearsSubscriptions(t *testing.T, p Profile, kind Type) {
	l, pub := pubLab(t, Endpoint{Type: kind, Profile: p}, begin)
	q := l.subscriber(pub, "a", "a", "b")
	old := l.subscriber(pub, "")
	old.write(appendFrame(nil, 0, []byte("\x01c"))) // as peers of version 3.0 say it
	q.write(appendCommand(nil, cmdCancel, []byte("b")))
	q.write(appendCommand(nil, cmdCancel, []byte("a"))) // one of two
	q.subscribe(pub)
	for _, topic := range []string{"b", "c", "a"} {
		l.publish(pub, topic, "x")
	}
	q.expect("a", "x")
	q.write(appendCommand(nil, cmdCancel, []byte("a")))
	q.subscribe(pub, "z")
	l.publish(pub, "a", "x")
	l.publish(pub, "z", "x")
	q.expect("z", "x")
}

func pubIsDeaf(t *testing.T, p Profile) {
	l, pub := pubLab(t, Endpoint{Type: PUB, Profile: p}, begin)
	sub := must(l.n.Sub("name", patterns.Prefixes("")))
	q := l.subscriber(pub, "")
	q.send("hello")
	q.send("a", "b")
	l.await("they are dropped", func(s Stats) bool { return s.Dropped[DropUnasked] == 2 })
	l.nothing(sub.Recv)
	l.publish(pub, "still", "there")
	q.expect("still", "there")
}

func xpubLab(t *testing.T, p Profile) (*lab, *patterns.Pub, *patterns.Pull) {
	l, pub := pubLab(t, Endpoint{Type: XPUB, Profile: p, Upstream: "up"}, begin)
	return l, pub, must(l.n.Pull("up"))
}

func xpubHears(t *testing.T, p Profile) {
	l, pub, up := xpubLab(t, p)
	q := l.subscriber(pub, "a", "a", "b")
	q.send("hello", "there")
	q.write(appendCommand(nil, cmdCancel, []byte("b")))
	want := []string{"\x01a", "\x01b", string(Join([]byte("hello"), []byte("there"))), "\x00b"}
	if got := bodies(l.received(up.Recv, 4)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func xpubUnsubscribes(t *testing.T, p Profile) {
	l, pub, up := xpubLab(t, p)
	q := l.subscriber(pub, "a", "a", "b")
	l.received(up.Recv, 2)
	q.leave()
	if got := bodies(l.received(up.Recv, 2)); !slices.Equal(got, []string{"\x00a", "\x00b"}) {
		t.Errorf("got %q", got)
	}
}

func xpubTakesTurns(t *testing.T, p Profile) {
	l, _, up := xpubLab(t, p)
	h := l.b.runs[0].hub
	a, b := l.peer(XSUB, ""), l.peer(XSUB, "")
	h.mu.Lock() // both have sent before the first message is taken
	lanes := slices.Clone(h.lanes)
	for i := range 10 {
		h.give(lanes[0], []message{raw([]string{fmt.Sprint("a", i)})})
	}
	for i := range 10 {
		h.give(lanes[1], []message{raw([]string{fmt.Sprint("b", i)})})
	}
	h.mu.Unlock()
	got := bodies(l.received(up.Recv, 20))
	for i := range 10 {
		pair := slices.Sorted(slices.Values(got[2*i : 2*i+2]))
		if want := []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}; !slices.Equal(pair, want) {
			t.Fatalf("got %v", got)
		}
	}
	a.silent()
	b.silent()
}

// subLab is a SUB endpoint; its Pub waits for room when blocked, which it has for one message.
func subLab(t *testing.T, e Endpoint, blocked bool, open func(*testing.T, Endpoint) *lab) *lab {
	t.Helper()
	if blocked {
		e.Options = []patterns.Option{patterns.Queue(1, 1<<20), patterns.OnOverflow(patterns.Block)}
	}
	return open(t, e)
}

// attached is a subscription in the mesh that the endpoint knows of; paused ones take nothing.
func (l *lab) attached(paused bool) *patterns.Sub {
	l.Helper()
	sub := must(l.n.Sub("name", patterns.Prefixes(""), patterns.Prefetch(1)))
	pub := l.b.runs[0].side.(*subscriber).pub
	if err := pub.WaitReady(l.Context(), 1); err != nil {
		l.Fatal(err)
	}
	if paused {
		sub.Pause()
	}
	return sub
}

func subQueuesForEach(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p, Queue: 4}, true, begin)
	sub := l.attached(true)
	a := l.peer(PUB, "")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 2 * takeAtOnce {
			if _, err := a.net.Write(appendMessage(nil, raw([]string{"a", "x"}))); err != nil {
				return // the test is over
			}
		}
	})
	defer func() { _ = a.net.Close() }() // as the end of that
	l.await("the first one's queue is full", func(s Stats) bool { return s.Incoming >= 4 })
	b := l.peer(PUB, "")
	before := l.stats().Received
	for range 4 {
		b.send("b", "x")
	}
	l.await("the second one's have come", func(s Stats) bool { return s.Received >= before+4 })
	sub.Resume()
	for seen := 0; seen < 4; {
		if l.received(sub.Recv, 1)[0].Topic == "b" {
			seen++
		}
	}
}

func subKeepsTheQueueOfAConnection(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p}, true, connecting)
	sub := l.attached(true)
	q := l.peer(PUB, "")
	for _, n := range numbered(10) {
		q.send(n, "x")
	}
	l.await("all have come", func(s Stats) bool { return s.Received == 10 })
	q.leave()
	sub.Resume()
	for i, m := range l.received(sub.Recv, 10) {
		if m.Topic != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, m.Topic)
		}
	}
}

func subDiscardsWithThePeer(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p}, true, begin)
	sub := l.attached(true)
	l.peer(PUB, "").fill("filler", "x")
	q := l.peer(PUB, "")
	for range 10 {
		q.send("a", "x")
	}
	l.await("all have come", func(s Stats) bool { return s.Incoming == 10 })
	q.leave()
	if p == Classic {
		if got := l.stats(); got.Incoming != 0 || got.Dropped[DropPeerGone] != 10 {
			t.Errorf("got %+v, want 10 discarded", got)
		}
		return
	}
	sub.Resume()
	for seen := 0; seen < 10; {
		if l.received(sub.Recv, 1)[0].Topic == "a" {
			seen++
		}
	}
}

func subDiscardsWhenFull(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p, Queue: 2}, true, begin)
	sub := l.attached(true)
	q := l.peer(PUB, "")
	if p == Classic {
		for i := 0; l.stats().Dropped[DropQueueFull] == 0; i++ {
			q.send(fmt.Sprint(i), "x")
		}
		return
	}
	go func() {
		for _, n := range numbered(300) {
			if _, err := q.net.Write(appendMessage(nil, raw([]string{n, block[:10000]}))); err != nil {
				return // the test has failed
			}
		}
	}()
	sub.Resume()
	for i, m := range l.received(sub.Recv, 300) {
		if m.Topic != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Topic)
		}
	}
}

func subTakesTurns(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p}, false, begin)
	sub := must(l.n.Sub("name", patterns.Prefixes("")))
	if err := l.b.runs[0].side.(*subscriber).pub.WaitReady(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	l.peer(PUB, "")
	l.peer(PUB, "")
	h := l.b.runs[0].hub
	h.mu.Lock() // both have sent before the first message is taken
	for _, lane := range h.lanes {
		for i := range 10 {
			h.give(lane, []message{raw([]string{fmt.Sprint("t", i), ""})})
		}
	}
	h.mu.Unlock()
	for i, m := range l.received(sub.Recv, 20) {
		if want := fmt.Sprint("t", i/2); m.Topic != want {
			t.Errorf("message %d is %s, want %s", i, m.Topic, want)
		}
	}
}

func subTakesUnchanged(t *testing.T, p Profile, kind Type) {
	l := subLab(t, Endpoint{Type: kind, Profile: p}, false, begin)
	sub := l.attached(false)
	q := l.peer(PUB, "")
	for _, parts := range [][]string{{"a", "b"}, {"a"}, {""}, {"", ""}, {"a.b", "", "c"}, {"\x00\xff", "x"}, {"topic", block}} {
		q.send(parts...)
		if got := texts(Parts(l.received(sub.Recv, 1)[0])); !slices.Equal(got, parts) {
			t.Errorf("got %.60q, want %.60q", got, parts)
		}
	}
}

func subOnlyReceives(t *testing.T, p Profile) {
	l := subLab(t, Endpoint{Type: SUB, Profile: p, Topics: []string{"a"}}, false, begin)
	q := l.peer(XPUB, "")
	for len(q.heard) == 0 {
		if err := q.poll(patience); err != nil {
			t.Fatal(err)
		}
	}
	q.silent()
	if len(q.heard) != 1 || q.heard[0].name != cmdSubscribe || string(q.heard[0].data) != "a" {
		t.Errorf("got %q, want the subscription alone", q.heard)
	}
}

func xsubLab(t *testing.T, p Profile, e Endpoint) (*lab, *patterns.Push) {
	e.Type, e.Profile, e.Upstream = XSUB, p, "up"
	l := begin(t, e)
	return l, must(l.n.Push("up"))
}

func xsubSendsToAll(t *testing.T, p Profile) {
	l, up := xsubLab(t, p, Endpoint{})
	peers := []*peer{l.peer(XPUB, ""), l.peer(XPUB, "")}
	for _, parts := range [][]string{{"hello"}, {"", "\xff", block}} {
		l.sendTo(up, string(Join(raw(parts)...)))
		for _, q := range peers {
			q.expect(parts...)
		}
	}
}

func xsubNeverWaits(t *testing.T, p Profile) {
	l, up := xsubLab(t, p, Endpoint{Queue: 2})
	deaf := l.peer(XPUB, "")
	deaf.deaf = true
	l.sendTo(up, slices.Repeat([]string{block}, 10)...)
	if err := up.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.stats().Dropped[DropQueueFull]; got < 5 {
		t.Errorf("%d of 10 dropped", got)
	}
}

func xsubSubscribes(t *testing.T, p Profile) {
	l, up := xsubLab(t, p, Endpoint{})
	q := l.peer(XPUB, "")
	l.sendTo(up, "\x01a", "\x01a", "\x01b", "\x00b", "\x00a")
	for len(q.heard) < 3 {
		if err := q.poll(patience); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintf("%q", q.heard); got != `[{"SUBSCRIBE" "a"} {"SUBSCRIBE" "b"} {"CANCEL" "b"}]` {
		t.Errorf("got %s", got)
	}
	late := l.peer(XPUB, "") // it is told what is in force
	for len(late.heard) < 1 {
		if err := late.poll(patience); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintf("%q", late.heard); got != `[{"SUBSCRIBE" "a"}]` {
		t.Errorf("got %s", got)
	}
}
