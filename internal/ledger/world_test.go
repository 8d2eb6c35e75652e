package ledger

import (
	"fmt"
	"slices"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// A world is one sender (a Ledger) and its receivers (a marks.Stream with a queue and
// handlers each), joined by FIFO links that carry real frames. It does nothing by
// itself: the property test walks through it at random, the exploration goes
// everywhere. The code here is what a socket does around the two state machines, and
// the rules it must keep so that the promises of DELIVERY.md hold:
//
//   - A new ATTACH makes the sender deaf on all older pipes, before it is written.
//   - The receiver ends all older pipes before it answers an ATTACH, and drops what it
//     has not begun if its leases have run out by then.
//   - Answers travel on the newest pipe. A NACKed message counts as held until the
//     sender is known to have read the NACK.
//   - A receiver whose memory of the stream is new in an old process says so in every
//     ATTACHED until the sender is known to have read one.
//   - A receiver may begin what it holds for beginWithin after it sent the last RENEW
//     or ATTACHED that the sender is known to have read. Anything that came behind on
//     the same pipe is such knowledge; that the ATTACHED was sent is not.
//   - When that time is over what is not begun is given back, or waits for the answer to
//     another RENEW on the same pipe: the sender gives none when the leases have run out
//     by its own clock. But if they are over by the time that an ATTACHED is known to be
//     read, what is not begun is given back in any case: it may be another's by now.
//     (The product ends the pipe as well, so that nothing overtakes it.)
//   - LEAVE names what was begun and is not answered, or not durably.
//
// What disks add to these rules stands at the type store.
//
// Each of them, and each rule inside the state machines that can be taken out from
// here, is a field of ablation: see explore_test.go.
type world struct {
	without ablation
	plain   bool // frames carry no attempts: states that differ in them only are the same
	mode    Mode
	now     time.Time
	life    byte     // the sender's: its nonce, incarnation and edition
	firsts  []uint64 // the first seq of each life
	nextSeq uint64
	block   []byte // the records of those from base on
	base    uint64
	l       *Ledger
	nodes   []*receiver
	ghosts  [][]ghost // by life and seq
	store   *store    // the sender's; nil: all is lost with its process
	keeps   bool      // receivers keep their done marks on disk
	wrong   string    // the first violation
}

const (
	beginWithin = 8 * time.Second
	leaseTime   = 10 * time.Second
)

// ghost is what an omniscient observer notes of a message.
type ghost struct {
	begun, plain int // times a handler got it, and without the flag
	handled      bool
	settled      bool // as the sender's process knows
	state        State
	final        bool // and so it is on its disk
	was          bool // settled once, if only in a process that is no more
	kept         bool // a done mark is on some receiver's disk
	key          string
	due          time.Time // when its delay ends
	delayed      bool
	at           [3]place
}

// place is the same for one receiver, in its present memory.
type place struct {
	done    bool
	kept    bool // and the mark is on disk
	running int
}

// link is a pipe's two directions and its ends.
type link struct {
	number   uint64
	open     bool // the sender's end: it writes and listens
	met      bool // it has read ATTACHED
	there    bool // the receiver's end
	down, up [][]byte

	pipe    marks.Pipe // the receiver's, once it has read ATTACH
	life    byte       // of the sender that wrote it
	attach  wire.Attach
	greeted bool
	proven  bool                 // the sender has read ATTACHED
	asked   time.Time            // when it sent ATTACHED
	renews  map[uint64]time.Time // when it sent these RENEWs
	renew   uint64
	credit  wire.Credit // granted
	arrived uint64      // messages
}

type item struct {
	life    byte // the sender's when it accepted the message
	seq     uint64
	edition uint64
	by      byte // the sender's life when it sent it
	flag    bool
	expires time.Time
}

// refusal is a message whose handler failed.
type refusal struct {
	item
	number uint64 // the pipe its NACK was written to last, 0: none
	renew  uint64 // the RENEW of that pipe that follows it
}

type receiver struct {
	con     *Consumer // as the sender knows it
	nonce   byte
	disk    byte                 // its store id, if it keeps its marks on disk
	saved   []wire.EditionRanges // the done marks there
	acked   []item               // handled, and the marks not there yet
	last    wire.Attach          // the newest ATTACH it accepted
	memory  *marks.Stream
	links   []*link // oldest first
	cur     *link   // the pipe it speaks on
	queue   []item
	running []item
	failed  []refusal
	until   time.Time // it may begin what it holds
	lessor  byte      // the life of the sender that said so
	unsaid  bool      // that its memory is new in an old process, and the sender may not know that yet
	window  uint64    // messages in hand, at most; 0: the test grants credit
	gone    bool      // left in good order
}

// ablation takes out one rule each.
type ablation struct {
	fence          bool // older pipes are read on as if nothing had happened
	held           bool // ATTACHED leaves out what is in hand
	done           bool // ATTACHED leaves out the done marks
	ranges         bool // CONFIRM names everything up to the highest answer
	flag           bool // nothing is flagged
	leases         bool // a receiver begins what it likes when it likes
	nonce          bool // the sender takes all lives of a receiver for one
	edition        bool // a sender that restarts keeps its edition
	marks          bool // a done mark is forgotten when its DONE is sent
	deafToAttached bool // the sender heeds an ATTACHED of an older pipe
	deafToAnswers  bool // it heeds other answers of older pipes
	patience       bool // ATTACHED renews the leases when it is sent, not when it is known to be read
	nackHeld       bool // a NACKed message is not held until the NACK was read
	forgotten      bool // a new memory in an old process does not say that it is new
	drop           bool // what is not begun then is kept when a later ATTACHED has been read

	begun         bool // LEAVE does not say what was begun
	ackEarly      bool // DONE is told before the done mark is on disk
	attachedEarly bool // ATTACHED tells done marks that are not on disk
	stage         bool // CONFIRM is told before the settlement is on disk
	mark          bool // dispatch does not wait for the mark
	markRead      bool // the mark is not read when the sender restarts
	unknownFlag   bool // what an earlier life dispatched is not flagged
	unknownWait   bool // it is leased at once
	holders       bool // who is dialled is written to disk with whatever is written next
	settledRead   bool // what was settled is not read
	start         bool // ATTACH tells settlements that are not on disk
	store         bool // a receiver that lost its disk keeps its store id
}

// newWorld makes a world without faults so far. disks: what it stores survives.
func newWorld(mode Mode, receivers int, without ablation, disks bool) *world {
	w := &world{mode: mode, without: without, now: time.Unix(1e9, 0), nextSeq: 1}
	if disks {
		w.store, w.keeps = &store{id: 1}, !mode.Requests
	}
	for range receivers {
		w.nodes = append(w.nodes, &receiver{nonce: 1, disk: 1, memory: new(marks.Stream)})
	}
	w.begin()
	return w
}

func (w *world) begin() {
	w.life++
	w.block = nil
	if w.store == nil {
		w.nextSeq = 1
	}
	w.firsts = append(w.firsts, w.nextSeq)
	w.ghosts = append(w.ghosts, nil)
	mode := w.mode
	mode.Edition, mode.Lease = uint64(w.life), leaseTime
	if w.store != nil {
		w.load(&mode)
	}
	if w.without.edition {
		mode.Edition, mode.First, mode.Editions = 1, 0, nil
	}
	w.l = New(mode, 1, w.now, w.settled)
	for i, r := range w.nodes {
		r.con = w.l.Join(Who{Node: identity.ID{byte(i + 1)}, Label: string(rune('a' + i))}, 0)
	}
	if w.store != nil {
		w.append()
	}
}

// birth is the life in which the message that has this seq now was accepted.
func (w *world) birth(seq uint64) byte { return w.birthAt(w.life, seq) }

// birthAt is birth as it was in an earlier life.
func (w *world) birthAt(life byte, seq uint64) byte {
	for ; life > 1 && w.firsts[life-1] > seq; life-- {
	}
	return life
}

// fail notes a violation; the first one counts.
func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

// worldBlock is about how many bytes of records the blocks of a world hold.
const worldBlock = 40

func (w *world) ghost(life byte, seq uint64) *ghost {
	return &w.ghosts[life-1][seq-w.firsts[life-1]]
}

// put accepts a message.
func (w *world) put(key string, ttl, delay time.Duration) {
	seq := w.nextSeq
	w.nextSeq++
	w.ghosts[w.life-1] = append(w.ghosts[w.life-1], ghost{key: key, due: w.now.Add(delay), delayed: delay > 0})
	if len(w.block) == 0 || len(w.block) > worldBlock {
		w.block, w.base = make([]byte, 0, 2*worldBlock), seq
	}
	at := len(w.block)
	w.block = wire.AppendRecord(w.block, wire.Record{Delta: seq - w.base, Key: []byte(key), TTL: ttl, Body: []byte{w.life}})
	it := Item{Seq: seq, Base: w.base, Key: key, Record: w.block[at:]}
	if ttl > 0 {
		it.Expires = w.now.Add(ttl)
	}
	if delay > 0 {
		it.NotBefore = w.now.Add(delay)
	}
	if w.store != nil {
		w.store.put(it, w.now)
		it = it.absent()
	}
	w.l.Append(it, w.now)
}

// tick lets the ledger know the time.
func (w *world) tick() {
	w.l.Tick(w.now)
	if w.store != nil {
		w.fetch()
	}
}

func (w *world) settled(s Settlement) {
	g := w.ghost(w.birth(s.Seq), s.Seq)
	switch {
	case g.settled:
		w.fail("I7: %d settled as %v and then as %v", s.Seq, g.state, s.State)
	case s.State == Done && !g.handled:
		w.fail("I1: %d settled as done, but nobody has handled it", s.Seq)
	case s.State == Done && w.keeps && !g.kept:
		w.fail("rule 5: %d settled as done, but its done mark is not on disk", s.Seq)
	case s.State == Expired && w.mode.Requests && g.begun > 0:
		w.fail("I11: request %d settled as not executed, but it was begun", s.Seq)
	}
	g.settled, g.was, g.state = true, true, s.State
	if w.store != nil {
		w.store.dirty.Add(s.Seq, s.Seq)
	}
}

// The sender.

func (w *world) dial(r *receiver) {
	if w.store != nil {
		w.store.meets(slices.Index(w.nodes, r), w.without.holders)
	}
	number, last := w.l.Attach(r.con)
	for _, k := range r.links {
		k.open = false
		if !w.without.deafToAttached && !w.without.deafToAnswers {
			k.up = nil
		}
	}
	kind := wire.Push
	if w.mode.Requests {
		kind = wire.Req
	}
	a := wire.Attach{Socket: 1, Kind: kind, Level: wire.Memory, Store: nonceOf(w.life), Nonce: nonceOf(w.life),
		Edition: w.l.mode.Edition, First: w.l.mode.First, Editions: w.l.Editions(),
		Incarnation: uint64(w.life), Number: number, LastStore: last, Start: w.owedFrom(), Name: "q"}
	if w.store != nil {
		a.Store = nonceOf(w.store.id)
	}
	r.links = append(r.links, &link{number: number, open: true, there: true, down: [][]byte{wire.AppendAttach(nil, a)}})
	w.clean(r)
}

// notice: the receiver's end is gone and there is nothing left to read.
func (w *world) notice(r *receiver, k *link) {
	k.open = false
	w.l.Detached(r.con, k.number, false)
	w.clean(r)
}

// cut ends a link with all that is under way, in both directions.
func (w *world) cut(r *receiver, k *link) {
	k.there, k.down, k.up = false, nil, nil
	if r.cur == k {
		r.cur = nil
	}
	if k.open {
		w.notice(r, k)
	}
	w.clean(r)
}

// clean forgets links that have ended on both sides, or on one with nothing left to
// read on the other.
func (w *world) clean(r *receiver) {
	r.links = slices.DeleteFunc(r.links, func(k *link) bool {
		if k.open || k.there && len(k.down) > 0 || len(k.up) > 0 {
			return false
		}
		if r.cur == k {
			r.cur = nil
		}
		return true
	})
}

// pipe is the link the sender may write to.
func (r *receiver) pipe() *link {
	for _, k := range r.links {
		if k.open && k.met {
			return k
		}
	}
	return nil
}

// write says what there is to say to r, and writes up to n bytes of records.
func (w *world) write(r *receiver, n int) {
	k := r.pipe()
	if k == nil {
		return
	}
	for _, e := range w.l.TakeConfirms(r.con) {
		if last := len(e.Ranges) - 1; w.without.ranges {
			e.Ranges = []ranges.Range{{From: 1, To: e.Ranges[last].To}}
		}
		k.say(wire.AppendRanges(nil, wire.TypeConfirm, e))
	}
	if rs := r.con.TakeRevokes(); rs != nil {
		k.say(wire.AppendRevoke(nil, rs))
	}
	for _, g := range r.con.TakeGaps() {
		k.say(wire.AppendGap(nil, g))
	}
	for _, s := range singles(w.l.Take(r.con, nil, n, w.now)) {
		flag := s.Redelivered && !w.without.flag
		if e, _ := w.l.ring.look(s.Seq); w.without.unknownFlag && e.unknown {
			flag = false
		}
		run := wire.Run{Redelivered: flag, Base: s.Base, Attempt: s.Attempt, Age: s.Age}
		if w.plain {
			run.Attempt = 0
		}
		k.say(wire.AppendData(nil, run, s.Record))
	}
}

// singles takes apart what is sent in one go.
func singles(sends []Send) (out []Send) {
	for _, s := range sends {
		for i, records := uint64(0), s.Record; len(records) > 0; i++ {
			_, rest, err := wire.NextRecord(records)
			if err != nil {
				panic(err)
			}
			one := s
			one.Seq, one.N, one.Record = s.Seq+i, 1, records[:len(records)-len(rest)]
			out, records = append(out, one), rest
		}
	}
	return out
}

func (k *link) say(frame []byte) {
	if k.there {
		k.down = append(k.down, frame)
	}
}

// parse takes a frame apart; what the world writes is well-formed.
func parse[T any](w *world, p func([]byte) (T, error), payload []byte) T {
	v, err := p(payload)
	if err != nil {
		w.fail("unreadable frame: %v", err)
	}
	return v
}

func (w *world) next(frames *[][]byte) (wire.Type, []byte) {
	t, payload, rest, _, err := wire.Next((*frames)[0])
	if err != nil || len(rest) > 0 {
		w.fail("unreadable frame: %v, %d bytes too many", err, len(rest))
	}
	*frames = (*frames)[1:]
	return t, payload
}

// hear makes the sender read one frame.
func (w *world) hear(r *receiver, k *link) {
	t, payload := w.next(&k.up)
	if !k.open && (t == wire.TypeAttached && !w.without.deafToAttached || t != wire.TypeAttached && !w.without.deafToAnswers) {
		w.clean(r)
		return
	}
	c := r.con
	var err error
	switch t {
	case wire.TypeAttached:
		a := parse(w, wire.ParseAttached, payload)
		if w.without.nonce {
			a.Nonce = nonceOf(1)
		}
		if w.without.deafToAttached {
			a.Number, c.attached = c.number, false
		}
		k.met, err = w.l.Attached(c, a, w.now)
		if w.without.deafToAttached && k.met {
			r.links[len(r.links)-1].met = true // and goes on with its newest pipe
		}
	case wire.TypeDone:
		err = w.l.Done(c, parse(w, wire.ParseRanges, payload))
	case wire.TypeNack:
		err = w.l.Nack(c, parse(w, wire.ParseNack, payload), w.now)
	case wire.TypeReply:
		p := parse(w, wire.ParseReply, payload)
		_, err = w.l.Reply(c, p.Edition, p.Seq, Done)
	case wire.TypeCredit:
		w.l.Credit(c, parse(w, wire.ParseCredit, payload))
	case wire.TypeRenew:
		if n := parse(w, wire.ParseNumber, payload); w.l.Renew(c, w.now) {
			k.say(wire.AppendNumber(nil, wire.TypeRenewed, n))
		}
	case wire.TypeLeave:
		err = w.l.Left(c, k.number, parse(w, wire.ParseLeave, payload).Begun)
		k.open = false
	}
	if err != nil {
		w.fail("an honest answer of %s is refused: %v", c.Who.Label, err)
	}
	w.clean(r)
}

// abort ends a pipe whose leases have run out; the next dial replaces it.
func (w *world) abort(r *receiver) {
	for _, k := range r.links {
		if k.open && r.con.Stale() {
			k.up = nil
			w.notice(r, k)
			return
		}
	}
}

// restartSender loses all it had in memory and begins another life, with what is on its
// disk.
func (w *world) restartSender() {
	for _, r := range w.nodes {
		for _, k := range r.links {
			k.open, k.up = false, nil
		}
		w.clean(r)
	}
	for life, gs := range w.ghosts {
		for i := range gs {
			if w.store != nil && w.birth(w.firsts[life]+uint64(i)) == byte(life+1) && !gs[i].final {
				gs[i].settled = false
			}
		}
	}
	w.begin()
}

// The receivers.

func (w *world) lapsed(r *receiver) bool { return w.now.After(r.until) }

// tell writes an answer to the newest pipe.
func (w *world) tell(r *receiver, frame []byte) {
	if k := r.cur; k != nil && (k.open || w.without.deafToAttached || w.without.deafToAnswers) {
		k.up = append(k.up, frame)
	}
}

func (w *world) giveBackAll(r *receiver) {
	for len(r.queue) > 0 {
		it := r.queue[0]
		r.queue = r.queue[1:]
		w.giveBack(r, it, wire.NackReturned)
	}
}

// giveBack lets go of what was not begun, and says so.
func (w *world) giveBack(r *receiver, it item, reason wire.NackReason) {
	r.memory.Return(it.edition, it.seq)
	e := run(it.edition, it.seq)
	w.tell(r, wire.AppendNack(nil, wire.Nack{Reason: reason, Edition: e.Edition, Ranges: e.Ranges}))
	w.grant(r)
}

// grant says how much more r can take, where it decides that by itself.
func (w *world) grant(r *receiver) {
	if k := r.cur; k != nil && r.window > 0 {
		if n := k.arrived + r.window - min(uint64(len(r.queue)+len(r.running)), r.window); n > k.credit.Messages {
			k.credit.Messages = n
			w.tell(r, wire.AppendCredit(nil, k.credit))
		}
	}
}

// read makes r read one frame.
func (w *world) read(r *receiver, k *link) {
	t, payload := w.next(&k.down)
	switch {
	case !k.greeted:
		w.greet(r, k, parse(w, wire.ParseAttach, payload))
	case !r.memory.Current(k.pipe) && !w.without.fence:
		k.there, k.down = false, nil
	default:
		w.proof(r, k)
		w.take(r, k, t, payload)
	}
	w.clean(r)
}

// proof: a frame behind the ATTACHED says that it was read, and renews the leases from
// when it was sent. If they had run out before, the sender may have found so before it
// read the ATTACHED: then what is in hand is not r's any more.
func (w *world) proof(r *receiver, k *link) {
	if k.proven {
		return
	}
	k.proven, r.unsaid = true, false
	if w.lapsed(r) && !w.without.drop {
		w.giveBackAll(r)
	}
	r.extend(k.asked, k.life)
}

func (r *receiver) extend(asked time.Time, lessor byte) {
	if until := asked.Add(beginWithin); until.After(r.until) {
		r.until, r.lessor = until, lessor
	}
}

func (w *world) greet(r *receiver, k *link, a wire.Attach) {
	if !r.memory.Known() {
		r.unsaid = a.LastStore == w.storeOf(r)
	}
	p, err := r.memory.Attach(a)
	if err != nil || r.gone {
		k.there, k.down = false, nil
		return
	}
	for _, old := range r.links {
		if old.greeted && !w.without.fence {
			old.there, old.down = false, nil
		}
	}
	r.last = a
	k.pipe, k.life, k.attach, k.greeted, k.asked, r.cur = p, byte(a.Incarnation), a, true, w.now, nil
	if w.without.patience {
		r.until = w.now.Add(beginWithin)
	}
	r.cur = k
	out := wire.Attached{Number: a.Number, Forgotten: r.unsaid && !w.without.forgotten, Store: w.storeOf(r), Nonce: nonceOf(r.nonce), Bytes: 1 << 40}
	if r.window > 0 {
		out.Messages = r.window - min(uint64(len(r.queue)+len(r.running)), r.window)
		k.credit = wire.Credit{Messages: out.Messages, Bytes: out.Bytes}
	}
	r.memory.Attached(&out)
	if w.without.attachedEarly {
		for _, it := range r.acked {
			out.Done = append(out.Done, run(it.edition, it.seq))
		}
	}
	if w.without.held {
		out.Held = nil
	}
	for _, e := range out.Done {
		if w.mode.Requests {
			defer w.replyAgain(r, e)
		}
	}
	if w.without.done {
		out.Done = nil
	}
	w.tell(r, wire.AppendAttached(nil, out))
	for i := range r.failed {
		w.tellFailed(r, &r.failed[i])
	}
}

func (w *world) replyAgain(r *receiver, e wire.EditionRanges) {
	for _, part := range e.Ranges {
		for seq := part.From; seq <= part.To; seq++ {
			w.tell(r, wire.AppendReply(nil, wire.Reply{Edition: e.Edition, Seq: seq, Outcome: wire.OK}))
		}
	}
}

// take handles a frame of the newest pipe.
func (w *world) take(r *receiver, k *link, t wire.Type, payload []byte) {
	switch t {
	case wire.TypeData:
		head, records, err := wire.ParseData(payload)
		rec, _, rerr := wire.NextRecord(records)
		if err != nil || rerr != nil {
			w.fail("unreadable DATA: %v, %v", err, rerr)
			return
		}
		seq := head.Base + rec.Delta
		it := item{life: rec.Body[0], seq: seq, edition: k.attach.EditionOf(seq), by: k.life, flag: head.Redelivered}
		if rec.TTL > 0 {
			it.expires = w.now.Add(rec.TTL - head.Age)
		}
		w.arrive(r, k, it)
	case wire.TypeConfirm:
		r.memory.Confirm(parse(w, wire.ParseRanges, payload))
	case wire.TypeRevoke:
		w.revoked(r, k, parse(w, wire.ParseRevoke, payload))
	case wire.TypeRenewed:
		w.renewed(r, k, parse(w, wire.ParseNumber, payload))
	case wire.TypeGap:
		w.gap(k, parse(w, wire.ParseGap, payload))
	}
}

func (w *world) arrive(r *receiver, k *link, it item) {
	k.arrived++
	if r.window > 0 && k.arrived > k.credit.Messages {
		w.fail("%s was sent %d messages with credit for %d", r.con.Who.Label, k.arrived, k.credit.Messages)
	}
	r.failed = slices.DeleteFunc(r.failed, func(f refusal) bool {
		if f.edition != it.edition || f.seq != it.seq {
			return false
		}
		r.memory.Return(it.edition, it.seq) // sent again, so the NACK was read
		return true
	})
	if k.life < byte(r.last.Incarnation) && !w.without.fence {
		w.fail("I10: %s takes %d from an older life", r.con.Who.Label, it.seq)
	}
	fresh, err := r.memory.Arrive(it.edition, it.seq)
	if err != nil {
		w.fail("%s cannot take %d: %v", r.con.Who.Label, it.seq, err)
	}
	if !fresh {
		w.grant(r)
		return
	}
	r.queue = append(r.queue, it)
}

func (w *world) revoked(r *receiver, k *link, rs []ranges.Range) {
	r.queue = slices.DeleteFunc(r.queue, func(it item) bool {
		hit := it.edition == k.attach.EditionOf(it.seq) && slices.ContainsFunc(rs, func(p ranges.Range) bool { return p.From <= it.seq && it.seq <= p.To })
		if hit {
			r.memory.Return(it.edition, it.seq)
		}
		return hit
	})
	w.grant(r)
}

func (w *world) renewed(r *receiver, k *link, n uint64) {
	r.extend(k.renews[n], k.life)
	delete(k.renews, n)
	r.failed = slices.DeleteFunc(r.failed, func(f refusal) bool {
		read := f.number == k.number && f.renew <= n
		if read {
			r.memory.Return(f.edition, f.seq)
		}
		return read
	})
}

// gap: what it names must never come.
func (w *world) gap(k *link, g wire.Gap) {
	for seq := g.From; seq <= g.To; seq++ {
		if o := w.ghost(w.birthAt(k.life, seq), seq); !o.settled || o.state == Done {
			w.fail("rule 6: %d is said to be a hole (%v), but it is not", seq, g.Reason)
		}
	}
}

// renew says that r holds what it has.
func (w *world) renew(r *receiver) {
	k := r.cur
	if k == nil || r.gone {
		return
	}
	if k.renews == nil {
		k.renews = map[uint64]time.Time{}
	}
	k.renew++
	k.renews[k.renew] = w.now
	w.tell(r, wire.AppendNumber(nil, wire.TypeRenew, k.renew))
}

// start begins the oldest message in hand.
func (w *world) start(r *receiver) {
	it := r.queue[0]
	r.queue = r.queue[1:]
	switch {
	case !it.expires.IsZero() && !w.now.Before(it.expires):
		w.giveBack(r, it, wire.NackExpired)
		return
	case w.lapsed(r) && !w.without.leases:
		w.giveBack(r, it, wire.NackReturned)
		return
	}
	w.judge(r, it)
	r.running = append(r.running, it)
}

// judge holds a delivery against I3, I5, I9 and I11.
func (w *world) judge(r *receiver, it item) {
	i := slices.Index(w.nodes, r)
	g := w.ghost(it.life, it.seq)
	who := r.con.Who.Label
	switch {
	case w.now.Before(g.due):
		w.fail("%d is delivered %v before its time", it.seq, g.due.Sub(w.now))
	case g.at[i].done:
		w.fail("I3: %d is delivered to %s, which has done it", it.seq, who)
	case g.at[i].running > 0:
		w.fail("I3: %d is delivered to %s, where it is running", it.seq, who)
	case g.begun > 0 && w.mode.AtMostOnce:
		w.fail("I11: %d is executed a second time", it.seq)
	case g.plain > 0 && !it.flag:
		w.fail("I3: a second unflagged delivery of %d", it.seq)
	case g.begun > 0 && !it.flag:
		w.fail("I3: an unflagged delivery of %d after a flagged one", it.seq)
	}
	if it.life == w.birth(it.seq) && (w.store != nil || it.life == w.life) {
		e := w.l.ring.find(it.seq)
		past := it.by < w.life && e != nil && e.unknown && e.attempt == 1 // a lease of an earlier life that may go on
		if e != nil && !e.state.settled() && !past && (e.state != Leased || e.holder != r.con) {
			w.fail("I9: %s begins %d, which is not leased to it: %v", who, it.seq, e.state)
		}
		for s := w.firsts[0]; s < it.seq && g.key != ""; s++ {
			if o := w.ghost(w.birth(s), s); o.key == g.key && !o.was && !o.handled && !o.delayed {
				w.fail("I5: %d is delivered before %d of the same key is settled", it.seq, s)
			}
		}
	}
	g.begun++
	if !it.flag {
		g.plain++
	}
	g.at[i].running++
}

// finish ends a handler in success.
func (w *world) finish(r *receiver, n int) {
	it := w.end(r, n)
	g := w.ghost(it.life, it.seq)
	g.handled = true
	g.at[slices.Index(w.nodes, r)].done = true
	if w.keeps {
		r.acked = append(r.acked, it)
	}
	if !w.keeps || w.without.ackEarly {
		w.answer(r, it)
	}
	w.grant(r)
}

// answer makes a done mark and tells it.
func (w *world) answer(r *receiver, it item) {
	r.memory.Done(it.edition, it.seq)
	if w.mode.Requests {
		w.tell(r, wire.AppendReply(nil, wire.Reply{Edition: it.edition, Seq: it.seq, Outcome: wire.OK}))
	} else {
		w.tell(r, wire.AppendRanges(nil, wire.TypeDone, run(it.edition, it.seq)))
	}
	if w.without.marks {
		r.memory.Confirm(run(it.edition, it.seq))
	}
}

// refuse ends a handler in failure.
func (w *world) refuse(r *receiver, n int) {
	it := w.end(r, n)
	f := refusal{item: it}
	w.tellFailed(r, &f)
	if w.without.nackHeld {
		r.memory.Return(it.edition, it.seq)
	} else {
		r.failed = append(r.failed, f)
	}
	w.grant(r)
}

func (w *world) tellFailed(r *receiver, f *refusal) {
	if r.cur == nil {
		return
	}
	f.number, f.renew = r.cur.number, r.cur.renew+1
	e := run(f.edition, f.seq)
	reason := wire.NackHandler
	if f.seq%2 == 0 { // both are held until they were read
		reason = wire.NackReleased
	}
	w.tell(r, wire.AppendNack(nil, wire.Nack{Reason: reason, Edition: e.Edition, Ranges: e.Ranges}))
}

func (w *world) end(r *receiver, n int) item {
	it := r.running[n]
	r.running = slices.Delete(r.running, n, n+1)
	w.ghost(it.life, it.seq).at[slices.Index(w.nodes, r)].running--
	return it
}

// restart: the process is replaced by one that knows nothing.
func (w *world) restart(r *receiver) {
	w.forget(r)
	r.nonce++
}

// reopen: the socket is closed without a word and opened again in the same process.
// Handlers run on, but can answer no more.
func (w *world) reopen(r *receiver) { w.forget(r) }

func (w *world) forget(r *receiver) {
	for _, k := range r.links {
		k.there, k.down = false, nil
	}
	i := slices.Index(w.nodes, r)
	for _, gs := range w.ghosts {
		for n := range gs {
			p := &gs[n].at[i]
			*p = place{done: p.kept, kept: p.kept}
		}
	}
	*r = receiver{con: r.con, nonce: r.nonce, disk: r.disk, saved: r.saved, window: r.window, links: r.links, memory: new(marks.Stream)}
	if !r.memory.Restore(r.saved) {
		w.fail("%s cannot read its done marks", r.con.Who.Label)
	}
	w.clean(r)
}

// leave ends the socket in good order: unbegun messages are given back, and the last
// word is LEAVE. Handlers run on, but can answer no more.
func (w *world) leave(r *receiver) {
	w.giveBackAll(r)
	l := wire.Leave{Begun: r.memory.Begun()}
	if w.without.begun {
		l.Begun = nil
	}
	w.tell(r, wire.AppendLeave(nil, l))
	if r.cur != nil {
		r.cur.there, r.cur.down = false, nil
	}
	r.cur, r.gone = nil, true
	w.clean(r)
}

// heal lets everything run without faults until nothing moves any more, and then
// looks for what is missing. Nothing may need more than so many rounds.
func (w *world) heal() {
	const rounds = 60
	for n, quiet := 0, 0; n < rounds && quiet < 2 && w.wrong == ""; n++ {
		w.round()
		if quiet++; !w.silent() || w.l.Early() > 0 {
			quiet = 0
		}
	}
	if w.wrong == "" {
		w.missing()
	}
}

// round is one turn of everybody, with everything under way delivered.
func (w *world) round() {
	for _, r := range w.nodes {
		w.l.Resume(r.con)
		r.gone = false
		w.abort(r)
		for _, k := range slices.Clone(r.links) {
			if k.open && !k.there && len(k.up) == 0 {
				w.notice(r, k)
			}
		}
		if !slices.ContainsFunc(r.links, func(k *link) bool { return k.open }) {
			w.dial(r)
		}
	}
	w.deliver()
	w.now = w.now.Add(time.Second)
	for _, r := range w.nodes {
		w.renew(r)
	}
	w.deliver()
	w.tick()
	for _, r := range w.nodes {
		if r.window == 0 && r.con.attached {
			w.l.Credit(r.con, wire.Credit{Messages: r.con.sentMsgs + 10, Bytes: 1 << 40})
		}
	}
	w.l.Dispatch(func(*Consumer) {})
	w.deliver()
	for _, r := range w.nodes {
		for len(r.queue) > 0 {
			w.start(r)
		}
		for len(r.running) > 0 {
			w.finish(r, 0)
		}
		w.save(r)
	}
	w.deliver()
	if w.store != nil {
		w.sync()
		w.beginSync(w.l.WantsMark())
		w.sync()
		w.deliver()
	}
}

// deliver reads everything that is under way.
func (w *world) deliver() {
	for moved := true; moved && w.wrong == ""; {
		moved = false
		for _, r := range w.nodes {
			w.write(r, 1<<20)
			for _, k := range slices.Clone(r.links) {
				for ; k.there && len(k.down) > 0; moved = true {
					w.read(r, k)
				}
				for ; len(k.up) > 0; moved = true {
					w.hear(r, k)
				}
			}
		}
	}
}

// silent reports whether nobody holds anything.
func (w *world) silent() bool {
	for _, r := range w.nodes {
		if r.memory.Held() > 0 || r.memory.Unconfirmed() > 0 {
			return false
		}
	}
	n, _ := w.l.Owed()
	return n == 0 && (w.store == nil || !w.l.Unsealed() && !w.store.writing)
}

// missing looks for what should have been settled, confirmed or forgotten by now.
func (w *world) missing() {
	if n, _ := w.l.Owed(); n > 0 {
		w.fail("I16: %d messages are still owed, the first is %d: %+v", n, w.l.Lowest(), *w.l.ring.find(w.l.Lowest()))
	}
	for seq := w.firsts[0]; w.store != nil && seq < w.nextSeq; seq++ {
		if g := w.ghost(w.birth(seq), seq); !g.final {
			w.fail("I1: %d was stored and has no fate on disk", seq)
		}
	}
	for _, r := range w.nodes {
		if n := r.memory.Held(); n > 0 {
			w.fail("I15: %s holds %d messages for ever", r.con.Who.Label, n)
		}
		if n := r.memory.Unconfirmed(); n > 0 {
			w.fail("I15: %s keeps %d done marks for ever", r.con.Who.Label, n)
		}
	}
}
