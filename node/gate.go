package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"peermesh/internal/identity"
	"peermesh/internal/policy"
	"peermesh/socket"
)

// gate is where the policy is asked. It knows the pipes that are up, so that a new policy cuts those that it forbids:
// none is admitted between the decision and its entry here.
type gate struct {
	self policy.Subject // set once, before the node is reachable

	mu      sync.Mutex
	policy  *policy.Policy // nil: everything is allowed
	changed chan struct{}  // closed by the next policy
	passes  map[*pass]struct{}
}

// pass is a pipe that is allowed.
type pass struct {
	peer policy.Subject
	verb socket.Kind // what the peer is
	name string
	cut  context.CancelCauseFunc
}

// enter admits a pipe to a peer who takes part in name as a verb, while this node does as the opposite one. The context
// ends with a *socket.Rejection as its cause when a later policy forbids it, see cutBy; leave must be called when the
// pipe has ended.
func (g *gate) enter(ctx context.Context, peer policy.Subject, verb socket.Kind, name string) (_ context.Context, leave func(), denied *socket.Rejection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if denied := g.judge(peer, verb, name); denied != nil {
		return ctx, func() {}, denied
	}
	ctx, cut := context.WithCancelCause(ctx)
	p := &pass{peer, verb, name, cut}
	if g.passes == nil {
		g.passes = map[*pass]struct{}{}
	}
	g.passes[p] = struct{}{}
	return ctx, func() {
		g.mu.Lock()
		delete(g.passes, p)
		g.mu.Unlock()
		cut(nil)
	}, nil
}

// cutBy is why the policy has ended what runs under a context of enter, if it has.
func cutBy(ctx context.Context) *socket.Rejection {
	var r *socket.Rejection
	if errors.As(context.Cause(ctx), &r) {
		return r
	}
	return nil
}

// judge asks for both ends, so that each of them knows what the other will say. g.mu must be held.
func (g *gate) judge(peer policy.Subject, verb socket.Kind, name string) *socket.Rejection {
	if denied := g.deny(peer, verb, name); denied != nil {
		return denied
	}
	return g.deny(g.self, verb.Opposite(), name)
}

// deny asks for one end. The rule comes first, for a long sentence is cut. g.mu must be held.
func (g *gate) deny(who policy.Subject, verb socket.Kind, name string) *socket.Rejection {
	d := g.policy.Decide(who, verb, name)
	if d.Allow {
		return nil
	}
	return &socket.Rejection{Code: identity.CodePolicy, Reason: fmt.Sprintf("%v: %s may not %v %q", d, who.Name, verb, name)}
}

// own says why this node may not take part in name, if it may not.
func (g *gate) own(verb socket.Kind, name string) *socket.Rejection {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deny(g.self, verb, name)
}

// replace puts a policy in force and cuts what it forbids. It returns the pipes that it has cut.
func (g *gate) replace(p *policy.Policy) (cut []*pass) {
	g.mu.Lock()
	g.policy = p
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
	denied := map[*pass]*socket.Rejection{}
	for pass := range g.passes {
		if r := g.judge(pass.peer, pass.verb, pass.name); r != nil {
			denied[pass] = r
		}
	}
	g.mu.Unlock()
	for pass, r := range denied {
		pass.cut(r)
		cut = append(cut, pass)
	}
	return cut
}

// current is the policy in force; nil: none.
func (g *gate) current() *policy.Policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.policy
}

// news is closed when the policy changes. Ask for it before what a new policy would answer otherwise.
func (g *gate) news() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// revoked says why a node is none of the mesh any more, if it is not: its own key is revoked, or that of the user credential
// that signed it (zero: the mesh did).
func (g *gate) revoked(id, authority ID) *identity.Refusal {
	p := g.current()
	what := fmt.Sprintf("node %v", id)
	why, revoked := p.Revoked(id)
	if !revoked && !authority.IsZero() {
		what = fmt.Sprintf("the user credential %v of node %v", authority, id)
		why, revoked = p.Revoked(authority)
	}
	if !revoked {
		return nil
	}
	r := &identity.Refusal{Code: identity.CodePolicy, Reason: fmt.Sprintf("%s is revoked by policy version %d", what, p.Version())}
	if why != "" {
		r.Reason += ": " + why
	}
	return r
}
