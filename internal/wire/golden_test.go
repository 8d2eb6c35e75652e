package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"peermesh/internal/ranges"
)

// codec joins the two directions of a frame type, for tests that treat all alike.
type codec struct {
	plus  bool // marked + in doc.go
	write func(dst []byte, v any) []byte
	parse func(payload []byte) (any, error)
}

func codecOf[T any](write func([]byte, T) []byte, parse func([]byte) (T, error)) codec {
	return codec{
		write: func(dst []byte, v any) []byte { return write(dst, v.(T)) },
		parse: func(b []byte) (any, error) { return parse(b) },
	}
}

func (c codec) lengthened() codec { c.plus = true; return c }

// data is the two results of ParseData.
type data struct {
	Run
	Records []byte
}

// void is what a frame without payload says.
type void struct{}

func text(t Type) codec {
	return codecOf(func(dst []byte, s string) []byte { return AppendText(dst, t, s) }, ParseText)
}

func number(t Type) codec {
	return codecOf(func(dst []byte, n uint64) []byte { return AppendNumber(dst, t, n) }, ParseNumber)
}

func editionRanges(t Type) codec {
	return codecOf(func(dst []byte, e EditionRanges) []byte { return AppendRanges(dst, t, e) }, ParseRanges)
}

func empty(t Type) codec {
	return codecOf(func(dst []byte, _ void) []byte { return AppendEmpty(dst, t) },
		func(b []byte) (void, error) { return void{}, ParseEmpty(b) })
}

var codecs = map[Type]codec{
	TypeAsk:         codecOf(AppendAsk, ParseAsk).lengthened(),
	TypeTold:        codecOf(AppendTold, ParseTold),
	TypeUnsubscribe: empty(TypeUnsubscribe),
	TypePause:       empty(TypePause),
	TypeResume:      empty(TypeResume),

	TypeSpread: codecOf(AppendSpread, ParseSpread),
	TypeJoin:   codecOf(AppendJoin, ParseJoin),
	TypeStripe: number(TypeStripe),

	TypeHello:     codecOf(AppendHello, ParseHello).lengthened(),
	TypeWelcome:   codecOf(AppendWelcome, ParseWelcome),
	TypeRefused:   codecOf(AppendRefused, ParseRefused),
	TypeOffer:     codecOf(AppendOffer, ParseOffer).lengthened(),
	TypeWithdraw:  number(TypeWithdraw),
	TypePeers:     codecOf(AppendPeers, ParsePeers),
	TypeHeartbeat: codecOf(AppendHeartbeat, ParseHeartbeat),
	TypeGoAway:    text(TypeGoAway),
	TypeBye:       empty(TypeBye),
	TypePolicy:    codecOf(func(dst []byte, s string) []byte { return AppendPolicy(dst, []byte(s)) }, ParsePolicy),

	TypeAttach: codecOf(AppendAttach, ParseAttach).lengthened(),
	TypeData: codecOf(func(dst []byte, d data) []byte { return AppendData(dst, d.Run, d.Records) },
		func(b []byte) (data, error) {
			run, records, err := ParseData(b)
			return data{run, records}, err
		}),
	TypeFragment:    codecOf(AppendFragment, ParseFragment),
	TypeWant:        codecOf(AppendWant, ParseWant),
	TypeGap:         codecOf(AppendGap, ParseGap),
	TypeConfirm:     editionRanges(TypeConfirm),
	TypeRenewed:     number(TypeRenewed),
	TypeRevoke:      codecOf(AppendRevoke, ParseRevoke),
	TypeSubscribed:  codecOf(AppendSubscribed, ParseSubscribed),
	TypeReplyCredit: number(TypeReplyCredit),
	TypeDetach:      text(TypeDetach),

	TypeAttached:  codecOf(AppendAttached, ParseAttached).lengthened(),
	TypeRejected:  codecOf(AppendRejected, ParseRejected),
	TypeDone:      editionRanges(TypeDone),
	TypeNack:      codecOf(AppendNack, ParseNack),
	TypeCredit:    codecOf(AppendCredit, ParseCredit),
	TypeRenew:     number(TypeRenew),
	TypeGrant:     number(TypeGrant),
	TypeSubscribe: codecOf(AppendSubscribe, ParseSubscribe),
	TypeReply:     codecOf(AppendReply, ParseReply),
	TypeLeave:     codecOf(AppendLeave, ParseLeave),
}

// Ids that are easy to see in hex.
var (
	idA = [16]byte(unhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"))
	idB = [16]byte(unhex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"))
	idC = [16]byte(unhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"))
)

const (
	hexA = " a0a1a2a3a4a5a6a7a8a9aaabacadaeaf "
	hexB = " b0b1b2b3b4b5b6b7b8b9babbbcbdbebf "
	hexC = " c0c1c2c3c4c5c6c7c8c9cacbcccdcecf "

	edition    = 0x0102030405060708
	hexEdition = " 0102030405060708 "

	hexRecord = " 04 d7e59b4c 00 00 6869 " // delta 0, body "hi"
)

// golden holds one frame and its bytes, written by hand from doc.go: type,
// length, then the payload field by field.
var golden = []struct {
	name  string
	t     Type
	value any
	hex   string
	tail  int // last bytes of the payload that may be missing: padding, or an open-ended last field
}{
	{"HELLO", TypeHello, Hello{Version: 1, Node: idA, Mesh: idB, Incarnation: 300, Nonce: idC, Link: 2,
		MaxMessage: 8 << 20, Namespace: "prod", Name: "r-1", Policy: 5},
		"01 42 01" + hexA + hexB + "ac02" + hexC + "02 80808004 04 70726f64 03 722d31 05", 1},
	{"HELLO", TypeHello, Hello{Version: 1, Node: idA, Mesh: idB, Incarnation: 300, Nonce: idC, Link: 2,
		MaxMessage: 8 << 20, Namespace: "prod", Name: "r-1", Near: Near{Host: idC, Door: idB, Ticket: idA}},
		"01 72 01" + hexA + hexB + "ac02" + hexC + "02 80808004 04 70726f64 03 722d31 00" + hexC + hexB + hexA, 49},
	{"HELLO", TypeHello, Hello{Version: 1, Node: idA, Mesh: idB, Incarnation: 300, Nonce: idC, Link: 2,
		MaxMessage: 8 << 20, Namespace: "prod", Name: "r-1", Near: Near{Ticket: idA}, Stripes: 3},
		"01 73 01" + hexA + hexB + "ac02" + hexC + "02 80808004 04 70726f64 03 722d31 00" + strings.Repeat(" 00", 32) + hexA + "03", 50},
	{"JOIN", TypeJoin, Join{Ticket: idA, Number: 2}, "40 11" + hexA + "02", 0},
	{"STRIPE", TypeStripe, uint64(300), "41 02 ac02", 0},
	{"SPREAD", TypeSpread, Spread{Bundle: 300, Connections: 3}, "1b 03 ac02 03", 0},
	{"WELCOME", TypeWelcome, Welcome{Seen: 7}, "02 01 07", 0},
	{"REFUSED", TypeRefused, Refused{Code: "fenced", Reason: "newer process", Seen: 9},
		"03 16 06 66656e636564 0d 6e657765722070726f63657373 09", 0},
	{"OFFER", TypeOffer, Offer{Socket: 5, Kind: Sub, Name: "weather", Label: "dash"},
		"04 11 05 04 07 77656174686572 04 64617368 00 00", 0},
	{"OFFER", TypeOffer, Offer{Socket: 5, Kind: Sub, Name: "w", Label: "d", Durable: true, Exclusive: true, Start: AtLastValue},
		"04 08 05 04 01 77 01 64 03 02", 0},
	{"OFFER", TypeOffer, Offer{Socket: 5, Kind: Sub, Name: "w", Label: "d", Durable: true, Start: AtSeq, Seq: 300},
		"04 0a 05 04 01 77 01 64 01 03 ac02", 0},
	{"WITHDRAW", TypeWithdraw, uint64(5), "05 01 05", 0},
	{"PEERS", TypePeers, []Peer{{Node: idA, Addr: "10.0.0.1:7"}, {Node: idB}},
		"06 2d 02" + hexA + "0a 31302e302e302e313a37" + hexB + "00", 0},
	{"PEERS", TypePeers, []Peer(nil), "06 01 00", 0},
	{"HEARTBEAT", TypeHeartbeat, Heartbeat{Number: 300, Echo: true},
		"07 64 ac02 01" + strings.Repeat(" 00", 97), 97},
	{"HEARTBEAT", TypeHeartbeat, Heartbeat{Number: 1}, "07 64 01 00" + strings.Repeat(" 00", 98), 98},
	{"GOAWAY", TypeGoAway, "upgrade", "08 08 07 75706772616465", 0},
	{"BYE", TypeBye, void{}, "09 00", 0},
	{"POLICY", TypePolicy, "default deny\n", "0a 0e 0d 64656661756c742064656e790a", 0},
	{"UNSUBSCRIBE", TypeUnsubscribe, void{}, "2a 00", 0},
	{"PAUSE", TypePause, void{}, "2b 00", 0},
	{"RESUME", TypeResume, void{}, "2c 00", 0},

	{"ASK", TypeAsk, Ask{Version: 1, What: "see", About: "jobs"}, "30 0a 01 03 736565 04 6a6f6273", 0},
	{"TOLD", TypeTold, Told{More: true, Body: []byte("{}")}, "31 03 02 7b7d", 2},
	{"TOLD", TypeTold, Told{Refused: true, Body: []byte("no")}, "31 03 01 6e6f", 2},

	{"ATTACH", TypeAttach, Attach{Socket: 5, Kind: Push, Level: Durable, Store: idA, Edition: edition, Nonce: idB,
		Incarnation: 300, Number: 2, LastStore: idC, Start: 1, ReplyCredit: 128, Name: "jobs"},
		"10 48 05 01 03" + hexA + "00" + hexEdition + "00" + hexB + "ac02 02" + hexC + "01 8001 04 6a6f6273", 0},
	{"ATTACH", TypeAttach, Attach{Socket: 5, Kind: Push, Level: Durable, Store: idA,
		Editions: []EditionSpan{{0x21, 1}, {0x20, 2}, {0x22, 131}}, Edition: edition, First: 432, Nonce: idB,
		Incarnation: 300, Number: 2, LastStore: idC, Start: 1, ReplyCredit: 128, Name: "jobs"},
		"10 65 05 01 03" + hexA + "03 0000000000000021 01 0000000000000020 00 0000000000000022 8001" + hexEdition + "ac02" +
			hexB + "ac02 02" + hexC + "01 8001 04 6a6f6273", 0},
	{"DATA", TypeData, data{Run{Redelivered: true, Covers: true, Base: 1000, Attempt: 2,
		Age: 1500 * time.Millisecond, From: 990}, unhex(hexRecord)},
		"11 11 03 e807 02 dc0b de07" + hexRecord, 9},
	{"DATA", TypeData, data{Run{Base: 1, Attempt: 1}, unhex(hexRecord + hexRecord)},
		"11 16 00 01 01 00" + hexRecord + hexRecord, 18},
	{"DATA", TypeData, data{Run{Redelivered: true}, unhex(hexRecord)}, "11 0d 01 00 00 00" + hexRecord, 9},
	{"DATA", TypeData, data{Run{Covers: true, From: 7}, unhex(hexRecord)}, "11 0e 02 00 00 00 07" + hexRecord, 9},
	{"FRAGMENT", TypeFragment, Fragment{Run: Run{Base: 1, Attempt: 1}, Total: 300_000, Offset: 32768, Part: []byte("part")},
		"12 0e 00 01 01 00 e0a712 808002 70617274", 4},
	{"WANT", TypeWant, Want{Seq: 9, Bytes: 300_000}, "13 04 09 e0a712", 0},
	{"GAP", TypeGap, Gap{From: 100, To: 227, Reason: GapRetention}, "14 03 64 7f 02", 0},
	{"CONFIRM", TypeConfirm, EditionRanges{edition, []ranges.Range{{From: 1, To: 1}, {From: 3, To: 3}, {From: 5, To: 200}}},
		"15 10" + hexEdition + "03 0100 0000 00c301", 0},
	{"RENEWED", TypeRenewed, uint64(3), "16 01 03", 0},
	{"REVOKE", TypeRevoke, []ranges.Range{{From: 10, To: 12}, {From: 20, To: 20}}, "17 05 02 0a02 0600", 0},
	{"SUBSCRIBED", TypeSubscribed, Subscribed{Version: 2, First: 500}, "18 03 02 f403", 0},
	{"REPLYCREDIT", TypeReplyCredit, uint64(1 << 20), "19 03 808040", 0},
	{"DETACH", TypeDetach, "", "1a 01 00", 0},

	{"ATTACHED", TypeAttached, Attached{Number: 2, Forgotten: true, Store: idA, Nonce: idB, Messages: 256, Bytes: 4 << 20,
		Done:    []EditionRanges{{edition, []ranges.Range{{From: 1, To: 1}, {From: 3, To: 3}}}},
		Held:    []EditionRanges{{edition, []ranges.Range{{From: 4, To: 4}}}, {Edition: 1}},
		Version: 1, Patterns: []string{"*.temp", "a.>"}},
		"20 59 02 01" + hexA + hexB + "8002 80808002" +
			"01" + hexEdition + "02 0100 0000" +
			"02" + hexEdition + "01 0400" + " 0000000000000001 00" +
			"00" + "01 02 06 2a2e74656d70 03 612e3e", 0},
	{"ATTACHED", TypeAttached, Attached{Number: 1, Store: idA, Nonce: idB, Messages: 1, Bytes: 1,
		Lost: []EditionRanges{{edition, []ranges.Range{{From: 2, To: 2}}}}},
		"20 34 01 00" + hexA + hexB + "01 01 00 00 01" + hexEdition + "01 0200 00 00", 0},
	{"REJECTED", TypeRejected, Rejected{Code: "kind", Reason: "no such socket"},
		"21 14 04 6b696e64 0e 6e6f207375636820736f636b6574", 0},
	{"DONE", TypeDone, EditionRanges{1<<64 - 1, []ranges.Range{{From: 1, To: 1<<64 - 1}}},
		"22 14 ffffffffffffffff 01 01 feffffffffffffffff01", 0},
	{"NACK", TypeNack, Nack{Reason: NackHandler, Delay: 1500 * time.Millisecond, Edition: edition,
		Ranges: []ranges.Range{{From: 7, To: 7}}, Text: "boom"},
		"23 13 01 dc0b" + hexEdition + "01 0700 04 626f6f6d", 0},
	{"CREDIT", TypeCredit, Credit{Messages: 300, Bytes: 1 << 20}, "24 05 ac02 808040", 0},
	{"RENEW", TypeRenew, uint64(3), "25 01 03", 0},
	{"GRANT", TypeGrant, uint64(1<<64 - 1), "26 0a ffffffffffffffffff01", 0},
	{"SUBSCRIBE", TypeSubscribe, Subscription{Version: 2, Patterns: []string{"a.>"}}, "27 06 02 01 03 612e3e", 0},
	{"REPLY", TypeReply, Reply{Edition: edition, Seq: 300, Outcome: OK, Total: 5, Part: []byte("HELLO")},
		"28 12" + hexEdition + "ac02 01 05 00 48454c4c4f", 5},
	{"LEAVE", TypeLeave, Leave{Reason: "bye"}, "29 05 03 627965 00", 0},
	{"LEAVE", TypeLeave, Leave{Reason: "bye", Begun: []EditionRanges{{edition, []ranges.Range{{From: 3, To: 3}, {From: 5, To: 6}}}}},
		"29 12 03 627965 01" + hexEdition + "02 03 00 00 01", 0},
}

// goldenRecords holds records and their bytes: length, checksum, content.
var goldenRecords = []struct {
	record Record
	hex    string
}{
	{Record{Body: []byte("hi")}, hexRecord},
	{Record{Body: []byte{}}, "02 d27761f1 00 00"},
	{Record{Delta: 1, Body: []byte("yo")}, "04 71c1189b 01 00 796f"},
	{Record{Delta: 7, Topic: []byte("t"), Body: []byte("y")}, "05 2d7af96d 07 01 0174 79"},
	{Record{Delta: 300, Topic: []byte("zurich.temp"), Key: []byte("cat"), TTL: time.Hour,
		Headers: AppendHeaders(nil, []Header{{"a", "b"}}), Body: []byte("x")},
		"1d c0fb0e89 ac02 0f 0b 7a75726963682e74656d70 03 636174 80dddb01 04 01610162 78"},
	{Record{Delta: 2, Key: []byte("k"), Delay: time.Hour, Body: []byte("z")}, "09 a369973e 02 12 01 6b 80dddb01 7a"},
	{Record{Delta: 5, Body: bytes.Repeat([]byte("z"), 200)}, "ca01 aec52cbb 05 00" + strings.Repeat("7a", 200)},
}

// unhex reads hex in which spaces part the fields.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// payloadOf takes one whole frame apart.
func payloadOf(t testing.TB, frame []byte, want Type) []byte {
	t.Helper()
	typ, payload, rest, need, err := Next(frame)
	if err != nil || typ != want || len(rest) != 0 || need != len(frame) {
		t.Fatalf("Next(% x) = type %#x, % x left, need %d, error %v; want type %#x and all of it", frame, typ, rest, need, err, want)
	}
	return payload
}

func TestEveryFrameHasTheBytesThatDocGoDraws(t *testing.T) {
	for _, g := range golden {
		want := unhex(g.hex)
		if got := codecs[g.t].write(nil, g.value); !bytes.Equal(got, want) {
			t.Errorf("%s %+v:\n got % x\nwant % x", g.name, g.value, got, want)
			continue
		}
		if got, err := codecs[g.t].parse(payloadOf(t, want, g.t)); err != nil || !reflect.DeepEqual(got, g.value) {
			t.Errorf("%s % x:\n got %+v, error %v\nwant %+v", g.name, want, got, err, g.value)
		}
	}
}

func TestEveryRecordHasTheBytesThatDocGoDraws(t *testing.T) {
	for _, g := range goldenRecords {
		want := unhex(g.hex)
		if got := AppendRecord(nil, g.record); !bytes.Equal(got, want) {
			t.Errorf("%+v:\n got % x\nwant % x", g.record, got, want)
			continue
		}
		if got, rest, err := NextRecord(want); err != nil || len(rest) != 0 || !reflect.DeepEqual(got, g.record) {
			t.Errorf("% x:\n got %+v, % x left, error %v\nwant %+v", want, got, rest, err, g.record)
		}
	}
}

// The frames of doc.go, those of the golden table and those of codecs are the same, and so are the marks for frames
// that may grow.
func TestDocGoNamesEveryFrameAndWhichMayGrow(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{} // name: marked +
	for _, m := range regexp.MustCompile(`(?m)^//\t([A-Z]{3,})(\+?) `).FindAllStringSubmatch(string(source), -1) {
		documented[m[1]] = m[2] == "+"
	}
	drawn, types := map[string]bool{}, map[Type]bool{}
	for _, g := range golden {
		drawn[g.name] = codecs[g.t].plus
		types[g.t] = true
	}
	if !reflect.DeepEqual(drawn, documented) {
		t.Errorf("golden frames (+ = true):\n got %v\nwant %v as in doc.go", drawn, documented)
	}
	if len(types) != len(drawn) || len(types) != len(codecs) {
		t.Errorf("%d frame names, %d types with golden bytes, %d codecs: want as many of each", len(drawn), len(types), len(codecs))
	}
}
