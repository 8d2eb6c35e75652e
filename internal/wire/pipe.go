package wire

import (
	"encoding/binary"
	"fmt"
	"time"

	"peermesh/internal/ranges"
)

// Level is a durability level as it travels.
type Level uint8

// The durability levels, weakest first. BestEffort streams have no answers.
const (
	BestEffort Level = 1
	Memory     Level = 2
	Durable    Level = 3
)

// Attach opens a pipe: the first frame of its stream. Seqs are dense over all lives
// of the sender's store, so each edition owns the seqs from its First to the next one's.
type Attach struct {
	Socket      uint64 // the receiver's, from its OFFER
	Kind        Kind   // Push, Pub or Req
	Level       Level
	Store       [16]byte
	Editions    []EditionSpan // earlier ones that still own something owed, ascending by First; at most MaxEditions
	Edition     uint64        // the present one
	First       uint64        // it owns everything from here on; above the First of every earlier one
	Nonce       [16]byte
	Incarnation uint64
	Number      uint64   // rises with each ATTACH of this stream to this peer
	LastStore   [16]byte // the receiver's store this stream last met; zero if none
	Start       uint64   // nothing below is owed to this receiver
	ReplyCredit uint64   // Req: bytes of replies the requester can hold
	Name        string
}

// AppendAttach appends an ATTACH frame.
func AppendAttach(dst []byte, a Attach) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, a.Socket)
	dst = append(dst, byte(a.Kind), byte(a.Level))
	dst = append(dst, a.Store[:]...)
	dst = appendSpans(dst, a.Editions, EditionSpan{a.Edition, a.First})
	dst = append(dst, a.Nonce[:]...)
	dst = binary.AppendUvarint(dst, a.Incarnation)
	dst = binary.AppendUvarint(dst, a.Number)
	dst = append(dst, a.LastStore[:]...)
	dst = binary.AppendUvarint(dst, a.Start)
	dst = binary.AppendUvarint(dst, a.ReplyCredit)
	dst = appendStr(dst, a.Name)
	return seal(dst, at, TypeAttach)
}

// ParseAttach reads the payload of an ATTACH.
func ParseAttach(b []byte) (Attach, error) {
	p := parser{b: b}
	a := Attach{Socket: p.uvarint(), Kind: Kind(p.u8()), Level: Level(p.u8()), Store: p.id()}
	earlier, own := p.spans()
	a.Editions, a.Edition, a.First = earlier, own.Edition, own.First
	a.Nonce, a.Incarnation, a.Number, a.LastStore = p.id(), p.uvarint(), p.uvarint(), p.id()
	a.Start, a.ReplyCredit, a.Name = p.uvarint(), p.uvarint(), p.str(MaxName)
	if p.err == nil && !a.Kind.Sends() {
		p.fail(fmt.Errorf("%w: %v does not attach", ErrMalformed, a.Kind))
	}
	if p.err == nil && (a.Level < BestEffort || a.Level > Durable) {
		p.fail(fmt.Errorf("%w: level %d", ErrMalformed, a.Level))
	}
	return a, p.open()
}

// Attached answers ATTACH with all the receiver remembers of the stream.
type Attached struct {
	Number    uint64 // the ATTACH that is answered
	Forgotten bool   // ATTACH named this store, but it has no record of the stream
	Store     [16]byte
	Nonce     [16]byte
	Messages  uint64          // window
	Bytes     uint64          // window
	Done      []EditionRanges // every done mark not yet confirmed
	Held      []EditionRanges // queued or begun here
	Lost      []EditionRanges // Rep: begun, and its reply will never be known
	Version   uint64          // Sub: of the patterns
	Patterns  []string        // Sub
}

// AppendAttached appends an ATTACHED frame.
func AppendAttached(dst []byte, a Attached) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, a.Number)
	dst = append(dst, flag(a.Forgotten))
	dst = append(dst, a.Store[:]...)
	dst = append(dst, a.Nonce[:]...)
	dst = binary.AppendUvarint(dst, a.Messages)
	dst = binary.AppendUvarint(dst, a.Bytes)
	dst = appendEditions(dst, a.Done)
	dst = appendEditions(dst, a.Held)
	dst = appendEditions(dst, a.Lost)
	dst = binary.AppendUvarint(dst, a.Version)
	dst = appendStrs(dst, a.Patterns)
	return seal(dst, at, TypeAttached)
}

// ParseAttached reads the payload of an ATTACHED.
func ParseAttached(b []byte) (Attached, error) {
	p := parser{b: b}
	a := Attached{Number: p.uvarint(), Forgotten: p.u8()&1 != 0, Store: p.id(), Nonce: p.id(), Messages: p.uvarint(), Bytes: p.uvarint(),
		Done: p.editions(), Held: p.editions(), Lost: p.editions(), Version: p.uvarint(), Patterns: p.strs(MaxPatterns)}
	return a, p.open()
}

// Rejected answers ATTACH when there will be no pipe.
type Rejected struct {
	Code   string
	Reason string
}

// AppendRejected appends a REJECTED frame; an overlong reason is cut.
func AppendRejected(dst []byte, r Rejected) []byte {
	dst, at := open(dst)
	dst = appendStr(dst, Clip(r.Code, MaxName))
	return seal(appendStr(dst, Clip(r.Reason, MaxReason)), at, TypeRejected)
}

// ParseRejected reads the payload of a REJECTED.
func ParseRejected(b []byte) (Rejected, error) {
	p := parser{b: b}
	r := Rejected{Code: p.str(MaxName), Reason: p.str(MaxReason)}
	return r, p.end()
}

// Run is the header of DATA and FRAGMENT: what varies per send.
type Run struct {
	Redelivered bool
	Covers      bool   // From is there
	Base        uint64 // seq of a record = Base + its delta
	Attempt     uint64
	Age         time.Duration // since the message was accepted, in whole ms
	From        uint64        // the run says everything about From..its last record
}

const (
	runRedelivered = 1 << iota
	runCovers
	runFlags = runRedelivered | runCovers
)

// maxAge in milliseconds is what a time.Duration holds: 292 years.
const maxAge = uint64(1<<63-1) / uint64(time.Millisecond)

// millis is a span of time as it travels, where zero means that there is none:
// rounded up, so that a short one is not taken for none.
func millis(d time.Duration) uint64 {
	const ms = uint64(time.Millisecond)
	return min((uint64(max(d, 0))+ms-1)/ms, maxAge)
}

func appendRun(dst []byte, r Run) []byte {
	dst = append(dst, flag(r.Redelivered)*runRedelivered|flag(r.Covers)*runCovers)
	dst = binary.AppendUvarint(dst, r.Base)
	dst = binary.AppendUvarint(dst, r.Attempt)
	dst = binary.AppendUvarint(dst, uint64(max(r.Age, 0)/time.Millisecond))
	if r.Covers {
		dst = binary.AppendUvarint(dst, r.From)
	}
	return dst
}

func (p *parser) run() Run {
	flags := p.u8()
	if flags&^runFlags != 0 {
		p.fail(fmt.Errorf("%w: run flags %#x", ErrMalformed, flags))
	}
	r := Run{Redelivered: flags&runRedelivered != 0, Covers: flags&runCovers != 0,
		Base: p.uvarint(), Attempt: p.uvarint(), Age: time.Duration(p.max(maxAge)) * time.Millisecond}
	if r.Covers {
		r.From = p.uvarint()
	}
	return r
}

// DataWriter builds a DATA frame record by record.
type DataWriter struct {
	dst []byte
	at  int
}

// BeginData begins a DATA frame behind dst.
func BeginData(dst []byte, r Run) DataWriter {
	dst, at := open(dst)
	return DataWriter{appendRun(dst, r), at}
}

// Add appends a record of the run's block, as AppendRecord made it.
func (w *DataWriter) Add(record []byte) { w.dst = append(w.dst, record...) }

// End returns the slice with the whole frame.
func (w *DataWriter) End() []byte { return seal(w.dst, w.at, TypeData) }

// AppendData appends a DATA frame of the records, which are whole records of one
// block, as AppendRecord made them.
func AppendData(dst []byte, r Run, records []byte) []byte {
	w := BeginData(dst, r)
	w.Add(records)
	return w.End()
}

// ParseData reads the payload of a DATA; records go to NextRecord one by one.
func ParseData(b []byte) (r Run, records []byte, err error) {
	p := parser{b: b}
	r = p.run()
	return r, p.b, p.err
}

// Fragment is a part of one record too large for a DATA frame.
type Fragment struct {
	Run
	Total  uint64 // bytes of the whole record
	Offset uint64
	Part   []byte
}

// MaxLarge is the longest record of a message of MaxMessage bytes.
const MaxLarge = MaxMessage + MaxHeaders + 4*MaxName

// AppendFragment appends a FRAGMENT frame.
func AppendFragment(dst []byte, f Fragment) []byte {
	dst, at := open(dst)
	dst = appendRun(dst, f.Run)
	dst = binary.AppendUvarint(dst, f.Total)
	dst = binary.AppendUvarint(dst, f.Offset)
	return seal(append(dst, f.Part...), at, TypeFragment)
}

// ParseFragment reads the payload of a FRAGMENT.
func ParseFragment(b []byte) (Fragment, error) {
	p := parser{b: b}
	f := Fragment{Run: p.run(), Total: p.max(MaxLarge), Offset: p.max(MaxLarge)}
	f.Part = p.b
	return f, p.part(f.Offset, f.Total, f.Part)
}

// part checks that a part lies within its whole.
func (p *parser) part(offset, total uint64, part []byte) error {
	if p.err == nil && offset+uint64(len(part)) > total {
		p.fail(fmt.Errorf("%w: part %d+%d of %d bytes", ErrMalformed, offset, len(part), total))
	}
	if p.err == nil && len(part) > MaxFragment {
		p.fail(fmt.Errorf("%w: part of %d bytes", ErrTooLong, len(part)))
	}
	return p.err
}

// Want asks for room for a large message.
type Want struct{ Seq, Bytes uint64 }

// AppendWant appends a WANT frame.
func AppendWant(dst []byte, w Want) []byte {
	dst, at := open(dst)
	return seal(binary.AppendUvarint(binary.AppendUvarint(dst, w.Seq), w.Bytes), at, TypeWant)
}

// ParseWant reads the payload of a WANT.
func ParseWant(b []byte) (Want, error) {
	p := parser{b: b}
	w := Want{Seq: p.uvarint(), Bytes: p.max(MaxLarge)}
	return w, p.end()
}

// GapReason says why seqs will never be sent again.
type GapReason uint8

// The reasons of DELIVERY.md, rule 6.
const (
	GapExpired GapReason = iota + 1
	GapRetention
	GapDead
	GapCorrupt
	GapIncarnation
	GapDropped
)

var gapNames = [...]string{"", "expired", "retention", "dead", "corrupt", "incarnation", "dropped"}

// String is the reason's name in events and on the command line.
func (r GapReason) String() string {
	if r >= GapExpired && r <= GapDropped {
		return gapNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Gap states a hole: From..To will never be sent again.
type Gap struct {
	From, To uint64
	Reason   GapReason
}

// AppendGap appends a GAP frame.
func AppendGap(dst []byte, g Gap) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, g.From)
	dst = binary.AppendUvarint(dst, g.To-g.From)
	return seal(append(dst, byte(g.Reason)), at, TypeGap)
}

// ParseGap reads the payload of a GAP.
func ParseGap(b []byte) (Gap, error) {
	p := parser{b: b}
	from, length := p.uvarint(), p.uvarint()
	g := Gap{From: from, To: from + length, Reason: GapReason(p.u8())}
	if p.err == nil && g.To < g.From {
		p.fail(fmt.Errorf("%w: gap beyond 64 bits", ErrMalformed))
	}
	if p.err == nil && (g.Reason < GapExpired || g.Reason > GapDropped) {
		p.fail(fmt.Errorf("%w: gap reason %d", ErrMalformed, g.Reason))
	}
	return g, p.end()
}

// AppendRanges appends a CONFIRM or DONE frame.
func AppendRanges(dst []byte, t Type, e EditionRanges) []byte {
	dst, at := open(dst)
	dst = binary.BigEndian.AppendUint64(dst, e.Edition)
	return seal(appendRanges(dst, e.Ranges), at, t)
}

// ParseRanges reads the payload of a CONFIRM or DONE.
func ParseRanges(b []byte) (EditionRanges, error) {
	p := parser{b: b}
	e := EditionRanges{Edition: p.u64(), Ranges: p.ranges()}
	return e, p.end()
}

// AppendRevoke appends a REVOKE frame.
func AppendRevoke(dst []byte, rs []ranges.Range) []byte {
	dst, at := open(dst)
	return seal(appendRanges(dst, rs), at, TypeRevoke)
}

// ParseRevoke reads the payload of a REVOKE.
func ParseRevoke(b []byte) ([]ranges.Range, error) {
	p := parser{b: b}
	rs := p.ranges()
	return rs, p.end()
}

// Subscribed tells from which seq a version of the patterns takes effect.
type Subscribed struct{ Version, First uint64 }

// AppendSubscribed appends a SUBSCRIBED frame.
func AppendSubscribed(dst []byte, s Subscribed) []byte {
	dst, at := open(dst)
	return seal(binary.AppendUvarint(binary.AppendUvarint(dst, s.Version), s.First), at, TypeSubscribed)
}

// ParseSubscribed reads the payload of a SUBSCRIBED.
func ParseSubscribed(b []byte) (Subscribed, error) {
	p := parser{b: b}
	s := Subscribed{Version: p.uvarint(), First: p.uvarint()}
	return s, p.end()
}

// NackReason says why a message comes back.
type NackReason uint8

// The reasons for giving a message back.
const (
	NackHandler  NackReason = iota + 1 // the handler failed: a delivery is used up
	NackReturned                       // never begun here, or a request of which nothing was executed
	NackExpired                        // its TTL ran out before it was begun
	NackTimeout                        // the handler took too long: a delivery is used up
	NackCorrupt                        // the record could not be read: it must not be sent again
	NackReleased                       // begun and not handled, which is no failure: no delivery is used up
)

// Nack gives messages back.
type Nack struct {
	Reason  NackReason
	Delay   time.Duration // before it is leased again, rounded up to whole ms; 0: the sender's back-off
	Edition uint64
	Ranges  []ranges.Range
	Text    string
}

// AppendNack appends a NACK frame; an overlong text is cut.
func AppendNack(dst []byte, n Nack) []byte {
	dst, at := open(dst)
	dst = append(dst, byte(n.Reason))
	dst = binary.AppendUvarint(dst, millis(n.Delay))
	dst = binary.BigEndian.AppendUint64(dst, n.Edition)
	dst = appendRanges(dst, n.Ranges)
	return seal(appendStr(dst, Clip(n.Text, MaxReason)), at, TypeNack)
}

// ParseNack reads the payload of a NACK.
func ParseNack(b []byte) (Nack, error) {
	p := parser{b: b}
	n := Nack{Reason: NackReason(p.u8()), Delay: time.Duration(p.max(maxAge)) * time.Millisecond,
		Edition: p.u64(), Ranges: p.ranges(), Text: p.str(MaxReason)}
	if p.err == nil && (n.Reason < NackHandler || n.Reason > NackReleased) {
		p.fail(fmt.Errorf("%w: nack reason %d", ErrMalformed, n.Reason))
	}
	return n, p.end()
}

// Leave is a receiver's last word: its socket closes. What it holds and has not begun
// it never will.
type Leave struct {
	Reason string
	Begun  []EditionRanges // begun and not answered, or not durably
}

// AppendLeave appends a LEAVE frame; an overlong reason is cut.
func AppendLeave(dst []byte, l Leave) []byte {
	dst, at := open(dst)
	dst = appendStr(dst, Clip(l.Reason, MaxReason))
	return seal(appendEditions(dst, l.Begun), at, TypeLeave)
}

// ParseLeave reads the payload of a LEAVE.
func ParseLeave(b []byte) (Leave, error) {
	p := parser{b: b}
	l := Leave{Reason: p.str(MaxReason), Begun: p.editions()}
	return l, p.end()
}

// Credit is the window so far: totals since ATTACHED, which only rise.
type Credit struct{ Messages, Bytes uint64 }

// AppendCredit appends a CREDIT frame.
func AppendCredit(dst []byte, c Credit) []byte {
	dst, at := open(dst)
	return seal(binary.AppendUvarint(binary.AppendUvarint(dst, c.Messages), c.Bytes), at, TypeCredit)
}

// ParseCredit reads the payload of a CREDIT.
func ParseCredit(b []byte) (Credit, error) {
	p := parser{b: b}
	c := Credit{Messages: p.uvarint(), Bytes: p.uvarint()}
	return c, p.end()
}

// Subscription is a version of a Sub's patterns.
type Subscription struct {
	Version  uint64
	Patterns []string
}

// AppendSubscribe appends a SUBSCRIBE frame.
func AppendSubscribe(dst []byte, s Subscription) []byte {
	dst, at := open(dst)
	return seal(appendStrs(binary.AppendUvarint(dst, s.Version), s.Patterns), at, TypeSubscribe)
}

// ParseSubscribe reads the payload of a SUBSCRIBE.
func ParseSubscribe(b []byte) (Subscription, error) {
	p := parser{b: b}
	s := Subscription{Version: p.uvarint(), Patterns: p.strs(MaxPatterns)}
	return s, p.end()
}

// Outcome is what became of a request.
type Outcome uint8

// The outcomes of DELIVERY.md "Req/rep".
const (
	OK            Outcome = iota + 1 // executed once, Body is the answer
	Error                            // executed once, the handler returned an error: Body is its text
	Failed                           // certainly not executed
	Indeterminate                    // may or may not have been executed
)

var outcomeNames = [...]string{"", "ok", "error", "failed", "indeterminate"}

// String is the outcome's name in events.
func (o Outcome) String() string {
	if o >= OK && o <= Indeterminate {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Reply is a part of the answer to one request; most have one part.
type Reply struct {
	Edition uint64
	Seq     uint64
	Outcome Outcome
	Total   uint64
	Offset  uint64
	Part    []byte
}

// AppendReply appends a REPLY frame.
func AppendReply(dst []byte, r Reply) []byte {
	dst, at := open(dst)
	dst = binary.BigEndian.AppendUint64(dst, r.Edition)
	dst = binary.AppendUvarint(dst, r.Seq)
	dst = append(dst, byte(r.Outcome))
	dst = binary.AppendUvarint(dst, r.Total)
	dst = binary.AppendUvarint(dst, r.Offset)
	return seal(append(dst, r.Part...), at, TypeReply)
}

// ParseReply reads the payload of a REPLY.
func ParseReply(b []byte) (Reply, error) {
	p := parser{b: b}
	r := Reply{Edition: p.u64(), Seq: p.uvarint(), Outcome: Outcome(p.u8()), Total: p.max(MaxMessage), Offset: p.max(MaxMessage)}
	r.Part = p.b
	if p.err == nil && (r.Outcome < OK || r.Outcome > Indeterminate) {
		p.fail(fmt.Errorf("%w: outcome %d", ErrMalformed, r.Outcome))
	}
	return r, p.part(r.Offset, r.Total, r.Part)
}
