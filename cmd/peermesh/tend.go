package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/socket"
	"peermesh/spool"
)

// tending is one order to look after what a node keeps on disk: what the verbs spool and
// dlq ask for. It is carried out where the store is open: in this process if no node
// runs, otherwise in the node's, which is told through its control socket.
//
//	verb --> tending --> do --> lines --> table or events
//	             \--> control socket --> do --> lines --/
type tending struct {
	Op        string   `json:"op"`
	Dead      bool     `json:"dead,omitempty"` // dead letters, not messages
	Kind      string   `json:"kind,omitempty"` // of opPeek: another kind of queue
	Namespace string   `json:"namespace"`
	Queue     string   `json:"queue,omitempty"` // empty: all, where that makes sense
	From      uint64   `json:"from,omitempty"`
	To        uint64   `json:"to,omitempty"` // 0: the end
	Seqs      []uint64 `json:"seqs,omitempty"`
	Count     uint64   `json:"count,omitempty"` // 0: all
	Body      bool     `json:"body,omitempty"`

	messages io.Reader // of opImport
}

// What can be ordered.
const (
	opList   = "ls"
	opStat   = "stat"
	opPeek   = "peek"
	opVerify = "verify"
	opPurge  = "purge"
	opImport = "import"
	opReplay = "replay"
)

// line is one thing that came of an order: one of its fields.
type line struct {
	Queue    *queueLine    `json:"queue,omitempty"`
	Stat     *statLine     `json:"stat,omitempty"`
	Record   *recordLine   `json:"record,omitempty"`
	Damage   *damageLine   `json:"damage,omitempty"`
	Verified *verifiedLine `json:"verified,omitempty"`
	Purged   *purgedLine   `json:"purged,omitempty"`
	Imported *importedLine `json:"imported,omitempty"`
	Replayed *replayedLine `json:"replayed,omitempty"`
	Err      *controlError `json:"error,omitempty"` // the last one, of an order that failed
}

// The lines; as events they have the names of the fields above in small letters.
type (
	queueRef struct {
		Kind      string `json:"kind"` // push, dead, pub or pub-dead
		Namespace string `json:"namespace"`
		Queue     string `json:"queue"`
	}
	queueLine struct {
		queueRef
		Unsettled uint64      `json:"unsettled"`
		Next      uint64      `json:"next"`
		Bytes     int64       `json:"bytes"`
		InUse     bool        `json:"in_use"`
		Lost      [][2]uint64 `json:"lost,omitempty"` // found when the store was opened
	}
	statLine struct {
		Profile   string `json:"profile"`
		Quota     int64  `json:"quota"`
		Reserve   int64  `json:"reserve"`
		Used      int64  `json:"used"`
		Disk      int64  `json:"disk"`
		Groups    uint64 `json:"groups"` // transactions since the store was opened
		Encrypted bool   `json:"encrypted"`
		Failed    string `json:"failed,omitempty"`
		Queues    int    `json:"queues"`
		Unsettled uint64 `json:"unsettled"` // messages in all queues
		Dead      uint64 `json:"dead"`      // dead letters in all
	}
	recordLine struct {
		queueRef
		Seq        uint64            `json:"seq"`
		Edition    string            `json:"edition"`
		At         time.Time         `json:"at"` // of the commit
		Topic      string            `json:"topic,omitempty"`
		Key        string            `json:"key,omitempty"`
		Headers    map[string]string `json:"headers,omitempty"`
		TTL        int64             `json:"ttl_ms,omitempty"`
		Delay      int64             `json:"delay_ms,omitempty"`
		Attempts   uint32            `json:"attempts,omitempty"`
		Deliveries uint32            `json:"deliveries,omitempty"`
		Hash       string            `json:"hash"`
		Size       int               `json:"size"`
		Body       []byte            `json:"body,omitempty"`
	}
	damageLine struct {
		queueRef
		From   uint64 `json:"from"`
		To     uint64 `json:"to"`
		Reason string `json:"reason"`
	}
	verifiedLine struct {
		queueRef
		Blocks  int    `json:"blocks"`
		Records uint64 `json:"records"`
		Bytes   int64  `json:"bytes"`
		Damaged uint64 `json:"damaged"`
	}
	purgedLine struct {
		queueRef
		Purged uint64 `json:"purged"`
	}
	importedLine struct {
		queueRef
		Imported uint64 `json:"imported"`
	}
	replayedLine struct { // a dead letter that is a message again
		queueRef
		Seq      uint64 `json:"seq"`
		Dead     uint64 `json:"dead"`               // the seq it had as a dead letter
		Original string `json:"original,omitempty"` // what it was before
	}
)

// do carries the order out and says what comes of it. It ends with ctx.
func (o *tending) do(ctx context.Context, s *node.Spool, say func(line) error) error {
	switch o.Op {
	case opList:
		return o.list(s, say)
	case opStat:
		return o.stat(s, say)
	case opVerify:
		return o.verify(ctx, s, say)
	case opPeek:
		return o.peek(ctx, s, say)
	case opPurge:
		return o.purge(ctx, s, say)
	case opImport:
		return o.take(ctx, s, say)
	case opReplay:
		return o.replay(ctx, s, say)
	}
	return usagef("the running node does not know the order %q", o.Op)
}

// kind is that of the queues the order is about.
func (o *tending) kind() string {
	switch {
	case o.Kind != "":
		return o.Kind
	case o.Dead:
		return node.QueueDead
	}
	return node.QueuePush
}

func (o *tending) ref() queueRef { return queueRef{o.kind(), o.Namespace, o.Queue} }

// queue is the one that the order names.
func (o *tending) queue() node.Queue {
	return node.Queue{Kind: o.kind(), Namespace: o.Namespace, Name: o.Queue}
}

// lend is the queue that the order names, which must be there.
func (o *tending) lend(s *node.Spool) (node.Loan, error) {
	for _, q := range s.Queues() {
		if q.Kind == o.kind() && q.Namespace == o.Namespace && q.Name == o.Queue {
			return s.Lend(q)
		}
	}
	return node.Loan{}, failf(exitFailed, "nothing of kind %s called %q is on disk in namespace %q; peermesh spool ls lists what there is",
		o.kind(), o.Queue, o.Namespace)
}

// all lists the queues on disk: with Dead only dead letters.
func (o *tending) all(s *node.Spool) []node.Queue {
	return slices.DeleteFunc(s.Queues(), func(q node.Queue) bool {
		dead := q.Kind == node.QueueDead || q.Kind == node.QueuePubDead
		return o.Dead && (!dead || q.Info.Unsettled == 0) || o.Queue != "" && (q.Name != o.Queue || q.Namespace != o.Namespace)
	})
}

func (o *tending) list(s *node.Spool, say func(line) error) error {
	for _, q := range o.all(s) {
		l := queueLine{queueRef: refOf(q), Unsettled: q.Info.Unsettled, Next: q.Info.Next, Bytes: q.Info.Bytes, InUse: q.Info.Open}
		switch loan, err := s.Lend(q); {
		case err == nil:
			for _, r := range loan.State.Lost {
				l.Lost = append(l.Lost, [2]uint64{r.From, r.To})
			}
			loan.Return()
		case !errors.Is(err, spool.ErrInUse):
			return err
		}
		if err := say(line{Queue: &l}); err != nil {
			return err
		}
	}
	return nil
}

func refOf(q node.Queue) queueRef { return queueRef{q.Kind, q.Namespace, q.Name} }

func (o *tending) stat(s *node.Spool, say func(line) error) error {
	st := s.Stat()
	l := statLine{Profile: st.Profile.String(), Quota: st.Quota, Reserve: st.Reserve, Used: st.Used, Disk: st.Disk, Groups: uint64(st.Groups),
		Encrypted: st.Encrypted}
	if st.Failed != nil {
		l.Failed = st.Failed.Error()
	}
	for _, q := range s.Queues() {
		l.Queues++
		if q.Kind == node.QueueDead || q.Kind == node.QueuePubDead {
			l.Dead += q.Info.Unsettled
		} else {
			l.Unsettled += q.Info.Unsettled
		}
	}
	return say(line{Stat: &l})
}

// verify reads everything that waits in all queues, or in one. One that cannot be lent does
// not keep it from the others.
func (o *tending) verify(ctx context.Context, s *node.Spool, say func(line) error) error {
	var skipped error
	for _, q := range o.all(s) {
		loan, err := s.Lend(q)
		if errors.Is(err, spool.ErrInUse) {
			skipped = errors.Join(skipped, fmt.Errorf("%s %s was not read: %w", q.Kind, q.Name, err))
			continue
		}
		if err != nil {
			return err
		}
		err = verifyOne(ctx, refOf(q), loan, say)
		loan.Return()
		if err != nil {
			return err
		}
	}
	return skipped
}

func verifyOne(ctx context.Context, ref queueRef, loan node.Loan, say func(line) error) error {
	v := verifiedLine{queueRef: ref}
	damaged := func(from, to uint64, reason string) error {
		v.Damaged += to - from + 1
		return say(line{Damage: &damageLine{ref, from, to, reason}})
	}
	for _, r := range loan.State.Lost {
		if err := damaged(r.From, r.To, "missing when the store was opened"); err != nil {
			return err
		}
	}
	w := walk{loan: loan, damaged: damaged, block: func(b spool.Block) {
		v.Blocks++
		v.Bytes += int64(len(b.Data))
	}}
	err := w.each(ctx, 1, func(spool.Block, uint64, wire.Record) (bool, error) {
		v.Records++
		return true, nil
	})
	if err != nil {
		return err
	}
	return say(line{Verified: &v})
}

// peek tells of messages and leaves them where they are.
func (o *tending) peek(ctx context.Context, s *node.Spool, say func(line) error) error {
	loan, err := o.lend(s)
	if err != nil {
		return err
	}
	defer loan.Return()
	left := o.Count
	w := walk{loan: loan, damaged: o.damage(say)}
	return w.each(ctx, max(o.From, 1), func(b spool.Block, seq uint64, r wire.Record) (bool, error) {
		if o.To > 0 && seq > o.To {
			return false, nil
		}
		l, err := o.record(loan, b, seq, r)
		if err == nil {
			err = say(line{Record: l})
		}
		left--
		return left != 0, err
	})
}

// damage says what cannot be read.
func (o *tending) damage(say func(line) error) func(from, to uint64, reason string) error {
	return func(from, to uint64, reason string) error {
		return say(line{Damage: &damageLine{o.ref(), from, to, reason}})
	}
}

func (o *tending) record(loan node.Loan, b spool.Block, seq uint64, r wire.Record) (*recordLine, error) {
	m, err := socket.Unframe(r)
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", seq, err)
	}
	l := &recordLine{queueRef: o.ref(), Seq: seq, Edition: fmt.Sprintf("%016x", b.Edition), At: b.At, Topic: m.Topic, Key: m.Key, Headers: m.Headers,
		TTL: m.TTL.Milliseconds(), Delay: m.Delay.Milliseconds(), Hash: hashOf(m.Body), Size: len(m.Body)}
	if i, found := slices.BinarySearchFunc(loan.State.Tries, seq, func(t spool.Try, seq uint64) int {
		return int(min(max(int64(t.Seq)-int64(seq), -1), 1))
	}); found {
		l.Attempts, l.Deliveries = loan.State.Tries[i].Attempts, loan.State.Tries[i].Deliveries
	}
	if o.Body {
		l.Body = m.Body
	}
	return l, nil
}

// errBusy is a queue that only the socket that has it open may settle in.
var errBusy = fmt.Errorf("%w: by the push of the running node; end that first", spool.ErrInUse)

// purge settles messages without a reader.
func (o *tending) purge(ctx context.Context, s *node.Spool, say func(line) error) error {
	loan, err := o.lend(s)
	if err != nil {
		return err
	}
	defer loan.Return()
	if loan.InUse && !o.Dead {
		return errBusy
	}
	which := []spool.SeqRange{{From: max(o.From, 1), To: loan.State.Next - 1}}
	if o.To > 0 {
		which[0].To = min(which[0].To, o.To)
	}
	if len(o.Seqs) > 0 {
		which = nil
		for _, seq := range o.Seqs {
			which = append(which, spool.SeqRange{From: seq, To: seq})
		}
	}
	settled := settledOf(loan)
	n := uint64(0)
	c := s.Begin()
	for _, r := range which {
		for gap := range settled.Missing(r.From, min(r.To, loan.State.Next-1)) {
			c.Settle(loan.Queue, gap.From, gap.To)
			settled.Add(gap.From, gap.To)
			n += gap.Len()
		}
	}
	group := c.Group()
	c.End()
	if err := s.Wait(ctx, group); err != nil {
		return err
	}
	return say(line{Purged: &purgedLine{o.ref(), n}})
}
