package main

import (
	"context"
	"sort"
	"sync"

	"peermesh/internal/ranges"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// maxFates bounds the fates that wait to be printed before sending waits for them.
const maxFates = 4096

// fates prints what became of messages. Sockets tell it from goroutines that must
// not wait for stdout, so it queues and a goroutine of its own prints; the sender
// waits when too many are queued. A fate that comes before its message is printed as
// sent waits for that. Fates of messages that this run has not sent, but found on disk,
// wait for nothing and have no n.
type fates struct {
	talk *talk

	mu      sync.Mutex
	changed sync.Cond
	queue   []fate
	taken   int // from the queue and being printed
	runs    []seqRun
	posting bool   // a message is being sent and has no seq yet
	posted  uint64 // seq of the last message that has one
	last    uint64 // seq of the last message printed as sent
	closed  bool
	printer sync.WaitGroup

	lost map[string]*ranges.Set // by stream: what was told as lost; the printer's
}

// fate is what became of a message, or a hole that the disk has.
type fate struct {
	settled patterns.Settled
	lost    *socket.Gap   // nil: settled it is
	printed chan struct{} // not nil: neither; it is closed when all before is printed
}

// seqRun says that message n has seq first, n+1 the next seq, and so on up to last.
type seqRun struct{ n, first, last uint64 }

func newFates(t *talk) *fates {
	f := &fates{talk: t, lost: map[string]*ranges.Set{}}
	f.changed.L = &f.mu
	f.printer.Go(f.print)
	return f
}

// options make a socket tell its fates. Without events nobody wants to know them.
func (f *fates) options() []patterns.Option {
	if f.talk.app.events == nil {
		return nil
	}
	return []patterns.Option{patterns.OnSettled(func(s patterns.Settled) { f.put(fate{settled: s}) })}
}

// lose takes a hole that the disk has. It does not block.
func (f *fates) lose(g socket.Gap) {
	f.talk.lost.Add(1)
	f.put(fate{lost: &g})
}

// pushQueue is where the messages for a queue of the node are kept.
func pushQueue(n *node.Node, queue string) node.Queue {
	return node.Queue{Kind: node.QueuePush, Namespace: n.Namespace(), Name: queue}
}

// openKept opens a socket that has messages on disk, and tells what of them is not there.
func (f *fates) openKept(queue string, opts ...patterns.Option) (*patterns.Push, error) {
	before := f.talk.lost.Load()
	p, err := f.talk.node.Push(queue, append(opts, patterns.OnLoss(f.lose))...)
	if err == nil && f.talk.lost.Load() > before {
		f.flush()
		f.forgetLost(queue)
	}
	return p, err
}

// flush returns when what was put before is printed.
func (f *fates) flush() {
	printed := make(chan struct{})
	f.put(fate{printed: printed})
	<-printed
}

// forgetLost notes on disk that what a queue has lost has been printed. If that fails the next run
// prints it again.
func (f *fates) forgetLost(queue string) {
	n := f.talk.node
	if err := n.Spool().ForgetLost(context.Background(), pushQueue(n, queue)); err != nil {
		f.talk.app.logger().Warn("what is lost will be told again", "queue", queue, "err", err)
	}
}

// put takes a fate. It does not block.
func (f *fates) put(one fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, one)
	f.changed.Broadcast()
}

// begin notes that a message is about to get a seq. It blocks while too much waits to
// be printed.
func (f *fates) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue)+f.taken >= maxFates {
		f.changed.Wait()
	}
	f.posting = true
}

// refused notes that the message of begin has got no seq.
func (f *fates) refused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posting = false
	f.changed.Broadcast()
}

// accepted notes that the message of begin, number n, has got seq.
func (f *fates) accepted(n, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posting, f.posted = false, seq
	if k := len(f.runs); k > 0 && f.runs[k-1].last+1 == seq && seq-f.runs[k-1].first == n-f.runs[k-1].n {
		f.runs[k-1].last = seq
	} else {
		f.runs = append(f.runs, seqRun{n, seq, seq})
	}
	f.changed.Broadcast()
}

// sent notes that the message with that seq was printed as sent, or as unknown.
func (f *fates) sent(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = seq
	f.changed.Broadcast()
}

// close prints what is left. The node must be closed: fates come until then.
func (f *fates) close() {
	f.mu.Lock()
	f.closed = true
	f.changed.Broadcast()
	f.mu.Unlock()
	f.printer.Wait()
}

func (f *fates) print() {
	for {
		settled, lost := f.take()
		for _, e := range settled {
			f.talk.app.events.emit("settled", e)
		}
		for _, one := range lost {
			if one.printed != nil {
				close(one.printed)
				continue
			}
			f.tellLost(*one.lost)
		}
		f.mu.Lock()
		f.taken = 0
		f.changed.Broadcast()
		over := f.closed && len(f.queue) == 0
		f.mu.Unlock()
		if over {
			return
		}
	}
}

// tellLost tells each seq of a stream as lost once, whoever found it missing.
func (f *fates) tellLost(g socket.Gap) {
	known := f.lost[g.Stream]
	if known == nil {
		known = new(ranges.Set)
		f.lost[g.Stream] = known
	}
	for r := range known.Missing(g.From, g.To) {
		f.talk.app.events.emit("loss", holeEvent{g.Stream, r.From, r.To, g.Reason})
		f.talk.app.note("loss: messages %d to %d of %s cannot be read from the disk any more", r.From, r.To, oneLine(g.Stream))
	}
	known.Add(g.From, g.To)
}

// take waits for something that may be printed.
func (f *fates) take() (settled []settledEvent, lost []fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && (len(f.queue) == 0 || f.early(f.queue[0])) {
		f.changed.Wait()
	}
	i := 0
	for ; i < len(f.queue) && (f.closed || !f.early(f.queue[i])); i++ {
		one := f.queue[i]
		if one.lost != nil || one.printed != nil {
			lost = append(lost, one)
			continue
		}
		if s := one.settled; s.State != "handed" { // of best effort nothing more is known
			settled = append(settled, settledEvent{f.numberOf(s.Seq), s.Stream, s.Seq, s.State, s.Reason, s.By, s.Sub})
		}
	}
	f.queue = append(f.queue[:0], f.queue[i:]...)
	f.taken = i
	return settled, lost
}

// early reports whether a fate is that of a message that was not yet printed as sent.
// f.mu must be held.
func (f *fates) early(one fate) bool {
	seq := one.settled.Seq
	return one.lost == nil && seq > f.last && (seq > f.posted && f.posting || f.numberOf(seq) != nil)
}

// numberOf is the n of the message with that seq; nil if this run has not sent it. f.mu
// must be held.
func (f *fates) numberOf(seq uint64) *uint64 {
	i := sort.Search(len(f.runs), func(i int) bool { return f.runs[i].first > seq }) - 1
	if i < 0 || seq > f.runs[i].last {
		return nil
	}
	n := f.runs[i].n + seq - f.runs[i].first
	return &n
}
