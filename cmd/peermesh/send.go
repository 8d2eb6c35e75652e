package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"github.com/spf13/cobra"
)

// sendFlags are what push and pub have in common.
type sendFlags struct {
	source     sourceFlags
	durability string
	level      socket.Level // that durability names, once options has checked it
	headers    []string
	ttl        time.Duration
	overflow   string
	maxDeliver int
	backoff    time.Duration
	maxBackoff time.Duration
	keepGoing  bool
}

func (s *sendFlags) register(cmd *cobra.Command, overflow, durability string) {
	s.source.register(cmd)
	f := cmd.Flags()
	f.StringVar(&s.durability, "durability", "", "`level`, "+durability)
	f.StringArrayVar(&s.headers, "header", nil, "`name=value` sent along; repeat for several")
	f.DurationVar(&s.ttl, "ttl", 0, "`time` after which a message that nobody has begun expires (default: none)")
	f.StringVar(&s.overflow, "overflow", overflow, "`policy`, block, refuse, drop-oldest or drop-newest: what a full queue does")
	f.IntVar(&s.maxDeliver, "max-deliver", patterns.DefaultMaxDeliver, "a message is dead after `N` failed deliveries")
	f.DurationVar(&s.backoff, "backoff", patterns.DefaultBackoff, "`time` that a message waits after a failed delivery; twice as long after each further one")
	f.DurationVar(&s.maxBackoff, "max-backoff", patterns.DefaultMaxBackoff, "longest such `time`")
	f.BoolVar(&s.keepGoing, "keep-going", false, "go on after a message was refused")
}

// options checks the flags and makes socket options of them. usual is the level without
// --durability.
func (s *sendFlags) options(cmd *cobra.Command, usual socket.Level) ([]patterns.Option, error) {
	if err := s.source.check(cmd); err != nil {
		return nil, err
	}
	if s.ttl < 0 || s.ttl > 0 && s.ttl < time.Millisecond {
		return nil, usagef("--ttl %v: at least 1ms", s.ttl)
	}
	if s.maxDeliver < 1 || s.maxDeliver > 1000 {
		return nil, usagef("--max-deliver %d: 1 to 1000 deliveries", s.maxDeliver)
	}
	if s.backoff < time.Millisecond || s.maxBackoff > 24*time.Hour || s.backoff > s.maxBackoff {
		return nil, usagef("--backoff %v, --max-backoff %v: from 1ms to 24h, the first at most as long as the longest", s.backoff, s.maxBackoff)
	}
	var err error
	if s.level, err = levelOf(s.durability, usual); err != nil {
		return nil, err
	}
	for _, o := range []patterns.Overflow{patterns.Block, patterns.Refuse, patterns.DropOldest, patterns.DropNewest} {
		if o.String() == s.overflow {
			return []patterns.Option{patterns.Durability(s.level), patterns.OnOverflow(o), patterns.MaxDeliver(s.maxDeliver),
				patterns.Backoff(s.backoff, s.maxBackoff)}, nil
		}
	}
	return nil, usagef("--overflow %q: block, refuse, drop-oldest or drop-newest", s.overflow)
}

// levelNames are the levels as flags and events name them.
var levelNames = map[socket.Level]string{socket.BestEffort: "best-effort", socket.Memory: "memory", socket.Durable: "durable"}

// levelOf is the level of that name, or without a name the usual one.
func levelOf(name string, usual socket.Level) (socket.Level, error) {
	if name == "" {
		return usual, nil
	}
	for l, its := range levelNames {
		if its == name {
			return l, nil
		}
	}
	return 0, usagef("--durability %q: best-effort, memory or durable", name)
}

// message is what all messages of the run have in common.
func (s *sendFlags) message() (socket.Message, error) {
	m := socket.Message{TTL: s.ttl}
	for _, kv := range s.headers {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return m, usagef("--header %q: write name=value", kv)
		}
		if m.Headers == nil {
			m.Headers = socket.Headers{}
		}
		m.Headers[name] = value
	}
	return m, nil
}

// outgoing is a socket that sends messages one way.
type outgoing interface {
	closer
	Stream() string
	Flush(context.Context) error
	Stats() patterns.SenderStats
}

// sending is the sending of one run.
type sending struct {
	talk      *talk
	socket    outgoing
	send      func(context.Context, *socket.Message) (seq uint64, err error)
	post      posting // at level durable, instead of send
	fates     *fates
	level     socket.Level
	pace      pacer
	keepGoing bool
	detach    bool // nothing is waited for once it is stored

	mu      sync.Mutex
	skipped error // the first refusal that was gone over
}

// all sends what the source has and waits until everything is settled, or with detach
// until it is stored.
func (s *sending) all(src source, m socket.Message) error {
	defer src.close()
	var disk *storing
	if s.post != nil {
		disk = newStoring(s)
	}
	err := s.each(src, &m, disk)
	if disk != nil {
		err = cmp.Or(err, disk.finish())
	}
	if err == nil && !s.detach {
		err = s.socket.Flush(s.talk.ctx)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skipped
}

// each sends what the source has.
func (s *sending) each(src source, m *socket.Message, disk *storing) error {
	ctx := s.talk.ctx
	for n := uint64(0); ; n++ {
		body, err := src.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, socket.ErrTooLarge): // it is not even read
			err = s.refuse(n, err)
		case err == nil:
			m.Body = body
			if err = s.pace.wait(ctx); err == nil {
				err = s.one(n, m, disk)
			}
		}
		if err != nil {
			return err
		}
	}
}

// one sends message n.
func (s *sending) one(n uint64, m *socket.Message, disk *storing) error {
	s.fates.begin()
	s.talk.app.emitSend(n, m.Body)
	var err error
	if disk != nil {
		err = disk.post(n, m)
	} else {
		var seq uint64
		if seq, err = s.send(s.talk.ctx, m); err == nil {
			s.fates.accepted(n, seq)
			s.sent(n, seq)
		}
	}
	switch {
	case err == nil:
		return nil
	case s.talk.ctx.Err() != nil:
		s.fates.refused()
		s.talk.app.events.emit("unknown", unknownEvent{n})
		return context.Cause(s.talk.ctx)
	}
	s.fates.refused()
	return s.refuse(n, err)
}

// sent tells that message n is as safe as its level promises.
func (s *sending) sent(n, seq uint64) {
	s.talk.app.events.emit("sent", sentEvent{n, s.socket.Stream(), seq, levelNames[s.level]})
	s.fates.sent(seq)
}

// refuse notes that message n was not accepted. It returns the error that ends the
// run, if it is to end.
func (s *sending) refuse(n uint64, err error) error {
	code, exit := refusalOf(err)
	s.talk.app.events.emit("refused", refusedEvent{n, true, code})
	return s.skip(failf(exit, "message %d refused (%s): %w", n, code, err))
}

// skip goes over what went wrong with one message, if it may: then the first such error
// is that of the run. Otherwise it returns the error.
func (s *sending) skip(err error) error {
	if !s.keepGoing {
		return err
	}
	s.talk.app.note("%s", oneLine(err.Error()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skipped == nil {
		s.skipped = err
	}
	return nil
}

// refusalOf gives a refused Send its code in events and its exit code.
func refusalOf(err error) (code string, exit int) {
	var rejected *socket.Rejection
	var full *spool.FullError
	switch {
	case errors.Is(err, socket.ErrTooLarge), errors.Is(err, spool.ErrTooLarge):
		return "too_large", exitFailed
	case errors.Is(err, socket.ErrQueueFull):
		return "queue_full", exitFailed
	case errors.Is(err, socket.ErrStorage), errors.Is(err, spool.ErrFailed): // whatever the reason was
		return "read_only", exitStorage
	case errors.Is(err, syscall.ENOSPC), errors.As(err, &full) && full.Disk:
		return "disk_full", exitStorage
	case errors.Is(err, spool.ErrSpoolFull), errors.Is(err, spool.ErrFull):
		return "spool_full", exitStorage
	case errors.Is(err, spool.ErrLocked):
		return "locked", exitStorage
	case isStorage(err):
		return "read_only", exitStorage
	case errors.As(err, &rejected):
		return "policy", exitRefused
	case errors.Is(err, net.ErrClosed):
		return "closed", exitFailed
	}
	return "invalid", exitUsage
}
