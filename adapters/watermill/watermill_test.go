package watermill

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/socket"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
)

// ownMesh keeps the tests to themselves.
func ownMesh(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
}

func openNode(t *testing.T, dir string, peers ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: "test", Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, p.Addr().String())
	}
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestTheUniversalSuitePasses runs Watermill's own tests between two nodes. The README says
// why these features and no others.
func TestTheUniversalSuitePasses(t *testing.T) {
	ownMesh(t)
	from := openNode(t, t.TempDir())
	to := openNode(t, t.TempDir(), from)
	cfg := Config{Keep: 1000, ResendAfter: time.Millisecond}
	publishing, subscribing := Open(from, cfg), Open(to, cfg)
	tests.TestPubSub(t,
		tests.Features{
			ConsumerGroups:                      true,
			GuaranteedOrder:                     true,
			GuaranteedOrderWithSingleSubscriber: true,
			Persistent:                          true,
		},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return publishing.Publisher(), subscribing.Subscriber("")
		},
		func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
			return publishing.Publisher(), subscribing.Subscriber(group)
		},
	)
}

// A topic that keeps its messages gives them to groups that begin later. The suite asks for
// that of every new subscriber, so each is a group of its own here.
func TestGroupsThatBeginLaterGetWhatIsKept(t *testing.T) {
	ownMesh(t)
	from := openNode(t, t.TempDir())
	to := openNode(t, t.TempDir(), from)
	publishing, subscribing := Open(from, Config{Keep: 1000}), Open(to, Config{})
	tests.TestNewSubscriberReceivesOldMessages(t,
		tests.TestContext{TestID: tests.NewTestID(), Features: tests.Features{NewSubscriberReceivesOldMessages: true}},
		func(*testing.T) (message.Publisher, message.Subscriber) {
			return publishing.Publisher(), subscribing.Subscriber(tests.NewTestID().String())
		})
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func next(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-within(t).Done():
		t.Fatal("no message")
		return nil
	}
}

func TestMessagesOutliveThePublishersProcess(t *testing.T) {
	ownMesh(t)
	dir := t.TempDir()
	a := openNode(t, dir)
	mesh := Open(a, Config{Groups: []string{"one", "two"}})
	m := message.NewMessage("id", []byte("body"))
	m.Metadata.Set("kind", "test")
	if err := mesh.Publisher().Publish("topic", m); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mesh.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}

	a = openNode(t, dir)
	mesh = Open(a, Config{Groups: []string{"one", "two"}})
	if err := mesh.Publisher().Publish("topic"); err != nil { // brings the topic up
		t.Fatal(err)
	}
	there := Open(openNode(t, t.TempDir(), a), Config{})
	for _, group := range []string{"one", "two"} {
		sub := there.Subscriber(group)
		messages, err := sub.Subscribe(t.Context(), "topic")
		if err != nil {
			t.Fatal(err)
		}
		got := next(t, messages)
		if !got.Equals(m) {
			t.Errorf("%s: got %v %v %q, want %v", group, got.UUID, got.Metadata, got.Payload, m)
		}
		got.Ack()
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
		if _, err := sub.Subscribe(t.Context(), "topic"); !errors.Is(err, ErrClosed) {
			t.Errorf("Subscribe: got %v, want %v", err, ErrClosed)
		}
	}
}

func TestSubscribersOfAGroupShareItsMessages(t *testing.T) {
	ownMesh(t)
	const total = 100
	a := openNode(t, t.TempDir())
	p := Open(a, Config{}).Publisher()
	var mu sync.Mutex
	seen := map[string]int{}
	all := make(chan struct{})
	ctx, stop := context.WithCancel(within(t))
	var wg sync.WaitGroup
	for _, n := range []*node.Node{a, openNode(t, t.TempDir(), a)} {
		mesh := Open(n, Config{})
		for range 2 {
			messages, err := mesh.Subscriber("").Subscribe(ctx, "topic")
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for m := range messages {
					mu.Lock()
					if seen[m.UUID]++; len(seen) == total {
						close(all)
					}
					mu.Unlock()
					m.Ack()
				}
			})
		}
	}
	for i := range total {
		if err := p.Publish("topic", message.NewMessage(string(rune('A'+i)), nil)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Errorf("only %d of %d", len(seen), total)
	}
	stop()
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

func TestANodeWithoutADirectoryIsRefused(t *testing.T) {
	ownMesh(t)
	p := Open(openNode(t, ""), Config{}).Publisher()
	if err := p.Publish("topic", message.NewMessage("id", nil)); !errors.Is(err, socket.ErrNoDir) {
		t.Errorf("got %v, want %v", err, socket.ErrNoDir)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if err := p.Publish("topic"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
}

func TestReservedMetadataIsRefused(t *testing.T) {
	ownMesh(t)
	m := message.NewMessage("id", nil)
	m.Metadata.Set(headerUUID, "other")
	if err := Open(openNode(t, t.TempDir()), Config{}).Publisher().Publish("topic", m); err == nil {
		t.Error("accepted")
	}
}
