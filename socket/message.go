package socket

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// The kinds, levels and outcomes, under the names that users read.
type (
	// Kind is what a socket does.
	Kind = wire.Kind
	// Level is how much a message survives.
	Level = wire.Level
	// Outcome is what became of a request.
	Outcome = wire.Outcome
)

// Durability levels, see DELIVERY in the README.
const (
	BestEffort = wire.BestEffort // handed to the link or dropped by the named policy, and counted
	Memory     = wire.Memory     // kept in bounded memory until the receiver's handler is done
	Durable    = wire.Durable    // kept in the spool of either side until it is settled; requests: see patterns.OnceDurable
)

// Headers are a message's named values. They travel in the order of their names.
type Headers map[string]string

// Message is what is sent and received. To send one, fill in Body and whichever of
// the other fields are wanted. A received one also tells where it came from and is
// answered with Ack, Nack or Release. Body of a received message belongs to the receiver; it
// may pin up to 256 KiB of neighbouring messages in memory, so copy a small body
// that is kept for long.
type Message struct {
	Body    []byte
	Topic   string        // pub/sub only
	Key     string        // push/pull: messages of one key are handled one after the other; at most 255 bytes
	Headers Headers       // names and values together at most 64 KiB
	TTL     time.Duration // whole milliseconds; 0: none. Ends a message that nobody has begun

	// Delay keeps a message at its sender, a Push at level Memory or Durable, until that
	// time has passed since Send, by the sender's clock; whole milliseconds, at most
	// MaxDelay; 0: none. TTL runs meanwhile. It is of the sending side: a received message
	// has none. To send at a time of day, give time.Until of it.
	Delay time.Duration

	*delivery // nil: not received
	seq       uint64
	size      int32 // bytes it holds of the window
	state     msgState
}

// MaxDelay is the longest Delay.
const MaxDelay = 10 * 365 * 24 * time.Hour

// delivery is what the messages of one frame have in common: a large part of the cost
// of a small message is its size in memory.
type delivery struct {
	in          *stream
	edition     uint64
	attempt     uint64
	redelivered bool
	born        time.Duration // when the sender accepted them, by the inbox's clock
	large       *claim        // share of the node's budget, of one that came alone in fragments
	slab        *slab         // of messages that are told apart in it
}

type msgState uint8

const (
	msgQueued msgState = iota
	msgBegun
	msgSettled
)

// From is the node that sent the message.
func (m *Message) From() identity.ID {
	if m.delivery == nil {
		return identity.ID{}
	}
	return m.in.peer.ID
}

// Stream names the sender's stream: node, store, namespace, kind and name. With Seq
// it identifies the message for good.
func (m *Message) Stream() string {
	if m.delivery == nil {
		return ""
	}
	return m.in.label
}

// Seq is the message's number in its stream, from 1.
func (m *Message) Seq() uint64 { return m.seq }

// Attempt counts the leases of this message, from 1. (Stream, Seq, Attempt) is a
// fencing token: a later attempt has a higher one.
func (m *Message) Attempt() uint64 {
	if m.delivery == nil {
		return 0
	}
	return m.attempt
}

// Redelivered reports whether an earlier delivery may have been begun somewhere.
func (m *Message) Redelivered() bool { return m.delivery != nil && m.redelivered }

// Age is the time since the sender accepted the message, measured on monotonic
// clocks and without the time on the wire. Of messages without a TTL that were sent in
// a burst it is about that: a sender does not read the clock for each of them.
func (m *Message) Age() time.Duration {
	if m.delivery == nil {
		return 0
	}
	return m.in.box.clock() - m.born
}

// Deadline is when the message's TTL ends, on this host's clock.
func (m *Message) Deadline() (time.Time, bool) {
	if m.TTL <= 0 || m.delivery == nil {
		return time.Time{}, false
	}
	return m.in.box.epoch.Add(m.born).Add(m.TTL), true
}

var errNotReceived = errors.New("socket: the message was not received, so it cannot be answered")

// Ack says that the message was handled: it will not be delivered again. It does
// not block and may be called from any goroutine; a second answer is without
// effect. After the socket was closed it matches net.ErrClosed and the message
// will be delivered again elsewhere, flagged.
func (m *Message) Ack() error {
	if m.delivery == nil {
		return errNotReceived
	}
	if s := m.slab; s != nil && s.ack(m.seq) {
		return nil
	}
	return m.in.box.ack(m)
}

// AckAll acks messages, in order, as Ack does one, and locks a socket once for those of it that follow each other. It
// returns the first error, and goes on after it.
func AckAll(ms []*Message) (first error) {
	for len(ms) > 0 {
		n, err := 1, errNotReceived
		if d := ms[0].delivery; d != nil {
			for n < len(ms) && n < lockedBatch && ms[n].delivery != nil && ms[n].in.box == d.in.box {
				n++
			}
			err = d.in.box.ackAll(ms[:n])
		}
		if err != nil && first == nil {
			first = err
		}
		ms = ms[n:]
	}
	return first
}

// lockedBatch is how many messages are acked while the lock is held: others want it too.
const lockedBatch = 128

// Nack says that handling failed: the message will be delivered again, here or
// elsewhere, after the sender's back-off, until its deliveries are used up. cause
// travels to the sender, cut to 512 bytes.
func (m *Message) Nack(cause error) error { return m.NackAfter(cause, 0) }

// NackAfter is Nack with a delay of the receiver's choice instead of the sender's
// back-off; 0 means the back-off.
func (m *Message) NackAfter(cause error, delay time.Duration) error {
	if m.delivery == nil {
		return errNotReceived
	}
	text := ""
	if cause != nil {
		text = cause.Error()
	}
	return m.in.box.nack(m, wire.NackHandler, delay, text)
}

// Release gives the message back unhandled, which is no failure: it will be delivered again,
// here or elsewhere, ahead of what waits behind it and flagged, and nothing of MaxDeliver is used
// up. It is for a receiver that has begun a message and finds that it cannot handle any
// now: the program that it works for is gone, or it is leaving. There is no back-off, so Pause the
// socket first, or the message may come back at once, for ever. At level best effort the message is lost,
// as with Nack. Like Ack it does not block, may be called from any goroutine, and is without
// effect if the message was answered.
//
// A request may be released if nothing of it was executed, nor will be: it goes to another replier, or
// comes again, as if it had not been begun here. What its handler returns is of no account then.
func (m *Message) Release() error {
	switch {
	case m.delivery == nil:
		return errNotReceived
	case m.in.box.cfg.Kind == wire.Rep:
		return m.in.box.handBack(m)
	}
	return m.in.box.nack(m, wire.NackReleased, 0, "")
}

// check holds what a user wants to send against the limits.
func (m *Message) check(maxBody int) error {
	switch {
	case len(m.Body) > maxBody:
		return fmt.Errorf("%w: body of %d bytes, at most %d", ErrTooLarge, len(m.Body), maxBody)
	case len(m.Key) > wire.MaxName:
		return fmt.Errorf("%w: key of %d bytes, at most %d", ErrTooLarge, len(m.Key), wire.MaxName)
	case len(m.Topic) > wire.MaxName:
		return fmt.Errorf("%w: topic of %d bytes, at most %d", ErrTooLarge, len(m.Topic), wire.MaxName)
	case !utf8.ValidString(m.Key):
		return fmt.Errorf("socket: key %q is not UTF-8", m.Key)
	case !utf8.ValidString(m.Topic):
		return fmt.Errorf("socket: topic %q is not UTF-8", m.Topic)
	case m.TTL < 0:
		return fmt.Errorf("socket: TTL of %v", m.TTL)
	case m.TTL > 0 && m.TTL < time.Millisecond:
		return fmt.Errorf("socket: TTL of %v, at least 1ms", m.TTL)
	case m.Delay < 0 || m.Delay > MaxDelay:
		return fmt.Errorf("socket: delay of %v, at most %v", m.Delay, MaxDelay)
	case m.Delay > 0 && m.Delay < time.Millisecond:
		return fmt.Errorf("socket: delay of %v, at least 1ms", m.Delay)
	}
	return nil
}

// encode writes the headers as they travel.
func (h Headers) encode() ([]byte, error) {
	if len(h) == 0 {
		return nil, nil
	}
	hs := make([]wire.Header, 0, len(h))
	size := 0
	for k, v := range h {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("socket: header %q: names are not empty, names and values are UTF-8", k)
		}
		size += len(k) + len(v) + 6
		hs = append(hs, wire.Header{Key: k, Value: v})
	}
	if size > wire.MaxHeaders {
		return nil, fmt.Errorf("%w: headers of some %d bytes, at most %d", ErrTooLarge, size, wire.MaxHeaders)
	}
	slices.SortFunc(hs, func(a, b wire.Header) int { return strings.Compare(a.Key, b.Key) })
	return wire.AppendHeaders(nil, hs), nil
}

func decodeHeaders(b []byte) (Headers, error) {
	if len(b) == 0 {
		return nil, nil
	}
	hs, err := wire.ParseHeaders(b)
	if err != nil {
		return nil, err
	}
	h := make(Headers, len(hs))
	for _, kv := range hs {
		h[kv.Key] = kv.Value
	}
	return h, nil
}
