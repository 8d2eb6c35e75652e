package meshtest_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// One of sixteen subscribers takes a few messages and answers none. The others get all in time; what it misses is
// counted, and told when it goes on.
func TestAStuckSubscriberSlowsNobody(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		const queue = 300
		others, count := lighter(15), lighter(2500)
		ctx := within(t, 10*time.Minute)
		p := m.Node("publisher")
		pub := must[*patterns.Pub](t)(p.Pub("news", patterns.Queue(queue, 8<<20)))
		var wg sync.WaitGroup
		for i := range others {
			sub := must[*patterns.Sub](t)(m.Node(fmt.Sprint("sub", i)).Sub("news"))
			wg.Go(func() {
				hearInTime(t, ctx, sub, count)
				if err := sub.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		stuck := newListener(m.Node("stuck"))
		late := must[*patterns.Sub](t)(stuck.node.Sub("news", patterns.OnGap(stuck.gap)))
		check(t, pub.WaitReady(ctx, others+1))
		var held []*socket.Message
		for i := range count {
			check(t, pub.Publish(ctx, "x", strconv.AppendInt(nil, time.Now().UnixNano(), 10)))
			if i < 10 {
				held = append(held, must[*socket.Message](t)(late.Recv(ctx)))
				stuck.hear(held[i])
			}
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		var dropped uint64
		for _, s := range p.Sockets() {
			dropped += s.Sender.Ledger.Dropped["overflow"]
		}
		if least := uint64(count - queue - 10); dropped < least {
			t.Errorf("%d drops are counted, want at least %d", dropped, least)
		}
		for _, msg := range held { // it goes on
			check(t, msg.Ack())
		}
		wg.Go(func() { stuck.listen(ctx, late, 0) })
		check(t, pub.Flush(ctx))
		last := must[uint64](t)(pub.PublishMessage(ctx, &socket.Message{Topic: "end"}))
		check(t, pub.Flush(ctx))
		stuck.check(t, last)
		check(t, late.Close())
		wg.Wait()
	})
}

// hearInTime expects count messages, each of which says when it was published.
func hearInTime(t *testing.T, ctx context.Context, sub *patterns.Sub, count int) {
	for i := range count {
		msg, err := sub.Recv(ctx)
		if err != nil {
			t.Errorf("message %d: %v", i, err)
			return
		}
		published, err := strconv.ParseInt(string(msg.Body), 10, 64)
		if took := time.Duration(time.Now().UnixNano() - published); err != nil || took > 50*time.Millisecond || msg.Seq() != uint64(i+1) {
			t.Errorf("message %d, seq %d: after %v, %v", i, msg.Seq(), took, err)
			return
		}
		if err := msg.Ack(); err != nil {
			t.Error(err)
			return
		}
	}
}
