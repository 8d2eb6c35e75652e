package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/patterns"
	"peermesh/socket"
)

// publisher is the part that publishes on a channel for durable subscriptions. It begins when enough of them are
// attached, and ends when all of them have everything.
type publisher struct {
	channel string
	count   uint64
	size    int
	rate    float64
	limit   int
	wait    int
	expect  listFlag
}

func publisherFlags(f *flag.FlagSet) func(context.Context, *part) error {
	var v publisher
	f.StringVar(&v.channel, "channel", "", "channel")
	f.Uint64Var(&v.count, "count", 0, "messages")
	f.IntVar(&v.size, "size", 100, "bytes of each, at least 8")
	f.Float64Var(&v.rate, "rate", 0, "messages a second; 0: as fast as it goes")
	f.IntVar(&v.limit, "drop-oldest", 0, "a subscription that is owed more than `N` messages loses the oldest; 0: none is ever lost")
	f.IntVar(&v.wait, "wait", 0, "begin when `N` subscriptions are attached")
	f.Var(&v.expect, "expect", "`name` of a durable subscription, may repeat")
	return func(ctx context.Context, p *part) error { return v.act(ctx, p) } // with what the flags will have set
}

// publishers are how many messages are on their way to the disk at a time.
const publishers = 512

// topicOfAll is the one topic.
const topicOfAll = "news"

func (v publisher) act(ctx context.Context, p *part) error {
	var opts []patterns.Option
	if v.limit > 0 {
		opts = append(opts, patterns.Limit(patterns.Limits{Count: v.limit}, patterns.DropOldest))
	}
	pub, err := p.node.Pub(v.channel, opts...)
	if err != nil {
		return err
	}
	for _, name := range v.expect {
		if err := pub.Expect(name); err != nil {
			return err
		}
	}
	if err := p.ready(); err != nil {
		return err
	}
	if err := pub.WaitReady(ctx, v.wait); err != nil {
		return err
	}
	stop := p.log.flushOften()
	err = v.publish(ctx, p, pub)
	if err == nil {
		err = pub.Flush(ctx)
	}
	if err = errors.Join(err, stop(), pub.Shutdown(ctx)); err != nil {
		return err
	}
	return p.log.summary(pub.Stats().Ledger)
}

// publish publishes everything, in no particular order: a seq tells the place.
func (v publisher) publish(ctx context.Context, p *part, pub *patterns.Pub) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	for range publishers {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < v.count && ctx.Err() == nil; n = next.Add(1) - 1 {
				if err := v.one(ctx, p, pub, n, began); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// one publishes message n when it is due.
func (v publisher) one(ctx context.Context, p *part, pub *patterns.Pub, n uint64, began time.Time) error {
	if v.rate > 0 {
		if err := pause(ctx, time.Until(began.Add(time.Duration(float64(n)/v.rate*float64(time.Second))))); err != nil {
			return err
		}
	}
	body := bodyOf(n, v.size)
	seq, err := pub.PublishMessage(ctx, &socket.Message{Topic: topicOfAll, Body: body})
	if err != nil {
		return err
	}
	p.log.sent(n, seq)
	return nil
}

// bodyOf is body n: the number again and again.
func bodyOf(n uint64, size int) []byte {
	body := make([]byte, 0, size+8)
	for len(body) < size {
		body = binary.BigEndian.AppendUint64(body, n)
	}
	return body[:size]
}

// numberOf is the number of a body that bodyOf made, and an error of any other.
func numberOf(body []byte) (uint64, error) {
	if len(body) < 8 {
		return 0, fmt.Errorf("a body of %d bytes", len(body))
	}
	n := binary.BigEndian.Uint64(body)
	if !bytes.Equal(body, bodyOf(n, len(body))) {
		return 0, fmt.Errorf("%x is a body that nobody made", body)
	}
	return n, nil
}

// subscriber is the part that has one durable subscription, until it is told to end.
type subscriber struct {
	channel, name string
}

func subscriberFlags(f *flag.FlagSet) func(context.Context, *part) error {
	var v subscriber
	f.StringVar(&v.channel, "channel", "", "channel")
	f.StringVar(&v.name, "name", "", "of the subscription")
	return func(ctx context.Context, p *part) error { return v.act(ctx, p) } // with what the flags will have set
}

const (
	ackAtOnce = 64 // messages acked together, once they are noted
	partGrace = 20 * time.Second
)

func (v subscriber) act(ctx context.Context, p *part) error {
	sub, err := p.node.Sub(v.channel, patterns.DurableName(v.name), patterns.OnDone(p.log.done), patterns.OnGap(p.log.gap))
	if err != nil {
		return err
	}
	if err := p.ready(); err != nil {
		return err
	}
	err = unlessTold(ctx, v.take(ctx, p, sub))
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), partGrace)
	defer cancel()
	return errors.Join(err, sub.Shutdown(grace))
}

// take notes messages as they come, and acks them when the note is out: a process that is killed has told of all that
// it has acked.
func (v subscriber) take(ctx context.Context, p *part, sub *patterns.Sub) error {
	over, cancel := context.WithCancel(ctx)
	cancel() // Recv under a context that has ended takes only what is there
	held := make([]*socket.Message, 0, ackAtOnce)
	for {
		m, err := sub.Recv(over)
		if err != nil || len(held) == ackAtOnce {
			if err := errors.Join(p.log.flush(), patterns.AckAll(held)); err != nil {
				return err
			}
			held = held[:0]
		}
		if err != nil {
			if m, err = sub.Recv(ctx); err != nil {
				return err
			}
		}
		n, err := numberOf(m.Body)
		if err != nil {
			return err
		}
		p.log.deliver(m, n)
		held = append(held, m)
	}
}
