package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

// filling is messages on their way into a queue, to be told of when they are on disk.
type filling struct {
	spool   *node.Spool
	feed    *node.Feed
	stored  func(replayedLine) error
	waiting []stowed
}

type stowed struct {
	group spool.Group
	line  replayedLine
}

// maxStowed bounds those on their way: so many share one sync.
const maxStowed = 1 << 12

// put sends a message on its way.
func (f *filling) put(ctx context.Context, l replayedLine, m *socket.Message, with func(*spool.Change)) error {
	seq, group, err := f.feed.Post(ctx, m, with)
	if err != nil {
		return err
	}
	l.Seq = seq
	f.waiting = append(f.waiting, stowed{group, l})
	if len(f.waiting) == maxStowed {
		return f.flush(ctx)
	}
	return nil
}

// flush waits for the disk.
func (f *filling) flush(ctx context.Context) error {
	for _, w := range f.waiting {
		if err := f.spool.Wait(ctx, w.group); err != nil {
			return fmt.Errorf("%w: %w", socket.ErrUnknown, err)
		}
		if err := f.stored(w.line); err != nil {
			return err
		}
	}
	f.waiting = f.waiting[:0]
	return nil
}

// maxImport bounds one line of what is imported: a body in base64, headers, key.
const maxImport = node.DefaultMaxMessage/3*4 + wire.MaxHeaders*6 + 1<<12

// take makes new messages of what was exported. Whatever happens it says how many.
func (o *tending) take(ctx context.Context, s *node.Spool, say func(line) error) error {
	feed, err := s.Feed(o.queue())
	if err != nil {
		return err
	}
	defer feed.Close()
	l := importedLine{queueRef: o.ref()}
	f := filling{spool: s, feed: feed, stored: func(replayedLine) error {
		l.Imported++
		return nil
	}}
	err = f.all(ctx, o.messages)
	return errors.Join(err, f.flush(ctx), say(line{Imported: &l}))
}

// all puts messages until there are no more.
func (f *filling) all(ctx context.Context, messages io.Reader) error {
	lines := bufio.NewScanner(messages)
	lines.Buffer(make([]byte, 0, lineChunk), maxImport)
	n := 0
	for ; lines.Scan(); n++ {
		var r recordLine
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			m := &socket.Message{Body: r.Body, Key: r.Key, Headers: r.Headers, TTL: time.Duration(r.TTL) * time.Millisecond,
				Delay: time.Duration(r.Delay) * time.Millisecond}
			err = f.put(ctx, replayedLine{}, m, func(*spool.Change) {})
		}
		if err != nil {
			return fmt.Errorf("object %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("object %d: %w", n, err)
	}
	return nil
}

// replay makes new messages of dead letters, in one transaction each.
func (o *tending) replay(ctx context.Context, s *node.Spool, say func(line) error) error {
	letters, err := o.lend(s)
	if err != nil {
		return err
	}
	defer letters.Return()
	to := o.queue()
	to.Kind = node.QueuePush
	feed, err := s.Feed(to)
	if err != nil {
		return err
	}
	defer feed.Close()
	f := filling{spool: s, feed: feed, stored: func(l replayedLine) error { return say(line{Replayed: &l}) }}
	w := walk{loan: letters, damaged: o.damage(say)}
	err = w.each(ctx, 1, func(_ spool.Block, seq uint64, r wire.Record) (bool, error) {
		if seq >= letters.State.Next { // it died while this went on
			return false, nil
		}
		if len(o.Seqs) > 0 && !slices.Contains(o.Seqs, seq) {
			return true, nil
		}
		m, err := socket.Unframe(r)
		if err == nil {
			delete(m.Headers, patterns.HeaderDeadCause)
			delete(m.Headers, patterns.HeaderDeadTries)
			l := replayedLine{queueRef: refOf(to), Original: m.Headers[patterns.HeaderDeadID], Dead: seq}
			err = f.put(ctx, l, m, func(c *spool.Change) { c.Settle(letters.Queue, seq, seq) })
		}
		if err != nil {
			return false, fmt.Errorf("dead letter %d: %w", seq, err)
		}
		return true, nil
	})
	return errors.Join(err, f.flush(ctx))
}
