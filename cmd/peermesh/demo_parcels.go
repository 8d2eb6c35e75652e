package main

import (
	"context"
	"errors"
	"fmt"

	"peermesh/node"
	"peermesh/patterns"
)

// whoComesBack is the member of the crew that is killed and comes back.
const whoComesBack = "erik"

const (
	// parcelsTold is how many parcels are on disk before their sender is killed.
	parcelsTold = 200
	// parcelsSent is where the diary has the parcels of which their sender has said that
	// they are on disk.
	parcelsSent = "parcels sent"
)

// parcels is what came of the parcels.
type parcels struct {
	told   int             // of so many their sender has said that they are on disk
	ledger patterns.Ledger // of his second life
}

// all is how many there were: those told, and perhaps one that was on disk when there was
// no time left to say so.
func (p *parcels) all(handled []handling) int {
	for _, h := range handled {
		if h.n == p.told {
			return p.told + 1
		}
	}
	return p.told
}

// send makes a member of the crew send parcels, without end.
func (c *crew) send() error {
	p, err := c.node.Push(demoParcels)
	if err != nil {
		return err
	}
	if p.Stats().Ledger.Carried > 0 {
		return errors.Join(errUnfinished, p.Close())
	}
	c.run(func(ctx context.Context) error {
		for n := 0; ; n++ {
			if err := p.Send(ctx, numbered(n)); err != nil {
				return err
			}
			c.tell(entry{At: parcelsSent, N: n})
		}
	})
	return nil
}

// startErik lets erik begin, before the scenes: while a process is being started it has a
// copy of every open file, and with it of the lock of a directory that dora gives back.
func (d *demo) startErik(ctx context.Context) (err error) {
	role := d.cast.role(whoComesBack)
	role.Sends = true
	d.erik, err = d.app.startChild(ctx, role, d.diary.write)
	return err
}

// keepParcels: erik sends parcels to anna, who is slower. He is killed, and comes back
// with what he had on disk.
func (d *demo) keepParcels(ctx context.Context) (err error) {
	for told := 0; told < parcelsTold && err == nil; told = len(d.diary.of(parcelsSent)) {
		err = pause(ctx, demoWork)
	}
	d.erik.kill()
	if err != nil {
		return err
	}
	p := &parcels{told: len(d.diary.of(parcelsSent))}
	d.show.say("push/pull", "erik is killed (SIGKILL): %d parcels were on his disk, and anna has handled %d", p.told, d.diary.ended(demoParcels))
	n, err := node.Open(ctx, d.cast.role(whoComesBack).config(d.app))
	if err != nil {
		return fmt.Errorf("%s comes back: %w", whoComesBack, err)
	}
	again, err := n.Push(demoParcels)
	if err == nil {
		err = again.Flush(ctx)
		p.ledger = again.Stats().Ledger
	}
	if err = errors.Join(err, n.Close()); err != nil {
		return err
	}
	d.parcels = p
	d.show.say("push/pull", "erik came back and delivered the %d that were left", p.ledger.Carried)
	return nil
}
