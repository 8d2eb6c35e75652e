package gocloud

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/driver"
	"gocloud.dev/pubsub/drivertest"
)

// TestTheConformanceSuitePasses runs the Go CDK's own tests, each between two nodes of its own.
func TestTheConformanceSuitePasses(t *testing.T) {
	ownMesh(t)
	t.Run("pub", func(t *testing.T) {
		suite(t, func(from, to *node.Node) drivertest.Harness { return &channels{nodes: nodes{from, to}} }, channelAs{})
	})
	t.Run("push", func(t *testing.T) {
		suite(t, func(from, to *node.Node) drivertest.Harness { return &queues{nodes: nodes{from, to}} }, queueAs{})
	})
}

func suite(t *testing.T, harness func(from, to *node.Node) drivertest.Harness, as drivertest.AsTest) {
	make := func(_ context.Context, t *testing.T) (drivertest.Harness, error) {
		from := openNode(t, t.TempDir())
		return harness(from, openNode(t, t.TempDir(), from)), nil
	}
	drivertest.RunConformanceTests(t, make, []drivertest.AsTest{as})
}

type nodes struct{ from, to *node.Node }

func (n nodes) Close()                    {}
func (n nodes) MaxBatchSizes() (int, int) { return 0, 0 }

func nothing() {}

// channels runs the suite on Pub and durable Sub.
type channels struct {
	nodes
	subs int
}

func (c *channels) SupportsMultipleSubscriptions() bool { return true }

func (c *channels) CreateTopic(_ context.Context, name string) (driver.Topic, func(), error) {
	p, err := c.from.Pub(name)
	if err != nil {
		return nil, nil, err
	}
	return pubTopic(p), nothing, nil
}

func (c *channels) CreateSubscription(_ context.Context, t driver.Topic, _ string) (driver.Subscription, func(), error) {
	var p *patterns.Pub
	t.As(&p)
	c.subs++
	group := fmt.Sprint(c.subs)
	if err := p.Expect(group); err != nil {
		return nil, nil, err
	}
	s, err := c.to.Sub(p.Name(), patterns.DurableName(group))
	if err != nil {
		return nil, nil, err
	}
	return subSubscription(s), nothing, nil
}

// A topic that does not exist is one whose socket has closed.
func (c *channels) MakeNonexistentTopic(context.Context) (driver.Topic, error) {
	p, err := c.from.Pub("nonexistent")
	if err != nil {
		return nil, err
	}
	return pubTopic(p), p.Close()
}

func (c *channels) MakeNonexistentSubscription(context.Context) (driver.Subscription, func(), error) {
	s, err := c.to.Sub("nonexistent", patterns.DurableName("nonexistent"))
	if err != nil {
		return nil, nil, err
	}
	return subSubscription(s), nothing, s.Close()
}

// queues runs the suite on Push and Pull.
type queues struct{ nodes }

func (q *queues) SupportsMultipleSubscriptions() bool { return false }

func (q *queues) CreateTopic(_ context.Context, name string) (driver.Topic, func(), error) {
	p, err := q.from.Push(name)
	if err != nil {
		return nil, nil, err
	}
	return pushTopic(p), nothing, nil
}

func (q *queues) CreateSubscription(_ context.Context, t driver.Topic, _ string) (driver.Subscription, func(), error) {
	var p *patterns.Push
	t.As(&p)
	s, err := q.to.Pull(p.Name())
	if err != nil {
		return nil, nil, err
	}
	return pullSubscription(s), nothing, nil
}

func (q *queues) MakeNonexistentTopic(context.Context) (driver.Topic, error) {
	p, err := q.from.Push("nonexistent")
	if err != nil {
		return nil, err
	}
	return pushTopic(p), p.Close()
}

func (q *queues) MakeNonexistentSubscription(context.Context) (driver.Subscription, func(), error) {
	s, err := q.to.Pull("nonexistent")
	if err != nil {
		return nil, nil, err
	}
	return pullSubscription(s), nothing, s.Close()
}

// channelAs and queueAs check what As gives.
type (
	channelAs struct{ messageAs }
	queueAs   struct{ messageAs }
)

func check(ok bool) error {
	if !ok {
		return errors.New("As does not know the type")
	}
	return nil
}

func (channelAs) TopicCheck(t *pubsub.Topic) error {
	var p *patterns.Pub
	return check(t.As(&p) && p != nil)
}

func (channelAs) SubscriptionCheck(s *pubsub.Subscription) error {
	var p *patterns.Sub
	return check(s.As(&p) && p != nil)
}

func (queueAs) TopicCheck(t *pubsub.Topic) error {
	var p *patterns.Push
	return check(t.As(&p) && p != nil)
}

func (queueAs) SubscriptionCheck(s *pubsub.Subscription) error {
	var p *patterns.Pull
	return check(s.As(&p) && p != nil)
}

type messageAs struct{}

func (messageAs) Name() string { return "the mesh's own" }

func (messageAs) TopicErrorCheck(t *pubsub.Topic, err error) error {
	var own error
	return check(t.ErrorAs(err, &own) && errors.Is(own, socket.ErrClosed))
}

func (messageAs) SubscriptionErrorCheck(s *pubsub.Subscription, err error) error {
	var own error
	return check(s.ErrorAs(err, &own) && errors.Is(own, socket.ErrClosed))
}

func (messageAs) MessageCheck(m *pubsub.Message) error {
	var of *socket.Message
	return check(m.As(&of) && of.Seq() > 0)
}

func (messageAs) BeforeSend(as func(any) bool) error {
	var of *socket.Message
	return check(as(&of) && of != nil)
}

func (messageAs) AfterSend(as func(any) bool) error {
	var id ID
	return check(as(&id) && id.Seq > 0)
}
