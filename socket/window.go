package socket

import (
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

// window decides how much a sender may have here unanswered: prefetch. It grows for
// fast handlers, so that a window is about 50 ms of work and what is on its way
// meanwhile, and shrinks for slow ones, so that work stays where others can take it.
// Time in which a handler waits for messages is not work, see Inbox.worked.
type window struct {
	fixed    bool
	messages int
	bytes    int
	passed   int                  // messages answered since mark
	mark     time.Duration        // of work
	rtt      func() time.Duration // of the pipe; nil: next to nothing
}

const (
	// DefaultPrefetch and DefaultPrefetchBytes are what a sender may have here
	// unanswered before adaptation.
	DefaultPrefetch      = ledger.FirstWindow
	DefaultPrefetchBytes = 4 << 20
	maxPrefetch          = 1 << 16
	minPrefetchBytes     = 2 * wire.MaxRecord // one record always fits

	windowFast = 50 * time.Millisecond
	windowSlow = 400 * time.Millisecond
	leap       = 8 // times as large at once is a window that passes in a part of windowFast that small
)

func newWindow(messages, bytes int) window {
	w := window{fixed: messages > 0, messages: messages, bytes: max(bytes, minPrefetchBytes)}
	if !w.fixed {
		w.messages = DefaultPrefetch
	}
	if bytes == 0 {
		w.bytes = DefaultPrefetchBytes
	}
	return w
}

// steps are an eighth of the window: what is worth telling at once.
func (w *window) steps() (messages, bytes uint64) { return uint64(w.messages / 8), uint64(w.bytes / 8) }

// answered notes that messages left the window. worked tells how long there has been work so far.
func (w *window) answered(n int, worked func() time.Duration) {
	if w.fixed {
		return
	}
	if w.passed += n; w.passed < w.messages {
		return
	}
	t := worked()
	took := t - w.mark
	if w.rtt != nil {
		took -= 2 * w.rtt() // a sender that waits for room passes one window each round trip, and a bit
	}
	switch {
	case took < windowFast/leap:
		w.messages = min(leap*w.messages, maxPrefetch)
	case took < windowFast:
		w.messages = min(2*w.messages, maxPrefetch)
	case took > windowSlow:
		w.messages = max(w.messages/2, DefaultPrefetch)
	}
	w.mark, w.passed = t, 0
}

// worked is for how long there was work: the time in which somebody waits in Recv and no message is begun says nothing of how
// fast handlers are, but of how much there is for them. b.mu must be held.
func (b *Inbox) worked() time.Duration {
	if b.resting {
		return b.restAt - b.rested
	}
	return b.clock() - b.rested
}

// look notes whether there is work, after a change of waiting, the crew or begun. b.mu must be held.
func (b *Inbox) look() {
	switch rests := (b.waiting > 0 || len(b.crew.asleep) > 0) && b.begun == 0; {
	case rests == b.resting || b.crew.between:
	case rests:
		b.resting, b.restAt = true, b.clock()
	default:
		b.resting = false
		b.rested += b.clock() - b.restAt
	}
}
