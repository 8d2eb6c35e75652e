package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"peermesh/discovery"
	"peermesh/internal/identity"
	"peermesh/node"
)

// refusedFor is how long every known address must have refused a sender before it
// gives up.
const refusedFor = 5 * time.Second

// maxRefusals bounds the addresses remembered: strangers choose how many there are.
const maxRefusals = 1 << 13

// final are the refusals that waiting does not cure.
var final = []identity.Code{identity.CodeMesh, identity.CodeCertificate, identity.CodeExpired, identity.CodeIdentity,
	identity.CodePolicy, identity.CodeDuplicate}

// refusals remembers which addresses refused this node for what it is. Safe for
// concurrent use; the zero value is ready.
type refusals struct {
	mu     sync.Mutex
	byAddr map[string]refused
}

type refused struct {
	since  time.Time // the first time
	last   time.Time
	code   identity.Code
	reason string
}

// note takes what happened to a peer.
func (r *refusals) note(e node.PeerEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case e.State == node.Up:
		delete(r.byAddr, e.Addr)
	case e.State == node.Refused && slices.Contains(final, e.Code):
		old, known := r.byAddr[e.Addr]
		if !known && len(r.byAddr) == maxRefusals {
			return
		}
		if !known {
			old.since = e.Time
		}
		if r.byAddr == nil {
			r.byAddr = map[string]refused{}
		}
		r.byAddr[e.Addr] = refused{old.since, e.Time, e.Code, e.Reason}
	}
}

// verdict is an error if every address known has refused this node for refusedFor.
// An address that only advertised another mesh was never asked, so it does not count.
func (r *refusals) verdict(known []node.Candidate, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]refused{}
	for _, c := range known {
		asked, ok := r.byAddr[c.Addr]
		switch {
		case ok && asked.lasts(now):
			all[c.Addr] = asked
		case !ok && c.Source == discovery.SourceMDNS && c.Code == identity.CodeMesh:
		default:
			return nil
		}
	}
	if len(all) == 0 {
		return nil
	}
	addr := slices.Min(slices.Collect(maps.Keys(all)))
	return &refusedError{len(all), addr, all[addr]}
}

// lasts reports whether an address has refused for refusedFor and still does. A pipe that the policy denies is tried
// again while the link is up, so there it takes a second refusal: the policy may have changed since the first.
func (r refused) lasts(now time.Time) bool {
	if r.code == identity.CodePolicy {
		return r.last.Sub(r.since) >= refusedFor && now.Sub(r.last) < 2*refusedFor
	}
	return now.Sub(r.since) >= refusedFor
}

// refusedError is the end of a sender that nobody will have.
type refusedError struct {
	addresses int
	addr      string
	one       refused
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("refused by all %d known addresses; %s (%s): %s", e.addresses, e.addr, e.one.code, oneLine(e.one.reason))
}
