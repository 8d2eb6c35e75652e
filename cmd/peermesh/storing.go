package main

import (
	"context"
	"fmt"
	"sync"

	"peermesh/socket"
)

// inFlight bounds the messages that are on their way to the disk: more than one sync
// takes along, so that the next one has its share when it comes.
const inFlight = 1 << 15

// storing is the way of messages to the disk. Many are under way at a time, and in the
// order in which they were sent a goroutine waits for each and tells that it is there.
//
//	post --> queue --> Stored --> sent, or unknown
type storing struct {
	s     *sending
	queue chan posted
	wg    sync.WaitGroup

	hard  context.Context // ends when a disk that does not answer has been given its time
	leave func()
}

// posting hands a message to the disk and tells its seq; stored waits until it is there.
type posting func(context.Context, *socket.Message) (seq uint64, stored func(context.Context) error, err error)

// posted is a message of which the disk has not answered.
type posted struct {
	n, seq uint64
	stored func(context.Context) error
}

func newStoring(s *sending) *storing {
	d := &storing{s: s, queue: make(chan posted, inFlight)}
	hard, abandon := context.WithCancelCause(context.Background())
	over := make(chan struct{})
	late := context.AfterFunc(s.talk.ctx, func() {
		defer close(over)
		if pause(hard, drainFor) == nil {
			abandon(context.Cause(s.talk.ctx))
		}
	})
	d.hard = hard
	d.leave = func() {
		abandon(nil)
		if !late() {
			<-over
		}
	}
	d.wg.Go(d.confirm)
	return d
}

// post hands message n to the disk. It blocks while as much is on its way as may be.
func (d *storing) post(n uint64, m *socket.Message) error {
	seq, stored, err := d.s.post(d.s.talk.ctx, m)
	if err != nil {
		return err
	}
	d.s.fates.accepted(n, seq)
	d.queue <- posted{n, seq, stored}
	return nil
}

// confirm waits for each message and tells what the disk has made of it.
func (d *storing) confirm() {
	for p := range d.queue {
		err := p.stored(d.hard)
		if err == nil {
			d.s.sent(p.n, p.seq)
			continue
		}
		d.s.talk.app.events.emit("unknown", unknownEvent{p.n})
		d.s.fates.sent(p.seq)
		if err := d.s.skip(fmt.Errorf("message %d: %w", p.n, err)); err != nil {
			d.s.talk.stop(err) // whoever waits for stdin is not to wait on
		}
	}
}

// finish waits until everything posted is told. Nothing more may be posted. It returns
// why the run is over, nil if it is not.
func (d *storing) finish() error {
	close(d.queue)
	d.wg.Wait()
	d.leave()
	return context.Cause(d.s.talk.ctx)
}
