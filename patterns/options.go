package patterns

import (
	"errors"
	"fmt"
	"time"

	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// Overflow is what a full queue does with one more message.
type Overflow uint8

// The overflow policies.
const (
	Block      Overflow = iota + 1 // Send waits for room, until its ctx ends
	Refuse                         // Send returns socket.ErrQueueFull; no seq is used up
	DropOldest                     // the oldest message that nobody holds is dropped, counted and stated as a gap
	DropNewest                     // the new message is dropped, counted and stated as a gap
	Expel                          // of Limit alone: the subscription ends
)

// String is the policy's name.
func (o Overflow) String() string {
	names := [...]string{"default", "block", "refuse", "drop-oldest", "drop-newest", "expel"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("overflow(%d)", uint8(o))
}

// Execution is how often a request may be executed.
type Execution uint8

// The req/rep levels.
const (
	Once        Execution = iota + 1 // at most once: a request in doubt is ErrIndeterminate, never repeated
	Idempotent                       // asked again elsewhere until answered
	OnceDurable                      // Once whatever happens to the replier, which needs a state directory
)

// Defaults; see each option.
const (
	DefaultQueue       = 1 << 16
	DefaultQueueBytes  = 8 << 20
	DefaultMaxDeliver  = 10
	DefaultDeadline    = 30 * time.Second
	DefaultConcurrency = 64
	DefaultBackoff     = 100 * time.Millisecond
	DefaultMaxBackoff  = 30 * time.Second
)

// Bounds of Backoff.
const (
	minBackoff  = time.Millisecond // no clock here goes off sooner
	mostBackoff = 24 * time.Hour
)

// mostLinger bounds Linger: answers wait with messages.
const mostLinger = 100 * time.Millisecond

// Option adjusts a socket. An option that a socket cannot honour is an error when
// the socket is made, never ignored.
type Option struct {
	name  string
	kinds uint8 // bit per wire.Kind
	apply func(*settings) error
}

type settings struct {
	level         socket.Level
	queue         int
	queueBytes    int
	paced         bool // the queue has its default size
	overflow      Overflow
	prefetch      int
	prefetchBytes int
	maxDeliver    int
	backoff       time.Duration // after the first failed delivery
	maxBackoff    time.Duration
	lease         time.Duration
	linger        time.Duration
	timeout       time.Duration
	concurrency   int
	execution     Execution
	patterns      []topic.Pattern
	durable       string // name of a durable subscription
	exclusive     bool
	from          Position
	limits        Limits
	excess        Overflow
	keep          int
	onSettled     func(Settled)
	onGap         func(socket.Gap)
	onLoss        func(socket.Gap)
	onSpill       func(SpillState, error)
	onDone        func(*socket.Message)
	onNack        func(*socket.Message)
}

func kinds(ks ...wire.Kind) (bits uint8) {
	for _, k := range ks {
		bits |= 1 << k
	}
	return bits
}

var (
	senders   = kinds(wire.Push, wire.Pub, wire.Req)
	receivers = kinds(wire.Pull, wire.Sub, wire.Rep)
)

// resolve applies options over the defaults of a kind.
func resolve(env Env, kind wire.Kind, opts []Option) (settings, error) {
	s := settings{level: socket.Memory, queue: DefaultQueue, queueBytes: DefaultQueueBytes, paced: true, overflow: Block,
		maxDeliver: DefaultMaxDeliver, backoff: DefaultBackoff, maxBackoff: DefaultMaxBackoff, lease: socket.DefaultLease, concurrency: DefaultConcurrency, execution: Once}
	if (kind == wire.Push || kind == wire.Pub) && env.Store != nil {
		s.level = socket.Durable
	}
	if kind == wire.Pub {
		s.overflow = DropOldest
	}
	for _, o := range opts {
		if o.kinds&(1<<kind) == 0 {
			return s, fmt.Errorf("patterns: a %v socket cannot honour %s", kind, o.name)
		}
		if err := o.apply(&s); err != nil {
			return s, fmt.Errorf("patterns: %s: %w", o.name, err)
		}
	}
	switch {
	case s.level == socket.Durable && env.Store == nil:
		return s, fmt.Errorf("patterns: Durability: %w", socket.ErrNoDir)
	case s.level == socket.Durable && kind == wire.Push && (s.overflow == DropOldest || s.overflow == DropNewest):
		return s, fmt.Errorf("patterns: OnOverflow(%v): a durable message is not dropped", s.overflow)
	case s.level != socket.Durable && (s.limits != Limits{} || s.keep > 0):
		return s, errors.New("patterns: Limit and Keep are for a Pub at level durable")
	case s.durable == "" && s.exclusive:
		return s, errors.New("patterns: Exclusive is for a subscription with DurableName")
	case s.durable == "" && s.from != New && s.from != LastValue:
		return s, errors.New("patterns: From: only a subscription with DurableName can begin in the past, or with LastValue")
	}
	if n := len(s.patterns); n > wire.MaxPatterns {
		return s, fmt.Errorf("patterns: %d topics and prefixes, at most %d", n, wire.MaxPatterns)
	}
	return s, nil
}

// Durability sets the level. Default socket.Durable for a Push or Pub of a node with a
// state directory, else socket.Memory. Durable without a state directory is
// socket.ErrNoDir.
func Durability(l socket.Level) Option {
	return Option{"Durability", kinds(wire.Push, wire.Pub), func(s *settings) error {
		switch l {
		case socket.BestEffort, socket.Memory, socket.Durable:
			s.level = l
			return nil
		}
		return fmt.Errorf("unknown level %d", l)
	}}
}

// Queue bounds what the socket keeps in memory for others and they have not answered: per
// socket for Push and Req, per subscriber for Pub. At level durable, and for a Push at level
// memory of a node with a state directory, the rest waits on disk, within the store's quota. Defaults 65,536 messages and 8
// MiB of encoded messages; one message of any legal size always fits an empty queue.
//
// A Push that blocks, in memory alone and with the default size, holds senders back at 1.5 MiB of more
// than 128 messages already while its only puller settles 128 KiB within 10 ms, for it gets nothing sooner from a longer queue. Where
// it does not, or there is none, a sender goes on after these 10 ms, and has all the room there is until so much is settled.
func Queue(messages, bytes int) Option {
	return Option{"Queue", senders, func(s *settings) error {
		if messages < 1 || bytes < 1 {
			return errors.New("both bounds must be positive")
		}
		s.queue, s.queueBytes, s.paced = messages, bytes, false
		return nil
	}}
}

// OnOverflow sets what a full queue does. Default Block for Push and Req, DropOldest
// for Pub. The queue of a Push at level memory of a node with a state directory is full when
// the disk has no room either, or has its hands full: then Block and DropOldest wait until it
// has not. Room on disk comes free by the block of 256 KiB, and so much DropOldest may drop. Req honours Block and Refuse only.
func OnOverflow(o Overflow) Option {
	ks := senders
	if o == DropOldest || o == DropNewest {
		ks = kinds(wire.Push, wire.Pub)
	}
	return Option{"OnOverflow(" + o.String() + ")", ks, func(s *settings) error {
		if o < Block || o > DropNewest {
			return errors.New("unknown policy")
		}
		s.overflow = o
		return nil
	}}
}

// Prefetch fixes how many messages each sender may have here unanswered. Without it
// the number starts at 256 and follows the handlers' speed up to 65,536.
func Prefetch(messages int) Option {
	return Option{"Prefetch", receivers, func(s *settings) error {
		if messages < 1 || messages > 1<<16 {
			return errors.New("1 to 65536 messages")
		}
		s.prefetch = messages
		return nil
	}}
}

// PrefetchBytes bounds the bytes each sender may have here unanswered. Default 4
// MiB, at least 512 KiB. Messages over 256 KiB count against the node's budget for
// large messages instead.
func PrefetchBytes(bytes int) Option {
	return Option{"PrefetchBytes", receivers, func(s *settings) error {
		if bytes < 1 {
			return errors.New("must be positive")
		}
		s.prefetchBytes = bytes
		return nil
	}}
}

// MaxDeliver is after how many failed deliveries a message is dead. Default 10. At
// level best-effort no failure is told, and so none is counted.
func MaxDeliver(n int) Option {
	return Option{"MaxDeliver", kinds(wire.Push, wire.Pub), func(s *settings) error {
		if n < 1 || n > 1000 {
			return errors.New("1 to 1000 deliveries")
		}
		s.maxDeliver = n
		return nil
	}}
}

// Backoff is how long a message waits after a failed delivery before it is delivered again:
// first, then twice as long after each further one, up to most. A handler's NackAfter takes
// its place for that one time. Default 100 ms and 30 s: with MaxDeliver's ten deliveries a
// message that always fails is dead after 51 s of waiting. From 1 ms to 24 h, first at most
// as long as most. Only failures count: what a puller gives back without having begun it, or
// loses with its link, does not wait.
func Backoff(first, most time.Duration) Option {
	return Option{"Backoff", kinds(wire.Push, wire.Pub), func(s *settings) error {
		if first < minBackoff || most > mostBackoff || first > most {
			return fmt.Errorf("%v up to %v: from %v to %v, the first at most as long as the longest", first, most, minBackoff, mostBackoff)
		}
		s.backoff, s.maxBackoff = first, most
		return nil
	}}
}

// Linger has what is sent within d after a small write (under 16 KiB) wait until d is over, so that others can go along:
// at moderate rates that takes less CPU time, at both ends, and a message up to d longer, or a millisecond, which is how
// late clocks here may go off. What is sent seldom goes at once, and much at a time never waits. At most 100 ms. Default
// 0: nothing waits for others.
func Linger(d time.Duration) Option {
	return Option{"Linger", senders, func(s *settings) error {
		if d < 0 || d > mostLinger {
			return fmt.Errorf("%v: 0 to %v", d, mostLinger)
		}
		s.linger = d
		return nil
	}}
}

// HandlerTimeout gives a message back when its handler takes longer; the handler's
// context ends. Default none.
func HandlerTimeout(d time.Duration) Option {
	return Option{"HandlerTimeout", kinds(wire.Pull, wire.Sub), func(s *settings) error {
		if d <= 0 {
			return errors.New("must be positive")
		}
		s.timeout = d
		return nil
	}}
}

// Concurrency is how many requests Serve runs at a time. Default 64.
func Concurrency(n int) Option {
	return Option{"Concurrency", kinds(wire.Rep), func(s *settings) error {
		if n < 1 || n > 1<<16 {
			return errors.New("1 to 65536")
		}
		s.concurrency = n
		return nil
	}}
}

// Executed sets how often a request may be executed. Default Once. At OnceDurable the
// replier's disk is written twice for each request: before it is executed and before the
// reply is sent. So a replier that comes back tells what became of the request, and one
// that had not begun it lets it be asked again. Repliers without a state directory refuse
// such a Req (socket.CodeNoDir); the requester needs none.
func Executed(e Execution) Option {
	return Option{"Executed", kinds(wire.Req), func(s *settings) error {
		switch e {
		case Once, Idempotent, OnceDurable:
			s.execution = e
			return nil
		}
		return errors.New("unknown execution")
	}}
}

// Topics sets which topics a Sub gets: tokens separated by dots, where * stands for
// exactly one whole token and > as the last one for one or more. Default ">".
func Topics(patterns ...string) Option {
	return Option{"Topics", kinds(wire.Sub), func(s *settings) error {
		for _, text := range patterns {
			p, err := topic.Parse(text)
			if err != nil {
				return err
			}
			s.patterns = append(s.patterns, p)
		}
		return nil
	}}
}

// Prefixes sets topics by raw prefix, as ZeroMQ does: bytes are compared, tokens
// mean nothing. It may be combined with Topics; "" is everything.
func Prefixes(prefixes ...string) Option {
	return Option{"Prefixes", kinds(wire.Sub), func(s *settings) error {
		for _, raw := range prefixes {
			p, err := topic.Prefix(raw)
			if err != nil {
				return err
			}
			s.patterns = append(s.patterns, p)
		}
		return nil
	}}
}

// DurableName makes the subscription a durable one: publishers at level durable keep its
// messages on disk while it is away, until they are handled or a stated limit is reached.
// Subs of that name on several nodes share it, each message going to one of them; they ask
// for the same topics, for what one of them told last is in force. A node has one of them
// at a time. On a node with a state directory it also remembers on disk
// what it has handled. A publisher below level durable refuses it. 1 to 255 bytes of UTF-8
// without control characters.
func DurableName(name string) Option {
	return Option{"DurableName", kinds(wire.Sub), func(s *settings) error {
		s.durable = name
		return CheckName(wire.Sub, name)
	}}
}

// Exclusive refuses to share a durable subscription: while one node has it, a publisher
// lets no other attach. The other is tried again until it is free.
func Exclusive() Option {
	return Option{"Exclusive", kinds(wire.Sub), func(s *settings) error { s.exclusive = true; return nil }}
}

// Position is where a subscription begins at a publisher that does not know it yet: a seq,
// see FromSeq, or one of New, Earliest and LastValue.
type Position int64

// Positions.
const (
	New       Position = -iota // with the next message
	Earliest                   // with the oldest message that the publisher holds
	LastValue                  // with the retained message of each topic that matches, see Pub.PublishRetained
)

// FromSeq begins with that message of the publisher's stream. What of it the publisher no
// longer holds is stated as a gap (retention).
func FromSeq(seq uint64) Position { return Position(min(seq, 1<<63-1)) }

// start is a position as it travels.
func (p Position) start() (wire.Start, uint64) {
	switch p {
	case New:
		return wire.AtNew, 0
	case Earliest:
		return wire.AtEarliest, 0
	case LastValue:
		return wire.AtLastValue, 0
	}
	return wire.AtSeq, uint64(p)
}

// From sets where the subscription begins, once for each publisher: later it goes on where
// it was. Default New. A publisher holds what other durable subscriptions are still owed,
// and what Keep says.
func From(p Position) Option {
	return Option{"From", kinds(wire.Sub), func(s *settings) error {
		if p < LastValue {
			return errors.New("unknown position")
		}
		s.from = p
		return nil
	}}
}

// Limits bound what one durable subscription is owed. The zero value of a field is no
// limit.
type Limits struct {
	Count int           // messages
	Bytes int64         // of their encoded form
	Age   time.Duration // of the oldest one
}

// Limit bounds each durable subscription of a Pub, and says what happens at the bound:
//
//	Block       Publish waits until there is room, for whatever its ctx allows (not for Age)
//	DropOldest  the oldest messages that nobody holds are dropped and stated as a gap
//	Expel       the subscription ends; when it attaches again it begins anew, behind a gap
//
// Without it only the quota of the store bounds them.
func Limit(l Limits, at Overflow) Option {
	return Option{"Limit", kinds(wire.Pub), func(s *settings) error {
		switch {
		case l.Count < 0 || l.Bytes < 0 || l.Age < 0 || l == Limits{}:
			return errors.New("at least one limit, all of them positive")
		case at != Block && at != DropOldest && at != Expel:
			return fmt.Errorf("%v is no policy for it", at)
		case at == Block && l.Age > 0:
			return errors.New("what is too old does not get younger by blocking")
		}
		s.limits, s.excess = l, at
		return nil
	}}
}

// Keep makes a durable Pub hold the last so many messages for subscriptions that begin
// later, see From. Default 0: only what durable subscriptions are owed.
func Keep(messages int) Option {
	return Option{"Keep", kinds(wire.Pub), func(s *settings) error {
		if messages < 0 {
			return errors.New("must not be negative")
		}
		s.keep = messages
		return nil
	}}
}

// Settled is the fate of a message.
type Settled struct {
	Stream string
	Seq    uint64
	State  string // done, dead, expired, dropped or handed
	Reason string // of dropped
	By     string // of done and dead: the node's id
	Sub    string // Pub: whose copy this is
	Text   string // of dead: the last handler error
}

// OnSettled is called for every message that reached its fate, with no lock held,
// from whatever goroutine settled it. It must not block.
func OnSettled(f func(Settled)) Option {
	return Option{"OnSettled", kinds(wire.Push, wire.Pub), func(s *settings) error { s.onSettled = f; return nil }}
}

// OnGap is called for every stated hole in a stream. It must not block.
func OnGap(f func(socket.Gap)) Option {
	return Option{"OnGap", kinds(wire.Pull, wire.Sub), func(s *settings) error { s.onGap = f; return nil }}
}

// OnLoss is called, with a lock held, for messages that were accepted and that the disk
// has lost: nobody will get them. It must not block, nor call the socket. What was found to be
// lost when the state directory was opened is told while the socket is made, again in each life
// until Node.Spool's ForgetLost.
func OnLoss(f func(socket.Gap)) Option {
	return Option{"OnLoss", kinds(wire.Push, wire.Pub), func(s *settings) error { s.onLoss = f; return nil }}
}

// OnSpill is called, with a lock held, when a Push at level memory of a node with a state
// directory puts what is sent somewhere else than before; it begins with InMemory. The error
// is the cause of DiskFull and DiskFailed. It must not block, nor call the socket.
func OnSpill(f func(SpillState, error)) Option {
	return Option{"OnSpill", kinds(wire.Push), func(s *settings) error { s.onSpill = f; return nil }}
}

// OnDone is called when a message's answer is final. It must not block.
func OnDone(f func(*socket.Message)) Option {
	return Option{"OnDone", receivers, func(s *settings) error { s.onDone = f; return nil }}
}

// OnNack is called when a message was given back by its handler, with Nack or Release. It must not block.
func OnNack(f func(*socket.Message)) Option {
	return Option{"OnNack", kinds(wire.Pull, wire.Sub), func(s *settings) error { s.onNack = f; return nil }}
}
