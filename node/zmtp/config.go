package zmtp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"peermesh/node"
	"peermesh/patterns"
)

// Type is the type of a ZeroMQ socket.
type Type string

// The types that an endpoint may have. See the package for what each does.
const (
	PUSH   Type = "PUSH"
	PULL   Type = "PULL"
	PUB    Type = "PUB"
	SUB    Type = "SUB"
	XPUB   Type = "XPUB"
	XSUB   Type = "XSUB"
	REQ    Type = "REQ"
	REP    Type = "REP"
	DEALER Type = "DEALER"
	ROUTER Type = "ROUTER"
)

// peersOf says which types may be at the other end, see RFC 37 "The Socket-Type Property".
var peersOf = map[Type][]Type{
	PUSH: {PULL}, PULL: {PUSH},
	PUB: {SUB, XSUB}, XPUB: {SUB, XSUB},
	SUB: {PUB, XPUB}, XSUB: {PUB, XPUB},
	REQ: {REP, ROUTER}, REP: {REQ, DEALER},
	DEALER: {REP, DEALER, ROUTER}, ROUTER: {REQ, DEALER, ROUTER},
}

// Profile says what counts more where the RFCs of ZeroMQ and the promises of the mesh differ.
type Profile uint8

const (
	// Durable keeps the promises of the mesh: what a peer has not read is not given up when it leaves. The deviations
	// from RFC 28, 29 and 30 are listed in docs/ZEROMQ.md.
	Durable Profile = iota
	// Classic is as RFC 28, 29 and 30 say: a message is handled once it stands in a peer's queue, and that goes with
	// the peer.
	Classic
)

// String is the profile's name.
func (p Profile) String() string {
	if p == Classic {
		return "classic"
	}
	return "durable"
}

// Defaults of an Endpoint.
const (
	DefaultQueue            = 4000 // less than libzmq has under way by default: a thousand at each end, and what the network takes
	DefaultQueueBytes       = 4 << 20
	DefaultMaxParts         = 1024
	DefaultMaxPeers         = 1000
	DefaultHandshakeTimeout = 2 * time.Second
	DefaultHandshakeRate    = 200
	DefaultHeartbeat        = 5 * time.Second
	DefaultHeartbeatTimeout = 15 * time.Second
	DefaultTimeout          = patterns.DefaultDeadline
)

// maxHandshakeRate is what a ticker can do.
const maxHandshakeRate = 1_000_000

// maxFrames is what the frames of a message may add to its parts in a body.
func maxFrames(parts int) int { return len(magic) + parts*maxHead }

// Endpoint is one ZeroMQ socket of a bridge. It binds or connects, speaks to any number of peers, and is joined to one
// name of the mesh.
type Endpoint struct {
	// Bind and Connect say where: "tcp://127.0.0.1:5555", "ipc:///run/jobs.sock"; several are separated by commas.
	// Binding to port 0 takes a free one, see Bridge.Addr. A bound ipc socket belongs to the user alone (0600).
	Bind, Connect string
	// Public allows an address that is not of this machine: NULL, the only mechanism there is, neither asks who a peer
	// is nor encrypts.
	Public bool

	Type    Type
	Name    string // of the queue, channel or service
	Profile Profile

	// Options are those of the mesh socket. SUB and XSUB begin with patterns.Durability(socket.Memory).
	Options []patterns.Option
	// Topics are the prefixes that SUB and XSUB subscribe to at their peers; none: everything. An XSUB with an Upstream
	// and no Topics begins with nothing.
	Topics []string
	// Upstream is the queue for what goes against the stream: XPUB pushes there what its peers send, their
	// subscriptions included (a byte 1, or 0 for the end of one, and the prefix); XSUB pulls from there what it does,
	// or sends to its peers. Without it that is dropped, and counted.
	Upstream string
	// Identity is told to peers; at most 255 bytes, not beginning with a zero.
	Identity string
	// Concurrency is how many requests REP (of profile Durable), ROUTER and DEALER have under way; default 64. REQ has
	// one.
	Concurrency int
	// Timeout ends a request of a REP's or ROUTER's peer; default 30 s.
	Timeout time.Duration
	// ErrorReply makes the answer that a REP's or ROUTER's peer gets when its request failed, from what Req.Request
	// returned; nil: none, which is counted (request-failed). It may be called concurrently.
	ErrorReply func(error) [][]byte

	Queue      int // messages that wait for a peer or are owed by it, and that wait from one, each; default 4000
	QueueBytes int // of their bodies; default 4 MiB; one message always fits
	MaxMessage int // bytes in all parts of a message; default node.DefaultMaxMessage less what Join adds
	MaxParts   int // default 1024
	MaxPeers   int // at a time, those in their handshake included; default 1000. More wait, as in a full backlog

	HandshakeTimeout time.Duration // default 2 s
	HandshakeRate    int           // a second; default 200. More wait
	Heartbeat        time.Duration // between PINGs to a quiet peer; default 5 s, negative: none
	HeartbeatTimeout time.Duration // a peer that owes nothing but a PONG and is silent for so long is gone; default 15 s
	// OwedTimeout is the same for a peer that has messages to read: what it is owed goes elsewhere. Default none, for it
	// may just be slow; then TCP decides, and takes a quarter of an hour over a machine that has vanished.
	OwedTimeout time.Duration
}

// Config describes a bridge.
type Config struct {
	Endpoints []Endpoint
	Logger    *slog.Logger // nil: none
}

// addresses are those of a list.
func addresses(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// address takes "tcp://..." or "ipc://..." apart.
func address(text string) (network, addr string, err error) {
	switch scheme, rest, _ := strings.Cut(text, "://"); {
	case rest == "":
	case scheme == "tcp":
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			return "", "", err
		}
		if host == "*" {
			host = ""
		}
		if port == "*" {
			port = "0"
		}
		return "tcp", net.JoinHostPort(host, port), nil
	case scheme == "ipc":
		return "unix", rest, nil
	}
	return "", "", fmt.Errorf("%q is neither tcp://HOST:PORT nor ipc://PATH", text)
}

// local reports whether an address is of this machine for certain.
func local(network, addr string) bool {
	if network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Check says what New would refuse of an endpoint whatever the node, the addresses and the Options are.
func (e Endpoint) Check() error {
	_, err := e.settle()
	return err
}

// settle fills in the defaults and holds e to the rules.
func (e Endpoint) settle() (Endpoint, error) {
	where := strings.Trim(e.Bind+","+e.Connect, ",")
	if where == "" {
		return e, errors.New("zmtp: an endpoint binds or connects to an address, or both")
	}
	for _, at := range addresses(where) {
		network, addr, err := address(at)
		if err != nil {
			return e, fmt.Errorf("zmtp: %w", err)
		}
		if !e.Public && !local(network, addr) {
			return e, fmt.Errorf("zmtp: %s is not of this machine alone, and nobody would be asked who he is: say Public if it may be", at)
		}
	}
	switch {
	case peersOf[e.Type] == nil:
		return e, fmt.Errorf("zmtp: %s: no type %q", where, e.Type)
	case len(e.Identity) > maxIdentity || strings.HasPrefix(e.Identity, "\x00"):
		return e, fmt.Errorf("zmtp: %s: identity %q: at most %d bytes, and no zero first", where, e.Identity, maxIdentity)
	case e.Topics != nil && e.Type != SUB && e.Type != XSUB:
		return e, fmt.Errorf("zmtp: %s: topics are for SUB and XSUB", where)
	case e.Upstream != "" && e.Type != XPUB && e.Type != XSUB:
		return e, fmt.Errorf("zmtp: %s: an upstream is for XPUB and XSUB", where)
	case e.ErrorReply != nil && e.Type != REP && e.Type != ROUTER:
		return e, fmt.Errorf("zmtp: %s: an error reply is for REP and ROUTER", where)
	}
	for _, d := range []struct {
		field *int
		value int
	}{
		{&e.Queue, DefaultQueue}, {&e.QueueBytes, DefaultQueueBytes}, {&e.MaxParts, DefaultMaxParts},
		{&e.MaxPeers, DefaultMaxPeers}, {&e.HandshakeRate, DefaultHandshakeRate}, {&e.Concurrency, patterns.DefaultConcurrency},
	} {
		if *d.field < 0 {
			return e, fmt.Errorf("zmtp: %s: a bound of %d", where, *d.field)
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if e.MaxMessage == 0 {
		e.MaxMessage = node.DefaultMaxMessage - maxFrames(e.MaxParts)
	}
	switch {
	case e.HandshakeRate > maxHandshakeRate:
		return e, fmt.Errorf("zmtp: %s: %d handshakes a second, at most %d", where, e.HandshakeRate, maxHandshakeRate)
	case e.MaxMessage <= 0:
		return e, fmt.Errorf("zmtp: %s: messages of %d bytes in %d parts", where, e.MaxMessage, e.MaxParts)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&e.HandshakeTimeout, DefaultHandshakeTimeout}, {&e.Heartbeat, DefaultHeartbeat},
		{&e.HeartbeatTimeout, DefaultHeartbeatTimeout}, {&e.Timeout, DefaultTimeout},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	e.Topics = slices.Clone(e.Topics)
	if e.Topics == nil && e.Upstream == "" && (e.Type == SUB || e.Type == XSUB) {
		e.Topics = []string{""}
	}
	return e, nil
}
