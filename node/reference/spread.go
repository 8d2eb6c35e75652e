package reference

import (
	"context"
	"fmt"
	"sync"

	"peermesh/internal/wire"
)

// Spread sends messages as Push does, but each of them to one server only: a piece of some 64 KiB goes to whichever
// server can take one first. It blocks until every server has told that it parsed all that went there, and returns how
// many messages that is.
func (c *Client) Spread(ctx context.Context, body []byte, more func(sent int) (most int)) (sent int, err error) {
	if len(body) > MaxBody {
		return 0, fmt.Errorf("reference: body of %d bytes, at most %d", len(body), MaxBody)
	}
	pushes := make([]*push, len(c.links))
	for i, l := range c.links {
		if pushes[i], err = newPush(ctx, l); err != nil {
			return 0, err
		}
		defer pushes[i].close()
	}
	d := newDealer(pushes)
	sent = d.deal(body, more)
	if err := d.end(); err != nil {
		return 0, err
	}
	for i, p := range pushes {
		if err := p.finish(d.dealt[i]); err != nil {
			return 0, err
		}
	}
	return sent, nil
}

// piece is what one write takes, and how many messages are in it.
type piece struct {
	bytes []byte
	n     int
}

// dealer hands pieces to the servers that have room.
type dealer struct {
	wg    sync.WaitGroup
	full  chan *piece
	empty chan *piece // to be filled again
	dealt []int       // messages by server, once all is written

	once   sync.Once
	failed chan struct{} // closed once err is set
	err    error
}

func newDealer(pushes []*push) *dealer {
	pieces := len(pushes) + laneLength // one under way to each server, and some that wait for the first to have room
	d := &dealer{full: make(chan *piece, pieces), empty: make(chan *piece, pieces), dealt: make([]int, len(pushes)), failed: make(chan struct{})}
	for range pieces {
		d.empty <- &piece{}
	}
	for i, p := range pushes {
		d.wg.Go(func() {
			for next := range d.full {
				if err := p.write(next.bytes); err != nil {
					d.once.Do(func() { d.err = err; close(d.failed) })
					return
				}
				d.dealt[i] += next.n
				d.empty <- next
			}
		})
	}
	return d
}

// deal frames messages until more says that those sent are enough, or one could not be written, which end tells.
func (d *dealer) deal(body []byte, more func(sent int) (most int)) (sent int) {
	var run []byte
	for most := more(0); most > 0; most = more(sent) {
		var next *piece
		select {
		case next = <-d.empty:
		case <-d.failed:
			return sent
		}
		run, next.n = appendRun(run[:0], body, most, wire.MaxRun)
		next.bytes = wire.AppendData(next.bytes[:0], wire.Run{Base: uint64(sent) + 1, Attempt: 1}, run)
		d.full <- next
		sent += next.n
	}
	return sent
}

// end waits until all is written.
func (d *dealer) end() error {
	close(d.full)
	d.wg.Wait()
	return d.err
}
