package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// A tally is what a part of the pipeline has handled, kept in the transactions that handle it: how many messages, how
// many of them a second time, and a bit for each.
const (
	tallyCount = "count"
	tallyAgain = "again"
	tallyBits  = 1 << 12 // of one value
)

// tallied counts message n in a transaction.
func tallied(tx *node.Tx, n uint64) error {
	key := fmt.Sprint("seen ", n/tallyBits)
	seen := tx.Get(key)
	if seen == nil {
		seen = make([]byte, tallyBits/8)
	}
	at, bit := n%tallyBits/8, byte(1)<<(n%8)
	again := seen[at]&bit != 0
	seen[at] |= bit
	err := errors.Join(tx.Put(key, seen), tx.Put(tallyCount, counter(tx.Get(tallyCount), 1)))
	if again {
		err = errors.Join(err, tx.Put(tallyAgain, counter(tx.Get(tallyAgain), 1)))
	}
	return err
}

// counter is a number as values keep it; what is not there is 0.
func counter(old []byte, plus uint64) []byte {
	n, _ := binary.Uvarint(old)
	return binary.AppendUvarint(nil, n+plus)
}

// source is the first part of the pipeline: it makes numbers, from 1.
type source struct {
	to   string
	rate float64
}

func sourceFlags(f *flag.FlagSet) func(context.Context, *part) error {
	var v source
	f.StringVar(&v.to, "to", "", "queue")
	f.Float64Var(&v.rate, "rate", 0, "numbers a second; 0: it makes no more, and sends what it has made")
	return func(ctx context.Context, p *part) error { return v.act(ctx, p) } // with what the flags will have set
}

func (v source) act(ctx context.Context, p *part) error {
	push, err := p.node.Push(v.to)
	if err != nil {
		return err
	}
	if err := p.ready(); err != nil {
		return err
	}
	if v.rate == 0 {
		<-ctx.Done()
		return push.Close()
	}
	var wg sync.WaitGroup
	due := make(chan struct{})
	errs := make(chan error, handlers)
	for range handlers {
		wg.Go(func() {
			for range due {
				if err := unlessTold(ctx, v.one(ctx, p, push)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	err = v.tick(ctx, due, errs)
	close(due)
	wg.Wait()
	return errors.Join(unlessTold(ctx, err), push.Close())
}

// tick says when a number is due, until ctx ends or one could not be made.
func (v source) tick(ctx context.Context, due chan<- struct{}, errs <-chan error) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / v.rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case err := <-errs:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case due <- struct{}{}:
		case err := <-errs:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// one makes the next number: that it is made and that it is sent is one step.
func (v source) one(ctx context.Context, p *part, push *patterns.Push) error {
	return p.step(ctx, func(tx *node.Tx) error {
		body := counter(tx.Get(tallyCount), 1)
		n, _ := binary.Uvarint(body)
		return errors.Join(tallied(tx, n), tx.Send(push, &socket.Message{Body: body}))
	})
}

// step runs a transaction, and tells how far the part has come with it.
func (p *part) step(ctx context.Context, f func(tx *node.Tx) error) error {
	var n uint64
	err := p.node.Tx(ctx, func(tx *node.Tx) error {
		err := f(tx)
		n, _ = binary.Uvarint(tx.Get(tallyCount))
		return err
	})
	if err != nil {
		return err
	}
	p.log.step(n)
	return p.log.flush()
}

// handlers are how many messages a part of the pipeline handles at a time: they share the wait for the disk.
const handlers = 8

// stage is a part in the middle of the pipeline: what it takes and what it sends is one step.
type stage struct{ from, to string }

func stageFlags(f *flag.FlagSet) func(context.Context, *part) error {
	var v stage
	f.StringVar(&v.from, "from", "", "queue")
	f.StringVar(&v.to, "to", "", "queue")
	return func(ctx context.Context, p *part) error { return v.act(ctx, p) } // with what the flags will have set
}

func (v stage) act(ctx context.Context, p *part) error {
	push, err := p.node.Push(v.to)
	if err != nil {
		return err
	}
	err = p.handle(ctx, v.from, func(tx *node.Tx, m *socket.Message) error {
		return tx.Send(push, &socket.Message{Body: m.Body})
	})
	return errors.Join(err, push.Close())
}

// sink is the last part of the pipeline.
type sink struct{ from string }

func sinkFlags(f *flag.FlagSet) func(context.Context, *part) error {
	var v sink
	f.StringVar(&v.from, "from", "", "queue")
	return func(ctx context.Context, p *part) error { // with what the flags will have set
		return p.handle(ctx, v.from, func(*node.Tx, *socket.Message) error { return nil })
	}
}

// handle handles what comes from a queue, each message in one transaction with its ack and its count.
func (p *part) handle(ctx context.Context, from string, more func(*node.Tx, *socket.Message) error) error {
	pull, err := p.node.Pull(from)
	if err != nil {
		return err
	}
	if err := p.ready(); err != nil {
		return err
	}
	err = pull.Handle(ctx, handlers, func(ctx context.Context, m *socket.Message) error {
		return p.step(ctx, func(tx *node.Tx) error {
			n, size := binary.Uvarint(m.Body)
			if size != len(m.Body) {
				return fmt.Errorf("%x is no number", m.Body)
			}
			return errors.Join(tallied(tx, n), more(tx, m), tx.Ack(m))
		})
	})
	return errors.Join(unlessTold(ctx, err), pull.Close())
}

// tallyFlags is of the part that reads the tally of another, which must have ended.
func tallyFlags(*flag.FlagSet) func(context.Context, *part) error {
	return func(ctx context.Context, p *part) error {
		t, err := readTally(ctx, p.node)
		if err != nil {
			return err
		}
		p.log.put("tally", func(row []byte) []byte {
			return number(number(number(number(row, "count", t.Count), "again", t.Again), "kinds", t.Kinds), "highest", t.Highest)
		})
		return nil
	}
}

// tally is what a part of the pipeline has counted.
type tally struct {
	Count, Again   uint64
	Kinds, Highest uint64 // different numbers, and the highest of them: from 1 on without a hole if they are equal
}

func readTally(ctx context.Context, n *node.Node) (t tally, err error) {
	count, err1 := n.Get(ctx, tallyCount)
	again, err2 := n.Get(ctx, tallyAgain)
	if err := errors.Join(err1, err2); err != nil {
		return t, err
	}
	t.Count, _ = binary.Uvarint(count)
	t.Again, _ = binary.Uvarint(again)
	for chunk := uint64(0); chunk <= t.Count/tallyBits; chunk++ {
		seen, err := n.Get(ctx, fmt.Sprint("seen ", chunk))
		if err != nil {
			return t, err
		}
		for i := range uint64(len(seen)) * 8 {
			if seen[i/8]&(1<<(i%8)) != 0 {
				t.Kinds, t.Highest = t.Kinds+1, chunk*tallyBits+i
			}
		}
	}
	return t, nil
}
