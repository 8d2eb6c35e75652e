package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"peermesh/node"
	"peermesh/spool"
)

// tend carries out an order where the store is: here if no node runs with --dir, else in
// that one. What comes of it is shown.
func (a *app) tend(ctx context.Context, o *tending, show *tendShow) error {
	if a.global.dir == "" {
		return usagef("give the --dir whose messages are meant")
	}
	if d := a.global.timeout; d > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, time.Until(a.began.Add(d)), errTimeout)
		defer stop()
	}
	o.Namespace = a.global.namespace
	show.app = a
	err := a.tendAt(ctx, o, show.take)
	if errors.Is(err, errTimeout) {
		err = failf(exitTimeout, "%v is over and not everything is done; --timeout allows more", a.global.timeout)
	}
	err = errors.Join(err, show.end())
	if show.damaged > 0 {
		return errors.Join(failf(exitLoss, "%d messages cannot be read from the disk any more; peermesh spool verify says which", show.damaged), err)
	}
	return err
}

func (a *app) tendAt(ctx context.Context, o *tending, say func(line) error) error {
	s, err := node.OpenSpool(a.global.dir, a.global.spoolKey)
	switch {
	case errors.Is(err, spool.ErrLocked):
		c := newControlClient(a.global.dir)
		defer c.close()
		return c.tend(ctx, o, say)
	case errors.Is(err, spool.ErrDamaged) && o.Op == opVerify:
		return failf(exitLoss, "--dir %s: %w", a.global.dir, err)
	case err != nil:
		return dirError(a.global, err)
	}
	return errors.Join(o.do(ctx, s, say), s.Close())
}

// tendShow shows what comes of an order: as events, or as a table at its end.
type tendShow struct {
	app     *app
	header  string
	bodies  bool
	objects bool // messages as JSON, to be imported elsewhere
	rows    [][]string
	damaged uint64
}

// take takes one line.
func (t *tendShow) take(l line) error {
	if d := l.Damage; d != nil {
		t.damaged += d.To - d.From + 1
	}
	kind, fields := l.one()
	switch {
	case t.app.events != nil:
		t.app.events.emit(kind, fields)
		return t.app.events.err()
	case t.objects && l.Record != nil:
		return json.NewEncoder(t.app.stdout).Encode(l.Record)
	}
	t.text(l)
	return nil
}

// one is the field of a line that is there, and its name as an event.
func (l *line) one() (kind string, fields any) {
	switch {
	case l.Queue != nil:
		return "queue", l.Queue
	case l.Stat != nil:
		return "stat", l.Stat
	case l.Record != nil:
		return "record", l.Record
	case l.Damage != nil:
		return "damage", l.Damage
	case l.Verified != nil:
		return "verified", l.Verified
	case l.Purged != nil:
		return "purged", l.Purged
	case l.Imported != nil:
		return "imported", l.Imported
	case l.Replayed != nil:
		return "replayed", l.Replayed
	}
	return "none", struct{}{}
}

// text makes a row of a line, or tells it at once.
func (t *tendShow) text(l line) {
	switch {
	case l.Queue != nil:
		q, state := l.Queue, ""
		if q.InUse {
			state = "in use"
		}
		for _, r := range q.Lost {
			state = strings.TrimPrefix(fmt.Sprintf("%s, lost %d to %d", state, r[0], r[1]), ", ")
		}
		t.row(q.queueRef, number(q.Unsettled), number(q.Next-1), fmt.Sprint(q.Bytes), state)
	case l.Stat != nil:
		t.stat(l.Stat)
	case l.Record != nil:
		t.record(l.Record)
	case l.Damage != nil:
		d := l.Damage
		t.app.note("%s %s: messages %d to %d cannot be read: %s", d.Kind, oneLine(d.Queue), d.From, d.To, oneLine(d.Reason))
	case l.Verified != nil:
		v := l.Verified
		verdict := t.app.paint(green, "good")
		if v.Damaged > 0 {
			verdict = t.app.paint(red, fmt.Sprintf("%d damaged", v.Damaged))
		}
		t.row(v.queueRef, strconv.Itoa(v.Blocks), number(v.Records), fmt.Sprint(v.Bytes), verdict)
	case l.Purged != nil:
		t.app.note("%s %s: %d messages purged", l.Purged.Kind, oneLine(l.Purged.Queue), l.Purged.Purged)
	case l.Imported != nil:
		t.app.note("%s %s: %d messages imported", l.Imported.Kind, oneLine(l.Imported.Queue), l.Imported.Imported)
	case l.Replayed != nil:
		r := l.Replayed
		t.app.note("dead letter %d, once %s, is message %d of %s now", r.Dead, oneLine(r.Original), r.Seq, oneLine(r.Queue))
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// row adds a row about a queue.
func (t *tendShow) row(q queueRef, cells ...string) {
	t.rows = append(t.rows, append([]string{oneLine(q.Namespace), q.Kind, oneLine(q.Queue)}, cells...))
}

func (t *tendShow) stat(s *statLine) {
	state := t.app.paint(green, "writable")
	if s.Failed != "" {
		state = t.app.paint(red, "read-only: "+oneLine(s.Failed))
	}
	bound := func(n int64) string {
		if n == 0 {
			return "none"
		}
		return fmt.Sprintf("%d bytes", n)
	}
	t.rows = [][]string{
		{"state", state},
		{"profile", s.Profile},
		{"encrypted", map[bool]string{true: "yes", false: "no"}[s.Encrypted]},
		{"queues", strconv.Itoa(s.Queues)},
		{"messages", number(s.Unsettled)},
		{"dead letters", number(s.Dead)},
		{"used", fmt.Sprintf("%d bytes", s.Used)},
		{"quota", bound(s.Quota)},
		{"kept free", bound(s.Reserve)},
		{"on disk", bound(s.Disk)},
		{"transactions", number(s.Groups)},
	}
}

// shownBody is how much of a body a table shows.
const shownBody = 256

func (t *tendShow) record(r *recordLine) {
	var headers []string
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		headers = append(headers, oneLine(name+"="+r.Headers[name]))
	}
	cells := []string{number(r.Seq), r.At.Format(time.DateTime), oneLine(cmp.Or(r.Key, r.Topic)), strconv.Itoa(r.Size), r.Hash, strings.Join(headers, " ")}
	if t.bodies {
		cells = append(cells, oneLine(string(r.Body[:min(len(r.Body), shownBody)])))
	}
	t.rows = append(t.rows, cells)
}

// end prints the table.
func (t *tendShow) end() error {
	if t.app.events != nil || t.objects {
		return nil
	}
	return table(t.app.stdout, t.header, t.rows)
}
