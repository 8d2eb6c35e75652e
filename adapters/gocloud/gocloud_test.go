package gocloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
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

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func next(t *testing.T, s *pubsub.Subscription) *pubsub.Message {
	t.Helper()
	m, err := s.Receive(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mux(n *node.Node) *pubsub.URLMux {
	opener, mux := &URLOpener{Node: n}, new(pubsub.URLMux)
	mux.RegisterTopic(Scheme, opener)
	mux.RegisterSubscription(Scheme, opener)
	return mux
}

func topicAt(t *testing.T, n *node.Node, url string) *pubsub.Topic {
	t.Helper()
	topic, err := mux(n).OpenTopic(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func subscriptionAt(t *testing.T, n *node.Node, url string) *pubsub.Subscription {
	t.Helper()
	s, err := mux(n).OpenSubscription(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, topic *pubsub.Topic, body string) {
	t.Helper()
	if err := topic.Send(within(t), &pubsub.Message{Body: []byte(body), Metadata: map[string]string{"kind": "test"}}); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesOutliveTheSendersProcess(t *testing.T) {
	ownMesh(t)
	for _, pair := range []struct{ topic, subscription string }{
		{"peermesh://pub/a?expect=one", "peermesh://sub/a?durable=one"},
		{"peermesh://push/b", "peermesh://pull/b"},
	} {
		t.Run(pair.topic, func(t *testing.T) {
			dir := t.TempDir()
			before := openNode(t, dir)
			send(t, topicAt(t, before, pair.topic), "kept")
			if err := before.Close(); err != nil {
				t.Fatal(err)
			}

			after := openNode(t, dir)
			topicAt(t, after, pair.topic)
			m := next(t, subscriptionAt(t, openNode(t, t.TempDir(), after), pair.subscription))
			m.Ack()
			if string(m.Body) != "kept" || m.Metadata["kind"] != "test" {
				t.Errorf("got %q %v", m.Body, m.Metadata)
			}
		})
	}
}

func TestAShutDownSubscriptionLeavesItsWorkToOthers(t *testing.T) {
	ownMesh(t)
	sender := openNode(t, t.TempDir())
	topic := topicAt(t, sender, "peermesh://push/jobs")
	for i := range 10 {
		send(t, topic, fmt.Sprint(i))
	}
	first := subscriptionAt(t, openNode(t, t.TempDir(), sender), "peermesh://pull/jobs")
	next(t, first).Ack()
	left := next(t, first)
	if err := first.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}

	second := subscriptionAt(t, openNode(t, t.TempDir(), sender), "peermesh://pull/jobs")
	seen := map[string]bool{}
	for range 9 {
		m := next(t, second)
		m.Ack()
		seen[m.LoggableID] = true
		var of *socket.Message
		if m.LoggableID == left.LoggableID && !(m.As(&of) && of.Redelivered()) {
			t.Error("the message that was left unanswered is not flagged")
		}
	}
	if len(seen) != 9 || !seen[left.LoggableID] {
		t.Errorf("got %v, want 9 messages, %s among them", seen, left.LoggableID)
	}
}

func TestSubscriptionsOfAGroupShareAndOthersGetAll(t *testing.T) {
	ownMesh(t)
	sender := openNode(t, t.TempDir())
	topic := topicAt(t, sender, "peermesh://pub/news?expect=group&expect=other")
	for i := range 20 {
		send(t, topic, fmt.Sprint(i))
	}
	bodies := make(chan string)
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	for range 2 {
		s := subscriptionAt(t, openNode(t, t.TempDir(), sender), "peermesh://sub/news?durable=group")
		go func() {
			for {
				m, err := s.Receive(ctx)
				if err != nil {
					return
				}
				m.Ack()
				bodies <- string(m.Body)
			}
		}()
	}
	group := map[string]int{}
	for range 20 {
		group[<-bodies]++
	}
	if len(group) != 20 {
		t.Errorf("the group got %v", group)
	}
	other := subscriptionAt(t, openNode(t, t.TempDir(), sender), "peermesh://sub/news?durable=other")
	for range 20 {
		m := next(t, other)
		m.Ack()
		delete(group, string(m.Body))
	}
	if len(group) != 0 {
		t.Errorf("the other subscription did not get %v", group)
	}
}

func TestATopicThatWasShutDownStillDelivers(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "") // in memory alone: nothing else could deliver it
	topic := topicAt(t, n, "peermesh://push/jobs")
	send(t, topic, "late")
	if err := topic.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	m := next(t, subscriptionAt(t, n, "peermesh://pull/jobs"))
	m.Ack()
	if string(m.Body) != "late" {
		t.Errorf("got %q", m.Body)
	}
}

func TestSendersSetWhatOnlyTheMeshHas(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	topic := topicAt(t, n, "peermesh://push/jobs")
	var id ID
	m := &pubsub.Message{
		BeforeSend: func(as func(any) bool) error {
			var of *socket.Message
			if !as(&of) {
				return errors.New("no message")
			}
			of.Key, of.TTL = "key", time.Hour
			return nil
		},
		AfterSend: func(as func(any) bool) error {
			if !as(&id) {
				return errors.New("no id")
			}
			return nil
		},
	}
	if err := topic.Send(within(t), m); err != nil {
		t.Fatal(err)
	}
	got := next(t, subscriptionAt(t, n, "peermesh://pull/jobs"))
	got.Ack()
	var of *socket.Message
	if !got.As(&of) || of.Key != "key" || of.TTL != time.Hour {
		t.Errorf("got %+v", of)
	}
	if want := fmt.Sprintf("%s/%d", id.Stream, id.Seq); got.LoggableID != want {
		t.Errorf("sent as %s, received as %s", want, got.LoggableID)
	}
	var push *patterns.Push
	if !topic.As(&push) || push.Name() != "jobs" {
		t.Errorf("got %v", push)
	}
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	push, err := n.Push("jobs", patterns.Queue(1, 1<<20), patterns.OnOverflow(patterns.Refuse))
	if err != nil {
		t.Fatal(err)
	}
	topic := PushTopic(push)
	send(t, topic, "fits")
	err = topic.Send(within(t), &pubsub.Message{})
	if gcerrors.Code(err) != gcerrors.ResourceExhausted || !errors.Is(err, socket.ErrQueueFull) {
		t.Errorf("a full queue: got %v", err)
	}
	var own error
	if !topic.ErrorAs(err, &own) || own == nil {
		t.Errorf("the mesh's own error: got %v", own)
	}
	err = topic.Send(within(t), &pubsub.Message{Body: make([]byte, node.DefaultMaxMessage+1)})
	if gcerrors.Code(err) != gcerrors.InvalidArgument {
		t.Errorf("too large: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for err, want := range map[error]gcerrors.ErrorCode{
		fmt.Errorf("%w: %w", socket.ErrUnknown, context.Canceled): gcerrors.Unknown,
		context.Cause(ctx):        gcerrors.Canceled,
		context.DeadlineExceeded:  gcerrors.DeadlineExceeded,
		net.ErrClosed:             gcerrors.NotFound,
		socket.ErrNoDir:           gcerrors.FailedPrecondition,
		errors.New("another one"): gcerrors.Unknown,
	} {
		if got := code(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

func TestURLsThatMeanNothingAreErrors(t *testing.T) {
	ownMesh(t)
	m := mux(openNode(t, ""))
	for url, says := range map[string]string{
		"peermesh://pull/jobs":                     "not a kind of topic",
		"peermesh://push/jobs?laevel=memory":       `"laevel" is not known here`,
		"peermesh://push/jobs?level=safe":          `"safe"`,
		"peermesh://push/jobs?level=memory&level=": "2 times",
		"peermesh://push/":                         "name",
		"peermesh://push/jobs?level=durable":       "state directory",
		"peermesh://pub/news?keep=many":            `"many"`,
		"peermesh://pub/news?expect=one":           "durable",
		"peermesh://push/jobs?%zz":                 "invalid URL escape",
	} {
		if _, err := m.OpenTopic(t.Context(), url); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want one that says %q", url, err, says)
		}
	}
	for url, says := range map[string]string{
		"peermesh://pub/news":              "not a kind of subscription",
		"peermesh://pull/jobs?durable=one": `"durable" is not known here`,
		"peermesh://sub/news?from=then":    `"then"`,
		"peermesh://sub/news?topic=a.>.b":  "a.>.b",
	} {
		if _, err := m.OpenSubscription(t.Context(), url); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want one that says %q", url, err, says)
		}
	}
	// What failed holds nothing.
	for _, url := range []string{"peermesh://push/jobs", "peermesh://push/jobs?", "peermesh://pub/news"} {
		if _, err := m.OpenTopic(t.Context(), url); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.OpenTopic(t.Context(), "peermesh://push/jobs?level=memory"); !errors.Is(err, node.ErrNameInUse) {
		t.Errorf("one queue with two levels: got %v", err)
	}
}
