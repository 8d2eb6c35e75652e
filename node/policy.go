package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"peermesh/internal/enroll"
	"peermesh/internal/identity"
	"peermesh/internal/policy"
	"peermesh/internal/wire"
	"peermesh/socket"
)

var (
	// ErrDenied is a socket that the policy forbids this node to open; the text names the rule.
	ErrDenied = errors.New("node: denied by the policy")
	// ErrPolicy is a policy that is not taken: it cannot be read, this mesh has not signed it, or it is older than the
	// one in force.
	ErrPolicy = errors.New("node: policy not taken")
)

const (
	// policyPoll is how often the policy file is looked at.
	policyPoll = 2 * time.Second
	// policyCopy is the newest policy known, in the state directory.
	policyCopy = "mesh.policy"
)

// Policy is the policy in force.
type Policy struct {
	Version uint64 // it only rises; 0: there is no policy, and everything is allowed
	Rules   int
	Revoked int
	Text    []byte // as it was signed; must not be changed
}

// Policy tells the policy in force. It does not block.
func (n *Node) Policy() Policy {
	p := n.gate.current()
	if p == nil {
		return Policy{}
	}
	return Policy{Version: p.Version(), Rules: p.Rules(), Revoked: p.RevokedNodes(), Text: p.Text()}
}

// ReloadPolicy reads the policy file now, instead of within two seconds after it was changed. When it returns nil the
// policy of the file is in force: pipes that it forbids are being cut, with the rule as the reason at both ends, and
// their messages stay where they are; links to nodes that it revokes end; peers that have an older one are sent it.
// After an error, which matches ErrPolicy, the policy is what it was. Without a file it does nothing.
func (n *Node) ReloadPolicy() error {
	if n.policyFile == "" {
		return nil
	}
	p, err := policy.Read(n.policyFile, n.authority)
	if errors.Is(err, fs.ErrNotExist) && n.cfg.Policy == "" {
		return nil // there need not be one
	}
	if err == nil {
		err = n.adopt(p)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return nil
}

// errOtherText: nodes could not agree which of two policies of one version is in force.
var errOtherText = errors.New("another policy of that version is in force: apply it again, with a higher one")

// adopt puts a policy in force that this mesh has signed, if it is newer. What is in force already is no error.
func (n *Node) adopt(p *policy.Policy) error {
	n.adopting.Lock()
	defer n.adopting.Unlock()
	now := n.gate.current()
	switch {
	case p.Version() < now.Version():
		return fmt.Errorf("version %d: %w, version %d", p.Version(), policy.ErrOlder, now.Version())
	case p.Version() == now.Version() && bytes.Equal(p.Text(), now.Text()):
		return nil
	case p.Version() == now.Version():
		return fmt.Errorf("version %d: %w", p.Version(), errOtherText)
	}
	if n.cfg.Dir != "" {
		if err := p.Write(filepath.Join(n.cfg.Dir, policyCopy)); err != nil {
			n.log.Error("the new policy is in force, but not remembered", "version", p.Version(), "err", err)
		}
	}
	n.enforce(p)
	return nil
}

// enforce lets a policy hold from now on.
func (n *Node) enforce(p *policy.Policy) {
	cut := n.gate.replace(p)
	n.log.Info("policy in force", "version", p.Version(), "rules", p.Rules(), "revoked", p.RevokedNodes())
	if r := n.gate.revoked(n.ID(), n.user); r != nil {
		n.log.Error("this node is revoked: nobody of its mesh will have it", "reason", r.Reason)
	}
	n.mu.Lock()
	for id, l := range n.links {
		l.sendPolicy(p)
		if r := n.gate.revoked(id, l.ident.Authority); r != nil {
			n.hub.emit(l.event(Refused, r.Code, r.Reason))
			l.cancel(r)
		}
	}
	n.mu.Unlock()
	// What was not begun of theirs is not begun any more. The other end may have had the policy first: then the pipe is
	// gone already.
	receivers, _ := n.openSockets()
	for _, r := range receivers {
		r.LetGo(func(sender ID) bool {
			return slices.ContainsFunc(cut, func(p *pass) bool {
				return p.peer.ID == sender && p.verb == r.Kind().Opposite() && p.name == r.Name()
			})
		})
	}
}

// loadPolicy finds the newest policy that is on disk here. A file that is there and no good is an error: without it
// more would be allowed than somebody meant.
func (n *Node) loadPolicy(mesh *identity.Mesh, credential string) error {
	n.authority = mesh.Public()
	if u, joined := mesh.User(); joined {
		n.user = u.ID
	} else {
		n.renewer = &enroll.Renewer{Mesh: mesh, Now: time.Now,
			Revoked: func(id ID) (string, bool) { return n.gate.current().Revoked(id) }}
	}
	claims := n.creds.Claims()
	n.gate.self = policy.Subject{ID: n.ID(), Name: claims.Name, Namespace: claims.Namespace, Roles: claims.Roles}
	n.policyFile = n.cfg.Policy
	if n.policyFile == "" && credential != "" {
		n.policyFile = policy.Beside(credential)
	}
	if n.cfg.Dir != "" {
		switch kept, err := policy.Read(filepath.Join(n.cfg.Dir, policyCopy), n.authority); {
		case err == nil:
			n.enforce(kept)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %w", ErrPolicy, err)
		}
	}
	err := n.ReloadPolicy()
	if errors.Is(err, policy.ErrOlder) || errors.Is(err, errOtherText) {
		n.log.Error("policy file", "err", err) // a newer one came from a peer: that one holds
		return nil
	}
	return err
}

// watchPolicy reloads the policy file when it has changed, until the node closes.
func (n *Node) watchPolicy() {
	tick := time.NewTicker(policyPoll)
	defer tick.Stop()
	var last os.FileInfo // nil: reading it once more than needed does no harm
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		info, err := os.Stat(n.policyFile)
		if err != nil || sameFile(last, info) {
			continue // a policy that was removed stays in force
		}
		last = info
		if err := n.ReloadPolicy(); err != nil {
			n.log.Error("policy file", "err", err)
		}
	}
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// announced is what HELLO says of a policy.
func announced(p *policy.Policy) uint64 { return p.Version() + 1 }

// sendPolicy sends a peer a policy that is newer than what it has, if it understands the frame.
func (l *link) sendPolicy(p *policy.Policy) {
	l.mu.Lock()
	behind := l.hello.Policy > 0 && p.Version() > l.has
	if behind {
		l.has = p.Version()
	}
	l.mu.Unlock()
	if behind {
		l.send(wire.AppendPolicy(nil, p.Text()))
	}
}

// policyCame: a peer has a newer policy, or says so. What this node cannot use changes nothing; it may be of a later
// version of the language.
func (l *link) policyCame(text string) {
	p, err := policy.Parse([]byte(text))
	if err == nil && p.Version() <= l.n.gate.current().Version() {
		return // overtaken by another's; the signature is not worth its price
	}
	if err == nil {
		err = p.Verify(l.n.authority)
	}
	if err != nil {
		if l.told.take() {
			l.n.log.Warn("policy of a peer not taken", "peer", l.peer.ID, "name", l.peer.Name, "err", clean(err.Error()))
		}
		return
	}
	l.mu.Lock()
	l.has = max(l.has, p.Version())
	l.mu.Unlock()
	if err := l.n.adopt(p); err != nil {
		l.n.log.Debug("policy of a peer not taken", "peer", l.peer.ID, "err", err)
	}
}

// permit decides on a pipe to a peer, or between two sockets of this node, by the policy and then by the service's own
// check. For the context and leave see gate.enter.
func (n *Node) permit(ctx context.Context, who *link, verb socket.Kind, name string) (_ context.Context, leave func(), denied *socket.Rejection) {
	peer := n.gate.self
	if who != nil {
		peer = policy.Subject{ID: who.ident.ID, Name: who.ident.Name, Namespace: who.ident.Namespace, Roles: who.ident.Roles}
	}
	ctx, leave, denied = n.gate.enter(ctx, peer, verb, name)
	if denied == nil {
		if denied = n.authorize(ctx, who, verb, name); denied != nil {
			leave()
		}
	}
	return ctx, leave, denied
}

// mayOpen is an error if the policy forbids this node a socket.
func (n *Node) mayOpen(kind socket.Kind, name string) error {
	if denied := n.gate.own(kind, name); denied != nil {
		return fmt.Errorf("%w: %s", ErrDenied, denied.Reason)
	}
	return nil
}
