package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"slices"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// ID is a node's id: the first 16 bytes of the SHA-256 of its public key, shown in
// lower-case base32.
type ID = identity.ID

// Defaults of Config.
const (
	DefaultNamespace        = "default"
	DefaultListen           = ":0"
	DefaultMaxMessage       = 8 << 20
	DefaultLargeBudget      = 64 << 20
	DefaultHandshakeTimeout = 2 * time.Second

	maxPoll = 10 * time.Millisecond
)

// Config says who a node is and where it looks for others. The zero value works: an
// ephemeral node of the user's default mesh that finds its peers by mDNS.
type Config struct {
	Name      string // a label, may repeat; default: host name and process id
	Namespace string // a world of its own within the mesh; default "default"

	// Roles are what rules of the policy may speak of, at most 16; the node's certificate carries them.
	Roles []string

	// Dir is the state directory: identity and incarnation survive in it, and seqs are
	// never used twice. Empty: an ephemeral node with a new identity.
	Dir string

	// SpoolKeyFile names the file with the key that encrypts what is kept in Dir to be delivered;
	// see spool.ReadKeyFile for how it is made, and package spool for what it protects. Empty: not
	// encrypted. It is settled by the first Open of a Dir. The node's own key, node.key, is not
	// encrypted by it.
	SpoolKeyFile string

	// Quota bounds the bytes of messages that wait in Dir; at it a durable Send is
	// spool.ErrSpoolFull at once, and a Push at level Memory has the room that its queue has. 0: only what the file system must keep free bounds them.
	Quota int64

	// SpoolProfile sizes the spool in Dir for the machine; default: a small one on a small machine or file system.
	SpoolProfile spool.Profile

	// Mesh is the path of a mesh credential; empty: the user's default mesh, made on
	// first use. MeshPEM is the credential itself and wins.
	Mesh    string
	MeshPEM []byte

	// Policy is the path of a policy that the mesh has signed: who may push, pull, publish, subscribe, ask and answer
	// under which name, and who has been revoked; docs/POLICY.md tells its language. Open fails if it is not there or no
	// good. Empty: the file beside Mesh (blue.policy for blue.pem), if there is one. The file is looked at every two
	// seconds, see ReloadPolicy. Peers tell each other of newer ones; the newest is kept in Dir, and an older one is
	// not taken again. Without any policy every node of the mesh may do everything.
	Policy string

	Listen              string   // UDP address; default ":0"
	Peers               []string // static peers, host:port
	NoMDNS              bool
	NoHearsay           bool     // dial nobody of whom only a peer tells: without it all nodes of a namespace link to each other
	MDNSAllow, MDNSDeny []string // globs on interface names; see discovery.MDNSConfig

	// UDPOnly has messages to and from nodes on this host travel like all others; otherwise they go through a Unix
	// socket, where the system has them (Linux): faster, and not encrypted, since they do not leave the kernel.
	UDPOnly bool

	// Stripes is over how many connections, each with a UDP socket of its own at the sender's, what goes to a peer that
	// sends much is spread, 2 to 4, if the peer's Stripes allows as many: one is limited by one core's work on its
	// packets. Order stays. It takes a second of work at the limit to begin, and ends when little is sent. Not for peers
	// on this host that are met at a Unix socket. 0: nothing is spread.
	Stripes int

	// Poll is for how long a node that has just read something looks for more before it sleeps, at most 10 ms: round
	// trips get shorter, for CPU time. Linux. Default: not at all.
	Poll time.Duration

	MaxMessage       int           // bytes of a body; default 8 MiB, at most 64 MiB
	LargeBudget      int           // bytes of messages over 256 KiB in hand; default 64 MiB
	HandshakeTimeout time.Duration // default 2 s; raise it for slow links

	// Authorize is the service's own check. It is asked before every pipe that the policy
	// allows, at both ends; nil allows what the policy does. A new policy does not ask it
	// again for pipes that are up. It must not block for long; an error denies, and its
	// text is told to the other side.
	Authorize func(ctx context.Context, a Access) error

	// Private: the node does not tell its peers what it sees, nor its log. Otherwise nodes of its
	// own namespace may ask for what peermesh status, sockets, why and logs show: names, counts,
	// addresses and errors, never messages.
	Private bool

	Logger *slog.Logger // nil: none

	// PacketConn takes the place of a UDP socket on Listen, for simulated networks. The
	// node closes it, also when Open fails.
	PacketConn net.PacketConn
}

// Access is what a peer wants: to take part in Name as a Verb.
type Access struct {
	Peer     ID
	PeerName string
	Roles    []string
	Verb     socket.Kind // what the peer is: push, pull, pub, sub, req or rep
	Name     string
}

// complete fills in the defaults and checks the rest.
func (c Config) complete() (Config, error) {
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "node"
		}
		c.Name = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = DefaultMaxMessage
	}
	if c.LargeBudget == 0 {
		c.LargeBudget = max(DefaultLargeBudget, 2*c.MaxMessage)
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.SpoolKeyFile != "" && c.Dir == "":
		return c, fmt.Errorf("node: SpoolKeyFile %q without a Dir: %w", c.SpoolKeyFile, socket.ErrNoDir)
	case c.MaxMessage < 1 || c.MaxMessage > maxMaxMessage:
		return c, fmt.Errorf("node: MaxMessage of %d bytes: 1 to %d", c.MaxMessage, maxMaxMessage)
	case c.LargeBudget < c.MaxMessage+largeOverhead:
		return c, fmt.Errorf("node: LargeBudget of %d bytes cannot hold one message of %d", c.LargeBudget, c.MaxMessage)
	case c.Quota < 0:
		return c, fmt.Errorf("node: Quota of %d bytes", c.Quota)
	case c.Stripes < 0 || c.Stripes == 1 || c.Stripes > wire.MaxStripes:
		return c, fmt.Errorf("node: Stripes of %d: 2 to %d, or 0", c.Stripes, wire.MaxStripes)
	case c.Poll < 0 || c.Poll > maxPoll:
		return c, fmt.Errorf("node: Poll of %v: 0 to %v", c.Poll, maxPoll)
	case c.HandshakeTimeout < 0:
		return c, fmt.Errorf("node: HandshakeTimeout of %v", c.HandshakeTimeout)
	}
	for _, glob := range slices.Concat(c.MDNSAllow, c.MDNSDeny) {
		if _, err := path.Match(glob, ""); err != nil {
			return c, fmt.Errorf("node: interface glob %q: %w", glob, err)
		}
	}
	return c, nil
}
