package main

import (
	"context"
	"fmt"

	"peermesh/socket"
)

// Bounds of what is written to stdout at a time. A batch is acknowledged as a whole,
// so it is kept well below the window of a sender, who goes on meanwhile.
const (
	batchBytes    = 64 << 10
	batchMessages = 64
)

// batch is bodies on their way to stdout, in order.
type batch struct {
	text []byte
	held []*socket.Message // acknowledged once text is written
}

// stream prints bodies in order as fast as they come. Nothing is acknowledged before
// it has been written to stdout, so a process that dies loses nothing: what it had
// not written is delivered again. It writes when a batch is full or nothing more is
// there.
func (t *taking) stream() error {
	over, cancel := context.WithCancel(context.Background())
	cancel() // Recv under a context that has ended takes only what is there
	var b batch
	for done := uint64(0); t.count == 0 || done < t.count; {
		if t.talk.ctx.Err() != nil {
			return t.leave(&b)
		}
		m, err := t.socket.Recv(over)
		if err != nil {
			if err := t.flush(&b); err != nil {
				return err
			}
			if m, err = t.socket.Recv(t.talk.ctx); err != nil {
				return err
			}
		}
		t.delivered(m)
		if t.fails() {
			_ = m.Nack(errFailEvery) // closed meanwhile: it goes elsewhere without our word
			continue
		}
		done++
		b.text = append(append(b.text, m.Body...), t.separator)
		b.held = append(b.held, m)
		if len(b.text) >= batchBytes || len(b.held) == batchMessages {
			if err := t.flush(&b); err != nil {
				return err
			}
		}
	}
	return t.flush(&b)
}

// leave writes what is in hand and returns why the run ends.
func (t *taking) leave(b *batch) error {
	if err := t.flush(b); err != nil {
		return err
	}
	return context.Cause(t.talk.ctx)
}

// flush writes a batch and acknowledges its messages.
func (t *taking) flush(b *batch) error {
	if len(b.text) > 0 {
		if _, err := t.talk.app.stdout.Write(b.text); err != nil {
			return fmt.Errorf("stdout: %w", err)
		}
	}
	for i, m := range b.held {
		if !t.never {
			_ = m.Ack() // closed meanwhile: it goes elsewhere, flagged
		}
		b.held[i] = nil // its body pins memory
	}
	b.text, b.held = b.text[:0], b.held[:0]
	return nil
}
