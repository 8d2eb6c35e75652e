package socket

import (
	"errors"
	"fmt"
	"net"

	"peermesh/internal/identity"
)

var (
	// ErrClosed is returned by everything on a closed socket; it matches net.ErrClosed.
	ErrClosed = fmt.Errorf("socket: %w", net.ErrClosed)
	// ErrTooLarge is a message above a limit. It was not accepted and used up no seq.
	ErrTooLarge = errors.New("socket: message too large")
	// ErrQueueFull is a Send refused by the Refuse policy. It used up no seq.
	ErrQueueFull = errors.New("socket: queue full")
	// ErrNotDurable is a demand for what only level durable has, at another level.
	ErrNotDurable = errors.New("socket: not at level durable")
	// ErrNoDir is a demand for level durable on a node without a state directory.
	ErrNoDir = errors.New("socket: level durable needs a node with a state directory (Config.Dir, --dir)")
	// ErrUnknown is a durable Send whose wait for the disk was cut short: the message may
	// be kept and sent, or not.
	ErrUnknown = errors.New("socket: outcome unknown")
	// ErrStorage is a socket that has stopped because the node's state directory can no
	// longer be written.
	ErrStorage = errors.New("socket: the state directory failed")
	// ErrShutdown is what Shutdown returns when messages had to be given up.
	ErrShutdown = errors.New("socket: messages given up at shutdown")
)

// Rejection is the other end's refusal of a pipe.
type Rejection struct {
	Code   identity.Code
	Reason string
	Remote bool // the other side refused; otherwise this one did
}

func (r *Rejection) Error() string {
	side := "here"
	if r.Remote {
		side = "by the other side"
	}
	return fmt.Sprintf("refused %s (%s): %s", side, r.Code, r.Reason)
}

// Codes of a Rejection beyond identity's.
const (
	CodeNoSocket identity.Code = "no-socket" // the socket is closed or was never there
	CodeLimit    identity.Code = "limit"
	CodeNoDir    identity.Code = "no-dir" // a replier without a state directory was asked for once-durable

	CodeTaken      identity.Code = "taken"       // a durable subscription that another node has exclusively, or does not share
	CodeNotDurable identity.Code = "not-durable" // a durable subscription to a publisher that keeps nothing
)

// errStale ends a pipe whose leases ran out: the next ATTACH compares anew.
var errStale = errors.New("lease ran out: no RENEW arrived in time")

// ErrHandlerTimeout is the cause of a handler's context when HandlerTimeout has
// passed; the message was given back.
var ErrHandlerTimeout = errors.New("socket: handler timeout")

// ErrRevoked is the cause of a handler's context when the sender no longer wants
// the message handled: a request was cancelled, or somebody else has done it.
var ErrRevoked = errors.New("socket: revoked by the sender")
