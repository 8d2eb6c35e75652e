package wire

import (
	"encoding/binary"
	"fmt"
)

// Kind is what a socket does.
type Kind uint8

// The socket kinds. A sender's kind is odd; its receiver's is one more.
const (
	Push Kind = 1
	Pull Kind = 2
	Pub  Kind = 3
	Sub  Kind = 4
	Req  Kind = 5
	Rep  Kind = 6
)

var kindNames = [...]string{"", "push", "pull", "pub", "sub", "req", "rep"}

// String is the kind's name as it stands in stream names and on the command line.
func (k Kind) String() string {
	if k.Valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Valid reports whether k is one of the six kinds.
func (k Kind) Valid() bool { return k >= Push && k <= Rep }

// Sends reports whether a socket of this kind opens pipes (Push, Pub, Req).
func (k Kind) Sends() bool { return k.Valid() && k%2 == 1 }

// Opposite is the kind this one talks to.
func (k Kind) Opposite() Kind {
	if k.Sends() {
		return k + 1
	}
	return k - 1
}

// Hello is what both ends of a link say first.
type Hello struct {
	Version     uint64
	Node        [16]byte
	Mesh        [16]byte
	Incarnation uint64
	Nonce       [16]byte
	Link        uint64 // number of this link between the two nonces
	MaxMessage  uint64
	Namespace   string
	Name        string
	Policy      uint64 // 1 + the version of the policy in force; 0: a node that knows no POLICY
	Near        Near   // zero: a node that is reached by way of the network alone
	Stripes     uint64 // connections that it would spread one pipe over; 0: it knows no SPREAD
}

// Near is how a node is reached by those on its own host.
type Near struct {
	Host   [16]byte // equal at two nodes that can reach each other so; zero: there is no door
	Door   [16]byte // names the node's door
	Ticket [16]byte // proves at the door, or in JOIN, that this HELLO came to whoever shows it
}

const nearBytes = 3 * 16

// AppendHello appends a HELLO frame.
func AppendHello(dst []byte, h Hello) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, h.Version)
	dst = append(dst, h.Node[:]...)
	dst = append(dst, h.Mesh[:]...)
	dst = binary.AppendUvarint(dst, h.Incarnation)
	dst = append(dst, h.Nonce[:]...)
	dst = binary.AppendUvarint(dst, h.Link)
	dst = binary.AppendUvarint(dst, h.MaxMessage)
	dst = appendStr(dst, h.Namespace)
	dst = appendStr(dst, h.Name)
	near := h.Near != Near{} || h.Stripes > 0
	if h.Policy > 0 || near {
		dst = binary.AppendUvarint(dst, h.Policy)
	}
	if near {
		dst = append(append(append(dst, h.Near.Host[:]...), h.Near.Door[:]...), h.Near.Ticket[:]...)
	}
	if h.Stripes > 0 {
		dst = binary.AppendUvarint(dst, h.Stripes)
	}
	return seal(dst, at, TypeHello)
}

// ParseHello reads the payload of a HELLO.
func ParseHello(b []byte) (Hello, error) {
	p := parser{b: b}
	h := Hello{Version: p.uvarint(), Node: p.id(), Mesh: p.id(), Incarnation: p.uvarint(), Nonce: p.id(),
		Link: p.uvarint(), MaxMessage: p.max(MaxMessage), Namespace: p.str(MaxName), Name: p.str(MaxName)}
	if len(p.b) > 0 { // the first nodes of this version ended here
		h.Policy = p.uvarint()
	}
	if len(p.b) >= nearBytes { // and the next ones here
		h.Near = Near{Host: p.id(), Door: p.id(), Ticket: p.id()}
		if len(p.b) > 0 { // and those after them here
			h.Stripes = p.uvarint()
		}
	}
	return h, p.open()
}

// Welcome makes a link count as up.
type Welcome struct{ Seen uint64 }

// AppendWelcome appends a WELCOME frame.
func AppendWelcome(dst []byte, w Welcome) []byte {
	dst, at := open(dst)
	return seal(binary.AppendUvarint(dst, w.Seen), at, TypeWelcome)
}

// ParseWelcome reads the payload of a WELCOME.
func ParseWelcome(b []byte) (Welcome, error) {
	p := parser{b: b}
	w := Welcome{Seen: p.uvarint()}
	return w, p.end()
}

// Refused says why there will be no link.
type Refused struct {
	Code   string // one of identity's codes
	Reason string
	Seen   uint64 // highest incarnation remembered of the refused node
}

// AppendRefused appends a REFUSED frame; an overlong reason is cut.
func AppendRefused(dst []byte, r Refused) []byte {
	dst, at := open(dst)
	dst = appendStr(dst, Clip(r.Code, MaxName))
	dst = appendStr(dst, Clip(r.Reason, MaxReason))
	return seal(binary.AppendUvarint(dst, r.Seen), at, TypeRefused)
}

// ParseRefused reads the payload of a REFUSED.
func ParseRefused(b []byte) (Refused, error) {
	p := parser{b: b}
	r := Refused{Code: p.str(MaxName), Reason: p.str(MaxReason), Seen: p.uvarint()}
	return r, p.end()
}

// Offer makes a receiving socket known to a peer.
type Offer struct {
	Socket uint64 // the socket's number in its node
	Kind   Kind   // Pull, Sub or Rep
	Name   string
	Label  string // of a Sub: what tells it from other subscriptions of its node

	Durable   bool   // of a Sub: Label is the name of a durable subscription, which nodes may share
	Exclusive bool   // it does not share
	Start     Start  // where the subscription begins at a publisher that does not know it
	Seq       uint64 // of AtSeq
}

// Start is where a subscription begins.
type Start uint8

// The places where a subscription may begin, as far as the publisher still holds messages.
const (
	AtNew       Start = iota // with the next message
	AtEarliest               // with the oldest message
	AtLastValue              // with the retained message of each topic
	AtSeq                    // with Offer.Seq
)

const (
	offerDurable = 1 << iota
	offerExclusive
)

// AppendOffer appends an OFFER frame.
func AppendOffer(dst []byte, o Offer) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, o.Socket)
	dst = append(dst, byte(o.Kind))
	dst = appendStr(dst, o.Name)
	dst = appendStr(dst, o.Label)
	dst = append(dst, flag(o.Durable)*offerDurable|flag(o.Exclusive)*offerExclusive, byte(o.Start))
	if o.Start == AtSeq {
		dst = binary.AppendUvarint(dst, o.Seq)
	}
	return seal(dst, at, TypeOffer)
}

// ParseOffer reads the payload of an OFFER.
func ParseOffer(b []byte) (Offer, error) {
	p := parser{b: b}
	o := Offer{Socket: p.uvarint(), Kind: Kind(p.u8()), Name: p.str(MaxName), Label: p.str(MaxName)}
	flags := p.u8()
	o.Durable, o.Exclusive, o.Start = flags&offerDurable != 0, flags&offerExclusive != 0, Start(p.u8())
	if o.Start == AtSeq {
		o.Seq = p.uvarint()
	}
	switch {
	case p.err != nil:
	case !o.Kind.Valid() || o.Kind.Sends():
		p.fail(fmt.Errorf("%w: %v cannot be offered", ErrMalformed, o.Kind))
	case flags&^(offerDurable|offerExclusive) != 0 || o.Start > AtSeq || o.Exclusive && !o.Durable:
		p.fail(fmt.Errorf("%w: offer flags %#x, start %d", ErrMalformed, flags, o.Start))
	case o.Kind != Sub && (flags != 0 || o.Start != AtNew):
		p.fail(fmt.Errorf("%w: %v is no subscription", ErrMalformed, o.Kind))
	case o.Durable && o.Label == "":
		p.fail(fmt.Errorf("%w: durable subscription without a name", ErrMalformed))
	}
	return o, p.open()
}

// Peer is an address where a node was reached.
type Peer struct {
	Node [16]byte
	Addr string
}

// AppendPeers appends a PEERS frame. ps has at most MaxPeers entries, each address at most MaxAddr bytes.
func AppendPeers(dst []byte, ps []Peer) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, uint64(len(ps)))
	for _, q := range ps {
		dst = append(dst, q.Node[:]...)
		dst = appendStr(dst, q.Addr)
	}
	return seal(dst, at, TypePeers)
}

// ParsePeers reads the payload of a PEERS.
func ParsePeers(b []byte) ([]Peer, error) {
	p := parser{b: b}
	var ps []Peer
	for range p.count(MaxPeers, 17) {
		ps = append(ps, Peer{Node: p.id(), Addr: p.str(MaxAddr)})
		if p.err != nil {
			return nil, p.err
		}
	}
	return ps, p.end()
}

// AppendPolicy appends a POLICY frame. text is UTF-8, at most MaxPolicy bytes.
func AppendPolicy(dst []byte, text []byte) []byte {
	dst, at := open(dst)
	return seal(appendStr(dst, string(text)), at, TypePolicy)
}

// ParsePolicy reads the payload of a POLICY: the text of a signed policy, which has not been checked.
func ParsePolicy(b []byte) (string, error) {
	p := parser{b: b}
	s := p.str(MaxPolicy)
	return s, p.end()
}

// Heartbeat shows that the peer's process, not only its kernel, is there.
type Heartbeat struct {
	Number uint64
	Echo   bool // an answer: Number is the one being answered
}

// AppendHeartbeat appends a HEARTBEAT frame of at least 100 bytes.
func AppendHeartbeat(dst []byte, h Heartbeat) []byte {
	dst, at := open(dst)
	dst = binary.AppendUvarint(dst, h.Number)
	dst = append(dst, flag(h.Echo))
	for len(dst)-at < minHeartbeat+maxPrefix {
		dst = append(dst, 0)
	}
	return seal(dst, at, TypeHeartbeat)
}

// ParseHeartbeat reads the payload of a HEARTBEAT.
func ParseHeartbeat(b []byte) (Heartbeat, error) {
	p := parser{b: b}
	h := Heartbeat{Number: p.uvarint(), Echo: p.u8()&1 != 0}
	return h, p.open()
}

// AppendText appends a frame that holds a sentence: GOAWAY, DETACH or LEAVE.
func AppendText(dst []byte, t Type, reason string) []byte {
	dst, at := open(dst)
	return seal(appendStr(dst, Clip(reason, MaxReason)), at, t)
}

// ParseText reads the payload of a GOAWAY, DETACH or LEAVE.
func ParseText(b []byte) (string, error) {
	p := parser{b: b}
	s := p.str(MaxReason)
	return s, p.end()
}

// AppendEmpty appends a frame without payload: BYE.
func AppendEmpty(dst []byte, t Type) []byte { return append(dst, byte(t), 0) }

// ParseEmpty reads the payload of a BYE: there must be none.
func ParseEmpty(b []byte) error {
	p := parser{b: b}
	return p.end()
}

// AppendNumber appends a frame of one integer: WITHDRAW, RENEW, RENEWED, GRANT
// or REPLYCREDIT.
func AppendNumber(dst []byte, t Type, n uint64) []byte {
	dst, at := open(dst)
	return seal(binary.AppendUvarint(dst, n), at, t)
}

// ParseNumber reads the payload of a frame of one integer.
func ParseNumber(b []byte) (uint64, error) {
	p := parser{b: b}
	n := p.uvarint()
	return n, p.end()
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
