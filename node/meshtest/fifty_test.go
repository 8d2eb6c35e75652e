package meshtest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
)

// Fifty nodes, each with a Pub and a Sub of one channel: 1,225 links and 2,500 pipes. Everyone hears everyone. What it
// takes of real time on two cores shows
//
//	GOMAXPROCS=2 taskset -c 0,1 go test -count=1 -v -run FiftyNodes ./node/meshtest
func TestFiftyNodesAllHearAll(t *testing.T) {
	count := 50
	if raceDetector || testing.Short() {
		count = 12
	}
	began := time.Now() // real, the bubble's clock is not
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		ctx := within(t, time.Minute)
		nodes := make([]*node.Node, count)
		for i := range nodes {
			nodes[i] = m.Node(fmt.Sprint("n", i))
		}
		opened := time.Now()
		var wg sync.WaitGroup
		for _, n := range nodes {
			sub := must[*patterns.Sub](t)(n.Sub("all"))
			wg.Go(func() { hearAll(t, ctx, n, sub, count) })
			wg.Go(func() {
				if err := speak(ctx, n, count); err != nil {
					t.Errorf("%s: %v", n.Name(), err)
				}
			})
		}
		wg.Wait()
		m.AwaitLinks(nodes...)
		t.Logf("%v of fake time, %+v", time.Since(opened), m.Net().Stats())
	})
	t.Logf("%d nodes up, every one heard every one, and down again: %v of real time", count, time.Since(began).Round(time.Millisecond))
}

// speak publishes the node's name when all subscribe, and waits until all have acknowledged it.
func speak(ctx context.Context, n *node.Node, count int) error {
	pub, err := n.Pub("all")
	if err != nil {
		return err
	}
	if err := pub.WaitReady(ctx, count); err != nil {
		return err
	}
	if err := pub.Publish(ctx, "hello", []byte(n.Name())); err != nil {
		return err
	}
	return pub.Flush(ctx)
}

// hearAll waits for one message from each node.
func hearAll(t *testing.T, ctx context.Context, n *node.Node, sub *patterns.Sub, count int) {
	heard := map[string]bool{}
	for len(heard) < count {
		msg, err := sub.Recv(ctx)
		if err != nil {
			t.Errorf("%s heard %d of %d: %v", n.Name(), len(heard), count, err)
			return
		}
		if from := string(msg.Body); heard[from] || msg.Redelivered() {
			t.Errorf("%s heard %s again, redelivered %v", n.Name(), from, msg.Redelivered())
		}
		heard[string(msg.Body)] = true
		if err := msg.Ack(); err != nil {
			t.Errorf("%s: ack: %v", n.Name(), err)
		}
	}
}
