package wire

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"peermesh/internal/ranges"
)

// Generators of any value that a node may send.
var (
	genUint    = rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 300), rapid.Just[uint64](math.MaxUint64))
	genID      = rapid.Custom(func(t *rapid.T) [16]byte { return [16]byte(genBytes(16, 16).Draw(t, "id")) })
	genName    = rapid.StringN(0, -1, MaxName)
	genReason  = rapid.StringN(0, -1, MaxReason)
	genAge     = rapid.Custom(drawAge)
	genRanges  = rapid.Custom(drawRanges)
	genEdition = rapid.Custom(func(t *rapid.T) EditionRanges {
		return EditionRanges{Edition: genUint.Draw(t, "edition"), Ranges: genRanges.Draw(t, "ranges")}
	})
	genRun    = rapid.Custom(drawRun)
	genHeader = rapid.Custom(func(t *rapid.T) Header {
		return Header{Key: genName.Draw(t, "key"), Value: genReason.Draw(t, "value")}
	})
	genRecord = rapid.Custom(drawRecord)
)

var generators = map[Type]*rapid.Generator[any]{
	TypeHello:  rapid.Custom(drawHello).AsAny(),
	TypeStripe: genUint.AsAny(),
	TypeJoin: rapid.Custom(func(t *rapid.T) Join {
		return Join{Ticket: genID.Draw(t, "ticket"), Number: rapid.Uint8Range(1, MaxStripes-1).Draw(t, "number")}
	}).AsAny(),
	TypeSpread: rapid.Custom(func(t *rapid.T) Spread {
		return Spread{Bundle: genUint.Draw(t, "bundle"), Connections: rapid.Uint8Range(1, MaxStripes).Draw(t, "connections")}
	}).AsAny(),
	TypeWelcome:     rapid.Custom(func(t *rapid.T) Welcome { return Welcome{genUint.Draw(t, "seen")} }).AsAny(),
	TypeRefused:     rapid.Custom(drawRefused).AsAny(),
	TypeOffer:       rapid.Custom(drawOffer).AsAny(),
	TypeWithdraw:    genUint.AsAny(),
	TypePeers:       rapid.Custom(drawPeers).AsAny(),
	TypeHeartbeat:   rapid.Custom(drawHeartbeat).AsAny(),
	TypeGoAway:      genReason.AsAny(),
	TypeBye:         rapid.Just(void{}).AsAny(),
	TypePolicy:      genReason.AsAny(),
	TypeUnsubscribe: rapid.Just(void{}).AsAny(),
	TypePause:       rapid.Just(void{}).AsAny(),
	TypeResume:      rapid.Just(void{}).AsAny(),
	TypeAttach:      rapid.Custom(drawAttach).AsAny(),
	TypeData:        rapid.Custom(drawData).AsAny(),
	TypeFragment:    rapid.Custom(drawFragment).AsAny(),
	TypeWant:        rapid.Custom(drawWant).AsAny(),
	TypeGap:         rapid.Custom(drawGap).AsAny(),
	TypeConfirm:     genEdition.AsAny(),
	TypeRenewed:     genUint.AsAny(),
	TypeRevoke:      genRanges.AsAny(),
	TypeSubscribed:  rapid.Custom(func(t *rapid.T) Subscribed { return Subscribed{genUint.Draw(t, "version"), genUint.Draw(t, "first")} }).AsAny(),
	TypeReplyCredit: genUint.AsAny(),
	TypeDetach:      genReason.AsAny(),
	TypeAttached:    rapid.Custom(drawAttached).AsAny(),
	TypeRejected:    rapid.Custom(drawRejected).AsAny(),
	TypeDone:        genEdition.AsAny(),
	TypeNack:        rapid.Custom(drawNack).AsAny(),
	TypeCredit:      rapid.Custom(func(t *rapid.T) Credit { return Credit{genUint.Draw(t, "messages"), genUint.Draw(t, "bytes")} }).AsAny(),
	TypeRenew:       genUint.AsAny(),
	TypeGrant:       genUint.AsAny(),
	TypeSubscribe:   rapid.Custom(drawSubscription).AsAny(),
	TypeReply:       rapid.Custom(drawReply).AsAny(),
	TypeAsk: rapid.Custom(func(t *rapid.T) Ask {
		return Ask{genUint.Draw(t, "version"), genName.Draw(t, "what"), genReason.Draw(t, "about")}
	}).AsAny(),
	TypeTold:  rapid.Custom(drawTold).AsAny(),
	TypeLeave: rapid.Custom(func(t *rapid.T) Leave { return Leave{genReason.Draw(t, "reason"), drawEditions(t, "begun")} }).AsAny(),
}

func TestEveryFrameComesBackAsItWas(t *testing.T) {
	for typ, c := range codecs {
		rapid.Check(t, func(t *rapid.T) {
			want := generators[typ].Draw(t, "frame")
			frame := c.write(nil, want)
			got, err := c.parse(payloadIn(t, frame, typ))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("type %#x: error %v\n got %+v\nwant %+v", byte(typ), err, got, want)
			}
			if again := c.write(nil, got); !bytes.Equal(again, frame) {
				t.Fatalf("type %#x encoded again:\n got % x\nwant % x", byte(typ), again, frame)
			}
		})
	}
}

// Cut or continued, a payload may be refused but no parser waits for more or panics.
func TestNoPayloadIsShort(t *testing.T) {
	for typ, c := range codecs {
		rapid.Check(t, func(t *rapid.T) {
			payload := payloadIn(t, c.write(nil, generators[typ].Draw(t, "frame")), typ)
			cut := rapid.IntRange(0, len(payload)).Draw(t, "cut")
			payload = append(payload[:cut:cut], genBytes(0, 8).Draw(t, "more")...)
			if v, err := c.parse(payload); err != nil && !refused(err) {
				t.Fatalf("type %#x, % x: %+v, error %v", byte(typ), payload, v, err)
			}
		})
	}
}

func payloadIn(t *rapid.T, frame []byte, want Type) []byte {
	typ, payload, rest, need, err := Next(frame)
	if err != nil || typ != want || len(rest) != 0 || need != len(frame) {
		t.Fatalf("Next(% x) = type %#x, % x left, need %d, error %v; want type %#x and all of it", frame, typ, rest, need, err, want)
	}
	return payload
}

func genBytes(least, most int) *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.Byte(), least, most)
}

func drawAge(t *rapid.T) time.Duration {
	return time.Duration(rapid.OneOf(rapid.Uint64Range(0, maxAge), rapid.Uint64Range(0, 1000)).Draw(t, "ms")) * time.Millisecond
}

// drawRanges walks up from a start that may be near the end of all numbers.
func drawRanges(t *rapid.T) []ranges.Range {
	var rs []ranges.Range
	step := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(0, 1<<62))
	from := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(math.MaxUint64-300, math.MaxUint64)).Draw(t, "start")
	for range rapid.IntRange(0, 20).Draw(t, "n") {
		to := from + step.Draw(t, "length")
		if to < from {
			to = math.MaxUint64
		}
		rs = append(rs, ranges.Range{From: from, To: to})
		from = to + 2 + step.Draw(t, "gap")
		if from <= to || to >= math.MaxUint64-2 {
			break
		}
	}
	return rs
}

func drawEditions(t *rapid.T, label string) []EditionRanges {
	es := rapid.SliceOfN(genEdition, 0, 4).Draw(t, label)
	if len(es) == 0 {
		return nil
	}
	return es
}

func drawPatterns(t *rapid.T) []string {
	ss := rapid.SliceOfN(genName, 0, 4).Draw(t, "patterns")
	if len(ss) == 0 {
		return nil
	}
	return ss
}

func drawHello(t *rapid.T) Hello {
	var near Near
	if rapid.Bool().Draw(t, "near") {
		near = Near{Host: genID.Draw(t, "host"), Door: genID.Draw(t, "door"), Ticket: genID.Draw(t, "ticket")}
	}
	return Hello{Version: genUint.Draw(t, "version"), Node: genID.Draw(t, "node"), Mesh: genID.Draw(t, "mesh"),
		Incarnation: genUint.Draw(t, "incarnation"), Nonce: genID.Draw(t, "nonce"), Link: genUint.Draw(t, "link"),
		MaxMessage: rapid.Uint64Range(0, MaxMessage).Draw(t, "max"),
		Namespace:  genName.Draw(t, "namespace"), Name: genName.Draw(t, "name"), Policy: genUint.Draw(t, "policy"), Near: near,
		Stripes: genUint.Draw(t, "stripes")}
}

func drawRefused(t *rapid.T) Refused {
	return Refused{Code: genName.Draw(t, "code"), Reason: genReason.Draw(t, "reason"), Seen: genUint.Draw(t, "seen")}
}

func drawOffer(t *rapid.T) Offer {
	o := Offer{Socket: genUint.Draw(t, "socket"), Kind: rapid.SampledFrom([]Kind{Pull, Sub, Rep}).Draw(t, "kind"),
		Name: genName.Draw(t, "name"), Label: genName.Draw(t, "label")}
	if o.Kind != Sub {
		return o
	}
	o.Durable = o.Label != "" && rapid.Bool().Draw(t, "durable")
	o.Exclusive = o.Durable && rapid.Bool().Draw(t, "exclusive")
	o.Start = rapid.SampledFrom([]Start{AtNew, AtEarliest, AtLastValue, AtSeq}).Draw(t, "start")
	if o.Start == AtSeq {
		o.Seq = genUint.Draw(t, "seq")
	}
	return o
}

func drawPeers(t *rapid.T) []Peer {
	var ps []Peer
	for range rapid.IntRange(0, 10).Draw(t, "n") {
		ps = append(ps, Peer{Node: genID.Draw(t, "node"), Addr: rapid.StringN(0, -1, MaxAddr).Draw(t, "addr")})
	}
	return ps
}

func drawHeartbeat(t *rapid.T) Heartbeat {
	return Heartbeat{Number: genUint.Draw(t, "number"), Echo: rapid.Bool().Draw(t, "echo")}
}

func drawAttach(t *rapid.T) Attach {
	spans := drawSpans(t)
	own := spans[len(spans)-1]
	if spans = spans[:len(spans)-1]; len(spans) == 0 {
		spans = nil
	}
	return Attach{Editions: spans, Edition: own.Edition, First: own.First, Socket: genUint.Draw(t, "socket"), Kind: rapid.SampledFrom([]Kind{Push, Pub, Req}).Draw(t, "kind"),
		Level: rapid.SampledFrom([]Level{BestEffort, Memory, Durable}).Draw(t, "level"), Store: genID.Draw(t, "store"),
		Nonce: genID.Draw(t, "nonce"), Incarnation: genUint.Draw(t, "incarnation"),
		Number: genUint.Draw(t, "number"), LastStore: genID.Draw(t, "last store"), Start: genUint.Draw(t, "start"),
		ReplyCredit: genUint.Draw(t, "reply credit"), Name: genName.Draw(t, "name")}
}

// drawSpans draws at least one, ascending.
func drawSpans(t *rapid.T) []EditionSpan {
	firsts := rapid.SliceOfNDistinct(genUint, 1, 5, rapid.ID).Draw(t, "firsts")
	slices.Sort(firsts)
	var spans []EditionSpan
	for _, f := range firsts {
		spans = append(spans, EditionSpan{Edition: genUint.Draw(t, "edition"), First: f})
	}
	return spans
}

func drawAttached(t *rapid.T) Attached {
	return Attached{Number: genUint.Draw(t, "number"), Forgotten: rapid.Bool().Draw(t, "forgotten"), Store: genID.Draw(t, "store"),
		Nonce: genID.Draw(t, "nonce"), Messages: genUint.Draw(t, "messages"), Bytes: genUint.Draw(t, "bytes"),
		Done: drawEditions(t, "done"), Held: drawEditions(t, "held"), Lost: drawEditions(t, "lost"),
		Version: genUint.Draw(t, "version"), Patterns: drawPatterns(t)}
}

func drawRejected(t *rapid.T) Rejected {
	return Rejected{Code: genName.Draw(t, "code"), Reason: genReason.Draw(t, "reason")}
}

func drawRun(t *rapid.T) Run {
	r := Run{Redelivered: rapid.Bool().Draw(t, "redelivered"), Covers: rapid.Bool().Draw(t, "covers"),
		Base: genUint.Draw(t, "base"), Attempt: genUint.Draw(t, "attempt"), Age: genAge.Draw(t, "age")}
	if r.Covers {
		r.From = genUint.Draw(t, "from")
	}
	return r
}

func drawRecord(t *rapid.T) Record {
	r := Record{Delta: genUint.Draw(t, "delta"), TTL: genAge.Draw(t, "ttl"), Delay: genAge.Draw(t, "delay"), Body: genBytes(0, 300).Draw(t, "body")}
	if s := genName.Draw(t, "topic"); s != "" {
		r.Topic = []byte(s)
	}
	if s := genName.Draw(t, "key"); s != "" {
		r.Key = []byte(s)
	}
	if h := genBytes(0, 300).Draw(t, "headers"); len(h) > 0 {
		r.Headers = h
	}
	return r
}

func drawData(t *rapid.T) data {
	d := data{Run: genRun.Draw(t, "run"), Records: []byte{}}
	for _, r := range rapid.SliceOfN(genRecord, 0, 4).Draw(t, "records") {
		d.Records = AppendRecord(d.Records, r)
	}
	return d
}

// drawPart draws where a part lies in its whole.
func drawPart(t *rapid.T, most uint64) (total, offset uint64, part []byte) {
	part = genBytes(0, 300).Draw(t, "part")
	total = rapid.Uint64Range(uint64(len(part)), most).Draw(t, "total")
	return total, rapid.Uint64Range(0, total-uint64(len(part))).Draw(t, "offset"), part
}

func drawFragment(t *rapid.T) Fragment {
	f := Fragment{Run: genRun.Draw(t, "run")}
	f.Total, f.Offset, f.Part = drawPart(t, MaxLarge)
	return f
}

func drawWant(t *rapid.T) Want {
	return Want{Seq: genUint.Draw(t, "seq"), Bytes: rapid.Uint64Range(0, MaxLarge).Draw(t, "bytes")}
}

func drawGap(t *rapid.T) Gap {
	g := Gap{From: genUint.Draw(t, "from"), Reason: rapid.SampledFrom([]GapReason{GapExpired, GapCorrupt, GapDropped}).Draw(t, "reason")}
	g.To = rapid.Uint64Range(g.From, math.MaxUint64).Draw(t, "to")
	return g
}

func drawNack(t *rapid.T) Nack {
	return Nack{Reason: rapid.SampledFrom([]NackReason{NackHandler, NackReturned, NackExpired, NackTimeout, NackCorrupt, NackReleased}).Draw(t, "reason"),
		Delay: genAge.Draw(t, "delay"), Edition: genUint.Draw(t, "edition"), Ranges: genRanges.Draw(t, "ranges"), Text: genReason.Draw(t, "text")}
}

func drawSubscription(t *rapid.T) Subscription {
	return Subscription{Version: genUint.Draw(t, "version"), Patterns: drawPatterns(t)}
}

func drawReply(t *rapid.T) Reply {
	r := Reply{Edition: genUint.Draw(t, "edition"), Seq: genUint.Draw(t, "seq"),
		Outcome: rapid.SampledFrom([]Outcome{OK, Error, Failed, Indeterminate}).Draw(t, "outcome")}
	r.Total, r.Offset, r.Part = drawPart(t, MaxMessage)
	return r
}

func drawTold(t *rapid.T) Told {
	refused := rapid.Bool().Draw(t, "refused")
	return Told{refused, !refused && rapid.Bool().Draw(t, "more"), genBytes(0, 100).Draw(t, "body")}
}
